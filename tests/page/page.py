"""The page of taskwatchd in a browser: what people see is what the log says, whatever happens to the connection.

    page.py TASKWATCHD TASKWATCH CHROMIUM AXE [--write]

With --write the pictures of the documentation are made anew.
"""

import base64
import http.server
import json
import pathlib
import random
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/interop"))

from browser import Proxy
from daemon import Daemon, Rest, await_, end_all, spawn, write
from devtools import Browser, Page

CHANGES, CUTS = 1_000, 20
# What the board shows, by task.
BOARD = """Object.fromEntries([...document.querySelectorAll("#board section")].flatMap((column) =>
  [...column.querySelectorAll(".card")].map((card) =>
    [card.dataset.id, [column.querySelector("h2").firstChild.textContent.trim().replace(" ", "_"), card.querySelector("b").textContent]])))"""
IS_LIVE = """document.querySelector("#connection strong").textContent === "live" """


def has(title: str, status: str) -> str:
    """Whether the board shows this task there."""
    return f"Object.values({BOARD}).some(([status, title]) => status === {json.dumps(status)} && title === {json.dumps(title)})"


def live(browser: Browser, url: str, **media: str) -> Page:
    page = browser.page(url, **media)
    page.until("a page that is live", IS_LIVE)
    return page


def only(page: Page, pattern: str) -> None:
    """Filters the board."""
    page.run(f"document.querySelector('#patterns').value = {json.dumps(pattern)}")
    page.run("document.querySelector('#patterns').dispatchEvent(new Event('input', { bubbles: true }))")


def fill(page: Page, **fields: str) -> None:
    """Fills the dialog in, and saves."""
    page.until("the dialog", "document.querySelector('#task').open")
    for name, value in fields.items():
        page.run(f"document.querySelector('#task form').elements[{json.dumps(name)}].value = {json.dumps(value)}")
    page.run("document.querySelector('#task form').requestSubmit()")
    page.until("an answer", "!document.querySelector('#task').open")


def tasks(daemon: Daemon, prefix: str) -> dict:
    """What the API lists, in the form of BOARD."""
    listed, path = {}, f"/api/v1/tasks?repository={prefix}&limit=500"
    while path:
        answer = json.loads(Rest(daemon.port).ask("GET", path)[1])
        listed |= {task["id"]: [task["status"], task["title"]] for task in answer["tasks"]}
        path = answer.get("next") and f"/api/v1/tasks?repository={prefix}&limit=500&page={answer['next']}"
    return listed


def together(browser: Browser, daemon: Daemon, taskwatch: str, scratch: pathlib.Path) -> str:
    """Two pages and a watcher see what each of them, and the API, does."""
    printed, said = scratch / "printed", scratch / "said"
    watcher = [taskwatch, "--url", daemon.url, "--repo", "pages", "-o", "json", "--count", "5"]
    watching = spawn(watcher, stdout=printed.open("w"), stderr=said.open("w"))
    await_("a watcher", lambda: "connected to" in said.read_text())
    one, other = live(browser, daemon.url), live(browser, daemon.url)
    one.run("document.querySelector('#new').click()")
    fill(one, repository="pages", title="Made in the first page")
    for page in (one, other):
        page.until("what the first page made", has("Made in the first page", "pending"))
    other.run("document.querySelector('.card').click()")
    fill(other, title="Changed in the second", status="completed")
    for page in (one, other):
        page.until("what the second page changed", has("Changed in the second", "completed"))
    api = Rest(daemon.port)
    made = api.create({"repository": "pages", "title": "Made elsewhere"})[0]
    for page in (one, other):
        page.until("what was made elsewhere", has("Made elsewhere", "pending"))
    api.update(made, {"status": "cancelled"})
    api.delete(made)
    for page in (one, other):
        page.until("what was deleted", f"!({has('Made elsewhere', 'pending')}) && !({has('Made elsewhere', 'cancelled')})")
    if watching.wait(60) != 0:
        raise SystemExit(f"the watcher ended with {watching.returncode}: {said.read_text()}")
    if printed.read_text().splitlines() != daemon.log("pages"):
        raise SystemExit(f"the watcher printed {printed.read_text()}")
    one.close()
    other.close()
    return "two pages and a watcher saw each other's 5 changes"


def killed(browser: Browser, daemon: Daemon) -> str:
    """The server is killed and started again; the page is complete, and is not loaded again."""
    page = live(browser, daemon.url)
    page.run("globalThis.isTheSame = true")
    api = Rest(daemon.port)
    staying = api.create({"repository": "killed", "title": "Before"})[0]
    page.until("a task", has("Before", "pending"))
    daemon.kill()
    page.until("a page that says so", f"!({IS_LIVE})")
    daemon.start()
    # The page may come back before this, between these, or after them.
    api = Rest(daemon.port)
    for number in range(20):
        api.create({"repository": "killed", "title": f"After {number}"})
    api.update(staying, {"status": "completed"})
    page.until("the last change", has("Before", "completed"))
    page.until("a page that is live", IS_LIVE)
    shown, wanted = page.run(BOARD), tasks(daemon, "*")
    if shown != wanted:
        raise SystemExit(f"after the kill the page shows {shown}, and not {wanted}")
    if not page.run("globalThis.isTheSame"):
        raise SystemExit("the page was loaded again")
    page.close()
    return "killed and started again, the page was complete without a reload"


# A stream in the page, of the same module as the page's own.
FOLLOW = """(async () => {
  const { subscribe } = await import("/taskwatch.js");
  globalThis.events = [];
  globalThis.news = [];
  const stream = subscribe(["cuts/*"]);
  await new Promise((begun) => (async () => {
    for await (const update of stream) {
      if (update.type === "connected") begun();
      update.type === "event" ? events.push(update.event) : news.push(update.type);
    }
  })());
})()"""


def cut(browser: Browser, daemon: Daemon, dice: random.Random) -> str:
    """The sockets are cut at random; the page's list is the log, and no event comes twice."""
    proxy = Proxy(daemon.port)
    page = live(browser, f"http://127.0.0.1:{proxy.port}/")
    only(page, "cuts/*")
    page.run(FOLLOW)
    api = [Rest(daemon.port) for _ in range(2)]
    writers = [
        threading.Thread(target=write, args=(it, f"cuts/{n}", CHANGES // 2, 0.02, random.Random(dice.random())), daemon=True)
        for n, it in enumerate(api)
    ]
    begin = time.monotonic()
    for writer in writers:
        writer.start()
    for _ in range(CUTS):
        # Before a part of what is to come has come; sometimes amid coming back.
        goal = page.run("events.length") + dice.randrange(CHANGES // CUTS)
        await_("events in the page", lambda: page.run("events.length") >= min(goal, CHANGES) or not writers_live(writers))
        time.sleep(dice.uniform(0, 0.05))
        proxy.cut()
        if dice.random() < 0.8:
            # As when the network is back; otherwise waits would grow to half a minute.
            page.until("word of the cut", "news.at(-1) === 'interrupted'")
            page.until("a connection", "dispatchEvent(new Event('online')) && news.at(-1) !== 'interrupted'")
    for writer in writers:
        writer.join(60)
    page.run("dispatchEvent(new Event('online'))")
    log = [json.loads(event) for event in daemon.log("cuts/")]
    page.until("all events", f"events.length >= {len(log)}")
    read = page.run("events")
    if read != log:
        first = next(n for n, pair in enumerate(zip(read, log)) if pair[0] != pair[1])
        raise SystemExit(f"the page has {len(read)} events and the log {len(log)}; they differ at {first}")
    links = page.run("news.filter((it) => it === 'connected').length")
    if links < CUTS // 2:
        raise SystemExit(f"it was hardly cut: {links} connections")
    page.until("a page that is live", IS_LIVE)
    # The board shows the first 50 of a column, and more if asked.
    more = "[...document.querySelectorAll('#board section > button:not([hidden])')].forEach((it) => it.click())"
    wanted = tasks(daemon, "cuts/*")
    shown = {}

    def is_level() -> bool:
        nonlocal shown
        shown = page.run(f"({more}, {BOARD})")
        return shown == wanted

    try:
        await_("the board", is_level)
    except SystemExit:
        differ = [(shown.get(task), wanted.get(task)) for task in shown | wanted if shown.get(task) != wanted.get(task)]
        raise SystemExit(f"the board is not what the API lists: {differ[:5]} and {len(differ)} in all") from None
    page.close()
    took = time.monotonic() - begin
    return f"{len(log)} events were the log, once and in order, over {CUTS} cuts ({links} connections), in {took:.1f} s"


def writers_live(writers: list[threading.Thread]) -> bool:
    return any(writer.is_alive() for writer in writers)


# What a page tries against a server; each line ends as a word.
TRIES = """(async (server) => {
  const word = (promise) => Promise.race([promise, new Promise((end) => setTimeout(end, 8000, "nothing"))]);
  const socket = new WebSocket(server.replace("http", "ws") + "/ws?repo=*", "taskwatch.v1");
  const events = new EventSource(server + "/api/v1/events?repository=*");
  const read = (path, how) => fetch(server + path, how).then(async (it) => (await it.text()).slice(0, 20) || it.type, () => "refused");
  return Promise.all([
    word(new Promise((end) => { socket.onmessage = ({ data }) => end(data.slice(0, 20)); socket.onclose = () => end("refused"); })),
    word(new Promise((end) => { events.addEventListener("subscribed", () => end("subscribed")); events.onerror = () => end("refused"); })),
    word(read("/api/v1/tasks?repository=*")),
    word(read("/api/v1/tasks?repository=*", { mode: "no-cors" })),
    word(read("/api/v1/tasks", { method: "POST", mode: "no-cors", body: '{"repository":"foreign","title":"Made by another page"}' })),
    word(read("/")),
  ]);
})("SERVER")"""


class Foreign(http.server.BaseHTTPRequestHandler):
    """A page of somebody else."""

    def do_GET(self):
        body = b"<!doctype html><title>Somebody else</title>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def foreign(browser: Browser, daemon: Daemon) -> str:
    """A page from another origin gets nothing, where one from here gets all."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Foreign)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    tries = TRIES.replace("SERVER", daemon.url.rstrip("/"))
    page = browser.page(f"http://elsewhere.example:{server.server_address[1]}/")
    got = page.run(tries)
    allowed = {"refused", "opaque", "nothing"}
    if not set(got) <= allowed:
        raise SystemExit(f"a page of another origin got {got}")
    framed = page.run(
        """new Promise((end) => {
          const frame = document.createElement("iframe");
          frame.onload = () => { try { end(frame.contentDocument ? "blank" : "hidden"); } catch { end("hidden"); } };
          frame.src = "SERVER";
          document.body.append(frame);
        })""".replace("SERVER", daemon.url)
    )
    frame = page.ask("Page.getFrameTree")["frameTree"].get("childFrames", [{}])[0].get("frame", {})
    if "unreachableUrl" not in frame or framed != "hidden":
        raise SystemExit(f"a page of another origin has a frame of ours: {framed}")
    if any(json.loads(event)["data"]["repository"] == "foreign" for event in daemon.log("foreign")):
        raise SystemExit("a page of another origin made a task")
    browser.ask("Target.closeTarget", targetId=page.target)
    # The same tries from here show that they are able to succeed.
    here = live(browser, daemon.url)
    mine = here.run(tries)
    if set(mine[:3]) & allowed:
        raise SystemExit(f"the page's own origin got {mine}")
    here.close()
    return f"a page of another origin got nothing by {len(got)} ways"


MARK = "globalThis.wasRun = true"
HOSTILE = [
    f"<img src=x onerror='{MARK}'>",
    f"</title></script><script>{MARK}</script>",
    f"<svg onload={MARK}><style>*{{display:none}}</style>",
    "right to left \u202egnp.exe\u202c and \u2066isolated",
    "control \u0007 \u001b[2J \u009b31m \u0085 \u0000 \u007f end",
    "line \u2028 separator, zero\u200bwidth, \ufeffmark",
    "{{constructor.constructor('" + MARK + "')()}} ${" + MARK + "}",
    "W" * 512,
]


def hostile(browser: Browser, daemon: Daemon) -> str:
    """Titles that drive browsers are texts, wherever they are shown."""
    api = Rest(daemon.port)
    half = len(HOSTILE) // 2

    def make(titles: list[str]) -> None:
        for title in titles:
            task = {"repository": "hostile", "title": title, "description": title * (10_000 // len(title)), "tags": [title[:60]]}
            made = api.create(task | {"assignee": title[:60]})[0]
            api.update(made, {"title": f"{title[:500]} again"})

    make(HOSTILE[:half])
    page = live(browser, daemon.url, prefers_color_scheme="dark")
    only(page, "hostile")
    make(HOSTILE[half:])
    page.until("all of them", f"Object.keys({BOARD}).length === {len(HOSTILE)}")
    for number in range(len(HOSTILE)):
        page.run(f"document.querySelectorAll('.card')[{number}].click()")
        page.until("its history", "document.querySelectorAll('#past li').length >= 2")
        look(page)
        page.run("document.querySelector('#task').close()")
    page.close()
    # Had one of them been markup, this would have told.
    page = live(browser, daemon.url)
    page.run("document.body.append(Object.assign(document.createElement('img'), { src: 'http://elsewhere.example/' }))")
    page.until("word of what the policy forbids", "violations.length")
    try:
        page.check()
    except SystemExit:
        browser.ask("Target.closeTarget", targetId=page.target)
    else:
        raise SystemExit("what the policy forbids is not noticed")
    return f"{len(HOSTILE)} hostile titles, and descriptions of 10,000 letters, were text"


def look(page: Page) -> None:
    """Nothing of a text was taken for anything else, and all of it can be seen."""
    found = page.run(
        """[
          globalThis.wasRun ? "a script of a text ran" : "",
          document.querySelector("body img, body svg, body script, body style") ? "a text became an element" : "",
          /[\\0-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u200b\\u2028-\\u202e\\u2066-\\u2069\\ufeff]/.test(document.body.innerText) ? "an invisible letter is shown" : "",
          document.documentElement.scrollWidth > innerWidth ? "the page is wider than the window" : "",
        ].filter((it) => it)"""
    )
    if found:
        raise SystemExit(f"page: {found}")


def accessible(browser: Browser, url: str, axe: str) -> str:
    """axe-core finds nothing serious, in light and in dark, on the board and in the dialog."""
    passes = 0
    for scheme in ("light", "dark"):
        page = live(browser, url, prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
        page.until("tasks", "document.querySelectorAll('.card').length > 3")
        page.run(pathlib.Path(axe).read_text() + "; undefined")
        for state in ("null", "document.querySelector('.card').click()"):
            page.run(state)
            found = page.run("axe.run(document, { resultTypes: ['violations'] }).then(({ violations, passes }) => [passes.length, violations.map(({ id, impact, nodes }) => [impact, id, nodes.map((it) => it.html.slice(0, 200) + ' ' + it.failureSummary)])])")
            passes += found[0]
            serious = [it for it in found[1] if it[0] in ("serious", "critical")]
            if serious:
                raise SystemExit(f"axe-core finds in {scheme}: {json.dumps(serious, indent=1)}")
        page.close()
    return f"axe-core found nothing serious in light and dark ({passes} rules passed)"


PICTURED = [
    ("acme/shop", "Pay with a card that has run out", "pending", "high", None, ["bug"]),
    ("acme/shop", "Send the receipt again", "pending", "low", "ben", []),
    ("acme/shop", "Count what is in the cart once", "in_progress", "medium", "ana", ["bug", "cart"]),
    ("acme/site", "Pictures load when they are seen", "in_progress", "high", "cem", ["speed"]),
    ("acme/site", "New colours for the night", "completed", "medium", "ana", ["design"]),
    ("acme/infra", "Move the old backups", "completed", "low", "dee", []),
    ("acme/infra", "Try the other queue", "cancelled", "low", None, ["idea"]),
]


def pictures(browser: Browser, taskwatchd: str, scratch: pathlib.Path, is_kept: bool) -> str:
    """Takes them, narrow and wide, in light and dark, of the same tasks at the same time each time."""
    daemon = Daemon(taskwatchd, scratch / "pictured")
    api = Rest(daemon.port)
    for repository, title, status, priority, assignee, tags in PICTURED:
        task = {"repository": repository, "title": title, "priority": priority, "tags": tags}
        api.update(api.create(task | ({"assignee": assignee} if assignee else {}))[0], {"description": "As was said."})
    page = browser.page("about:blank")
    listed = json.loads(api.ask("GET", "/api/v1/tasks?repository=*")[1])["tasks"]
    late = max(task["updated_at"] for task in listed)
    clock = f"const now = Date.parse('{late}') + 150000; Date.now = () => now;"
    page.ask("Page.addScriptToEvaluateOnNewDocument", source=clock)
    page.ask("Emulation.setScrollbarsHidden", hidden=True)
    statuses = {title: status for _, title, status, *_ in PICTURED}
    folder = ROOT / "docs/screens" if is_kept else scratch
    sizes = []
    for width, height in ((360, 740), (1280, 760)):
        page.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        for scheme in ("light", "dark"):
            page.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"}])
            page.open("about:blank")
            blank = len(shot(page))
            for task in listed:
                api.update(task["id"], {"status": "pending"})
            page.open(daemon.url)
            page.until("a page that is live", IS_LIVE)
            # Changes are made while it looks, so that it has some to show.
            for task in listed:
                api.update(task["id"], {"status": statuses[task["title"]]})
            for title, status in statuses.items():
                page.until("a change", has(title, status))
            look(page)
            picture = shot(page)
            if len(picture) < 3 * blank:
                raise SystemExit(f"a picture of {width} px in {scheme} is nearly blank")
            (folder / f"page-{width}-{scheme}.png").write_bytes(picture)
            sizes.append(len(picture) // 1024)
    page.close()
    daemon.stop()
    return f"4 pictures at 360 and 1,280 px, of {sum(sizes)} KiB in all" + (", written" if is_kept else "")


def shot(page: Page) -> bytes:
    page.run("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    return base64.b64decode(page.ask("Page.captureScreenshot", format="png")["data"])


def main(taskwatchd: str, taskwatch: str, chromium: str, axe: str, is_kept: bool, scratch: pathlib.Path) -> None:
    daemon = Daemon(taskwatchd, scratch / "data")
    browser = Browser(chromium, scratch / "profile", "--host-resolver-rules=MAP elsewhere.example 127.0.0.1")
    seed = random.randrange(10**6)
    steps = {
        "together": lambda: together(browser, daemon, taskwatch, scratch),
        "killed": lambda: killed(browser, daemon),
        f"cut (seed {seed})": lambda: cut(browser, daemon, random.Random(seed)),
        "foreign": lambda: foreign(browser, daemon),
        "hostile": lambda: hostile(browser, daemon),
        "accessible": lambda: accessible(browser, daemon.url, axe),
        "pictures": lambda: pictures(browser, taskwatchd, scratch, is_kept),
    }
    for name, step in steps.items():
        begin = time.monotonic()
        try:
            print(f"page: {step()}  [{time.monotonic() - begin:.0f} s]", flush=True)
        except SystemExit:
            print(f"page: in {name}:", flush=True)
            raise
    daemon.stop()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            main(*sys.argv[1:5], "--write" in sys.argv[5:], pathlib.Path(folder))
        finally:
            end_all()

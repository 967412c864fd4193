"""A browser, driven over its DevTools: so much of that protocol as the tests of the page need."""

import itertools
import json
import pathlib
import queue
import subprocess
import threading

from daemon import await_, spawn
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

# Runs before the page does: what the page's own policy forbids is noted, and what throws is too.
NOTES = """
globalThis.violations = [];
addEventListener("securitypolicyviolation", (event) =>
  violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""


class Browser:
    """Chromium without a window."""

    def __init__(self, chromium: str, profile: pathlib.Path, *flags: str):
        common = ["--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", f"--user-data-dir={profile}"]
        spawn([chromium, *common, *flags, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        told = profile / "DevToolsActivePort"
        port, path = await_("a browser", lambda: told.exists() and len(text := told.read_text().split()) == 2 and text)
        self.socket = connect(f"ws://127.0.0.1:{port}{path}", max_size=None, ping_interval=None)
        self.ids = itertools.count(1)
        self.answers: dict[int, queue.Queue] = {}
        self.pages: dict[str, Page] = {}
        threading.Thread(target=self.read, daemon=True).start()

    def read(self) -> None:
        while True:
            try:
                text = self.socket.recv()
            except ConnectionClosed:
                return
            message = json.loads(text)
            if answer := self.answers.pop(message.get("id"), None):
                answer.put(message)
            elif page := self.pages.get(message.get("sessionId")):
                page.happened(message["method"], message["params"])

    def ask(self, method: str, session: str | None = None, **params):
        number, answer = next(self.ids), queue.Queue()
        self.answers[number] = answer
        request = {"id": number, "method": method, "params": params}
        self.socket.send(json.dumps(request | ({"sessionId": session} if session else {})))
        message = answer.get(timeout=60)
        if "error" in message:
            raise SystemExit(f"{method}: {message['error']['message']}")
        return message["result"]

    def page(self, url: str, **media: str) -> "Page":
        """A new page, with media features such as prefers_color_scheme="dark"."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self.pages[session] = Page(self, session, target)
        for domain in ["Page", "Runtime", "Log", "Audits"]:
            page.ask(f"{domain}.enable")
        page.ask("Page.addScriptToEvaluateOnNewDocument", source=NOTES)
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        page.ask("Emulation.setEmulatedMedia", features=features)
        page.open(url)
        return page


class Page:
    """One page, and what went wrong in it."""

    def __init__(self, browser: Browser, session: str, target: str):
        self.browser, self.session, self.target = browser, session, target
        self.problems: list[str] = []

    def ask(self, method: str, **params):
        return self.browser.ask(method, self.session, **params)

    def open(self, url: str) -> None:
        self.ask("Page.navigate", url=url)
        self.until(f"{url} in the browser", f"location.href.startsWith({json.dumps(url)}) && document.readyState === 'complete'")

    def close(self) -> None:
        self.check()
        self.browser.ask("Target.closeTarget", targetId=self.target)

    def happened(self, method: str, params: dict) -> None:
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.problems.append(f"{details['text']} {details.get('exception', {}).get('description', '')}")
        # That a server is away is said here too, and is no problem.
        elif method == "Log.entryAdded" and params["entry"]["source"] in ("security", "violation", "deprecation"):
            self.problems.append(params["entry"]["text"])
        elif method == "Audits.issueAdded" and params["issue"]["code"] == "ContentSecurityPolicyIssue":
            self.problems.append(json.dumps(params["issue"]))

    def check(self) -> None:
        """Nothing was thrown, and the page's policy had nothing to forbid."""
        problems = self.problems + self.run("violations")
        if problems:
            raise SystemExit("page: " + "\n".join(problems))

    def run(self, script: str):
        """What an expression, or a promise, comes to."""
        answer = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if details := answer.get("exceptionDetails"):
            raise SystemExit(f"{script}: {details.get('exception', details)}")
        return answer["result"].get("value")

    def until(self, what: str, script: str, seconds: float = 30):
        try:
            return await_(what, lambda: self.run(script), seconds)
        except SystemExit:
            print(self.run("document.body.innerText.slice(0, 2000)"), self.problems, sep="\n")
            raise

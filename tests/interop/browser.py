"""A browser's own EventSource follows the log over cuts, a kill and a restart of the server, and stops when told to.

    browser.py TASKWATCHD CHROMIUM

A page that this file serves opens an EventSource on a server behind a small proxy, and reports every event it is
given. Tasks are changed all the while. The proxy cuts the connection several times, the server is killed once and
restarted in order once. The page's list must be the log. Then the server loses its data: the EventSource, which
cannot go on from where it is, must be told so, and stop.
"""

import http.server
import json
import pathlib
import random
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time
from itertools import takewhile

from daemon import Daemon, Refused, Rest, await_, end_all, spawn

CUTS = 4
PAGE = """<!doctype html><title>An EventSource</title><script>
let told = Promise.resolve();
const tell = (entry) => {
  told = told.then(() => fetch("/told", { method: "POST", body: JSON.stringify(entry) }));
};
const source = new EventSource("ADDRESS");
for (const type of ["subscribed", "task.created", "task.updated", "task.deleted", "ping", "close"]) {
  source.addEventListener(type, (event) => tell({ type, id: event.lastEventId, data: event.data }));
}
source.onopen = () => tell({ type: "open" });
source.onerror = () => tell({ type: "error", stopped: source.readyState === EventSource.CLOSED });
</script>"""


class Page(http.server.ThreadingHTTPServer):
    """Serves the page, and keeps what it says."""

    def __init__(self, address: str):
        self.page = PAGE.replace("ADDRESS", address).encode()
        self.told: list[dict] = []
        super().__init__(("127.0.0.1", 0), Answer)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def events(self) -> list[str]:
        return [entry["data"] for entry in self.told if entry["type"].startswith("task.")]


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(200 if self.path == "/" else 404, self.server.page if self.path == "/" else b"")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.told.append(json.loads(body))
        self.answer(204, b"")

    def answer(self, status: int, body: bytes):
        self.send_response(status)
        self.send_header("Content-Type", "text/html")
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Proxy:
    """Carries connections to the server, until it cuts them."""

    def __init__(self, port: int):
        self.target = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.links: list[socket.socket] = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            self.links += [client, server]
            threading.Thread(target=carry, args=(client, server), daemon=True).start()

    def cut(self) -> None:
        links, self.links = self.links, []
        for link in links:
            try:
                link.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def carry(client: socket.socket, server: socket.socket) -> None:
    with client, server, selectors.DefaultSelector() as ready:
        ready.register(client, selectors.EVENT_READ, server)
        ready.register(server, selectors.EVENT_READ, client)
        try:
            while True:
                for key, _ in ready.select():
                    piece = key.fileobj.recv(65536)
                    if not piece:
                        return
                    key.data.sendall(piece)
        except OSError:
            return


def load(daemon: Daemon, repository: str, done: threading.Event, acknowledged: list[str]) -> None:
    """Changes tasks until it is told to end; a server that is away is asked again."""
    api, task, number = None, None, 0
    while not done.is_set():
        time.sleep(0.02)
        number += 1
        try:
            api = api or Rest(daemon.port)
            if task is None:
                task, cursor = api.create({"repository": repository, "title": f"Number {number}"})
            elif number % 3:
                cursor = api.update(task, {"title": f"Number {number}"})
            else:
                cursor, task = api.delete(task), None
            acknowledged.append(cursor)
        except Refused:
            # A deletion whose answer was lost. Also a server that stops.
            task = None
        except (OSError, ValueError, TypeError):
            api = None
        except Exception as error:
            if type(error).__module__ != "http.client":
                raise
            api = None


def main(taskwatchd: str, chromium: str, scratch: pathlib.Path) -> None:
    daemon = Daemon(taskwatchd, scratch / "data")
    since = Rest(daemon.port).create({"repository": "page/old", "title": "Before"})[1]
    proxy = Proxy(daemon.port)
    events = f"http://127.0.0.1:{proxy.port}/api/v1/events?repository=page/*&since={since}"
    page = Page(events)
    address = f"http://127.0.0.1:{page.server_address[1]}/"
    flags = ["--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", f"--user-data-dir={scratch}/profile"]
    spawn([chromium, *flags, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    done, acknowledged, begin = threading.Event(), [], time.monotonic()
    writers = [
        threading.Thread(target=load, args=(daemon, f"page/{n}", done, acknowledged), daemon=True)
        for n in range(2)
    ]
    await_("an EventSource that is open", lambda: opened(page) == 1)
    for writer in writers:
        writer.start()

    def goes_on():
        """The page gets what is new."""
        goal = len(page.events()) + 20
        await_("events in the page", lambda: len(page.events()) >= goal)

    for number in range(CUTS + 2):
        goes_on()
        times = opened(page)
        if number == 1:
            daemon.kill()
            daemon.start()
        elif number == 3:
            daemon.stop()
            daemon.start()
        else:
            proxy.cut()
        await_("an EventSource that is open again", lambda: opened(page) > times)
    goes_on()
    done.set()
    for writer in writers:
        writer.join(60)
    log = daemon.log("page/")[1:]
    await_("all events in the page", lambda: len(page.events()) >= len(log))
    if page.events() != log:
        alike = takewhile(lambda pair: pair[0] == pair[1], zip(page.events(), log))
        raise SystemExit(f"the page has other events than the log behind number {len(list(alike))}")
    if not set(acknowledged) <= {json.loads(event)["cursor"] for event in log}:
        raise SystemExit("a change that was acknowledged is not in the log")
    took, times = time.monotonic() - begin, opened(page)

    # The data is lost: where the page is, is nowhere in the new log.
    daemon.kill()
    daemon.data = scratch / "other"
    daemon.start()
    await_("an EventSource that has stopped", lambda: page.told[-1] == {"type": "error", "stopped": True})
    last = [entry for entry in page.told if entry["type"] == "subscribed"][-1]
    said = json.loads(last["data"])["data"]
    if (last["id"], said["mode"], said["reason"]) != ("end", "reset", "incarnation"):
        raise SystemExit(f"told of the loss with {last}")
    daemon.stop()
    print(
        f"browser: EventSource read {len(log)} events in {took:.1f} s, alike with the log, over {CUTS} cuts, a kill and a"
        f" restart ({times} connections); told of a loss it stopped by itself"
    )


def opened(page: Page) -> int:
    return sum(entry["type"] == "open" for entry in page.told)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            main(sys.argv[1], sys.argv[2], pathlib.Path(folder))
        finally:
            end_all()

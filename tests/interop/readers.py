"""Five ways to follow one log, from one cursor, while it is written to: what each of them read is the same.

    readers.py TASKWATCHD TASKWATCH

1,000 changes are made over REST and over MCP by four writers at once, singly and in batches. They are read by
the watcher over a WebSocket, over server-sent events and by long polls, by Python's `websockets`, and by
`curl -N`. One more `curl -N` is killed again and again, and goes on with `Last-Event-ID`. The lists are held against
each other, against the pages of `/api/v1/changes`, and against the database.
"""

import asyncio
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import websockets

from daemon import Daemon, Mcp, Rest, await_, end_all, spawn, write

CHANGES = 1000
CUTS = 20
# At most, between two changes of a writer: the load is to last for some seconds.
PAUSE = 0.1
PATTERN = "fleet/*"
# In seconds, once everything is written.
PATIENCE = 30


def is_event(envelope: str) -> bool:
    return envelope.startswith('{"type":"task.')


def cursor_of(envelope: str) -> str:
    return json.loads(envelope)["cursor"]


class Reader(threading.Thread):
    """One of those who read. What it has so far can be looked at, also if it never gets further."""

    def __init__(self, name: str, follow, *arguments):
        super().__init__(name=name, daemon=True)
        self.events: list[str] = []
        self.follow, self.arguments = follow, arguments
        self.start()

    def run(self) -> None:
        self.follow(self.events, *self.arguments)


def websocket(events: list[str], url: str, since: str, started: threading.Event) -> None:
    async def follow():
        address = url.replace("http", "ws") + "/ws"
        async with websockets.connect(address, subprotocols=["taskwatch.v1"]) as socket:
            data = {"repositories": [PATTERN], "since": since}
            await socket.send(json.dumps({"type": "subscribe", "data": data}))
            while len(events) < CHANGES:
                frame = await socket.recv()
                if frame.startswith('{"type":"subscribed"'):
                    started.set()
                if is_event(frame):
                    events.append(frame)

    asyncio.run(follow())


class Curl:
    """`curl -N` on the server-sent events."""

    def __init__(self, url: str, since: str | None = None, last: str | None = None):
        command = ["curl", "-sSN", "--get", f"{url}/api/v1/events", "-d", f"repository={PATTERN}"]
        if since is not None:
            command += ["-d", f"since={since}"]
        if last is not None:
            command += ["-H", f"Last-Event-ID: {last}"]
        self.process = spawn(command, stdout=subprocess.PIPE)

    def frames(self):
        """Each frame that arrives whole, as its fields."""
        fields = {}
        for line in self.process.stdout:
            if not line.endswith(b"\n"):
                return
            line = line.rstrip(b"\r\n").decode()
            if not line:
                if "data" in fields:
                    yield fields
                fields = {}
            elif not line.startswith(":"):
                name, _, value = line.partition(": ")
                if name in fields:
                    raise SystemExit(f"a frame with two lines of {name}")
                fields[name] = value

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def take(frame: dict, events: list[str]) -> None:
    if frame["event"].startswith("task."):
        if frame["id"] != cursor_of(frame["data"]):
            raise SystemExit(f"an id that is not the cursor: {frame}")
        events.append(frame["data"])


def curl(events: list[str], url: str, since: str, started: threading.Event) -> None:
    """Read without a break."""
    stream = Curl(url, since)
    for frame in stream.frames():
        started.set()
        take(frame, events)
        if len(events) == CHANGES:
            return stream.kill()


def cut_curl(events: list[str], url: str, since: str, dice: random.Random, cuts: list[int]) -> None:
    """Killed at any moment, also in the middle of a frame; what it had not handed over comes again."""
    last = None
    while len(events) < CHANGES:
        stream = Curl(url, since if last is None else None, last)
        killer = threading.Timer(dice.uniform(0, 0.3), stream.process.kill)
        killer.start()
        patience = dice.randrange(1, 60)
        for frame in stream.frames():
            take(frame, events)
            last = frame.get("id", last)
            patience -= 1
            if not patience or len(events) == CHANGES:
                break
        killer.cancel()
        stream.kill()
        if len(events) < CHANGES:
            cuts.append(len(events))


def watcher(events: list[str], binary: str, url: str, since: str, transport: str) -> None:
    command = [binary, "--url", url, "--repo", PATTERN, "--since", since, "--count", str(CHANGES)]
    process = spawn([*command, "--transport", transport, "-o", "json", "-q"], stdout=subprocess.PIPE)
    events.extend(line.decode().rstrip("\n") for line in process.stdout)
    process.wait()


def pages(url: str, since: str) -> list[str]:
    """The log as long polls give it, each envelope in its own bytes."""
    events = []
    while True:
        query = f"repository={PATTERN}&since={since}&wait=0"
        with urllib.request.urlopen(f"{url}/api/v1/changes?{query}") as answer:
            text = answer.read().decode()
        page = json.loads(text)
        if not page["events"] or len(events) > CHANGES:
            return events
        since, at, read = page["cursor"], text.index('"events":[') + len('"events":['), 0
        while read < len(page["events"]):
            _, end = json.JSONDecoder().raw_decode(text, at)
            events.append(text[at:end])
            at, read = end + 1, read + 1


def same(name: str, events: list[str], log: list[str], *, as_json: bool = False) -> None:
    """`as_json` where the reader may write the same JSON in other bytes."""
    if as_json:
        events, log = ([json.loads(envelope) for envelope in of] for of in (events, log))
    for at, (read, logged) in enumerate(zip(events, log)):
        if read != logged:
            raise SystemExit(f"{name}: event {at + 1} of {len(events)} is\n{read}\nand in the log\n{logged}")
    if len(events) != len(log):
        raise SystemExit(f"{name}: {len(events)} events, and {len(log)} in the log")


def main(taskwatchd: str, taskwatch: str, scratch: str) -> None:
    seed = random.randrange(10**6)
    dice = random.Random(seed)
    print(f"readers: seed {seed}", flush=True)
    daemon = Daemon(taskwatchd, pathlib.Path(scratch) / "data")
    url = daemon.url
    # What was there before is not read.
    _, since = Rest(daemon.port).create({"repository": "fleet/old", "title": "Before"})
    before = len(daemon.log("fleet/"))

    started, cuts = [threading.Event(), threading.Event()], []
    python = Reader("websockets", websocket, url, since, started[0])
    plain = Reader("curl", curl, url, since, started[1])
    for reader in started:
        await_("a subscription", reader.is_set)
    begin = time.monotonic()
    with ThreadPoolExecutor() as pool:
        writers = [
            pool.submit(write, api(daemon.port), f"fleet/{n}", CHANGES // 4, PAUSE, random.Random(dice.random()))
            for n, api in enumerate([Rest, Mcp, Rest, Mcp])
        ]
        cut = Reader("curl that is killed", cut_curl, url, since, random.Random(dice.random()), cuts)
        # These begin while the log grows, so that they read it, catch up, and go on live.
        watchers = []
        for transport in ["ws", "sse", "poll"]:
            goal = before + dice.randrange(50, 600)
            await_("changes", lambda: len(daemon.log("fleet/")) >= goal or any(map(failed, writers)))
            watchers.append(Reader(f"taskwatch over {transport}", watcher, taskwatch, url, since, transport))
        acknowledged = [cursor for writer in writers for cursor in writer.result()]
    took, during = time.monotonic() - begin, len(cuts)

    log = daemon.log("fleet/")[before:]
    if len(log) != CHANGES or not set(acknowledged) <= {cursor_of(event) for event in log}:
        raise SystemExit(f"the log has {len(log)} events, or not all that was acknowledged")
    by = Counter(json.loads(event)["data"]["changed_by"] for event in log)
    if set(by) != {"api", "mcp"} or min(by.values()) < CHANGES // 3:
        raise SystemExit(f"who changed what: {by}")
    deadline = time.monotonic() + PATIENCE
    for reader in [python, plain, cut, *watchers]:
        reader.join(max(0, deadline - time.monotonic()))
    same("/api/v1/changes", pages(url, since), log)
    for reader in [python, plain, cut]:
        same(reader.name, reader.events, log)
    for reader in watchers:
        same(reader.name, reader.events, log, as_json=True)
    daemon.stop()
    if during < CUTS:
        raise SystemExit(f"curl was killed only {during} times during the load")
    print(
        f"readers: {CHANGES} changes ({by['api']} over REST, {by['mcp']} over MCP) in {took:.1f} s;"
        f" read alike by websockets, curl, taskwatch over ws, sse and poll, and a curl killed {len(cuts)} times,"
        f" {during} of them during the load"
    )


def failed(writer) -> bool:
    return writer.done() and writer.exception() is not None


def selftest() -> None:
    """What is not the same is noticed."""
    log = [json.dumps({"cursor": cursor, "data": cursor}) for cursor in "abc"]
    for spoilt in (log[:2], log[1:], [*log, log[2]], [log[0], log[0], *log[1:]], log[::-1], [*log[:2], "{}"]):
        for as_json in (False, True):
            try:
                same("", spoilt, log, as_json=as_json)
            except SystemExit:
                continue
            raise SystemExit(f"taken for the same: {spoilt} and {log}")


if __name__ == "__main__":
    selftest()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            main(*sys.argv[1:3], folder)
        finally:
            end_all()

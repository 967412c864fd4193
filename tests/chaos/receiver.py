"""Raw receivers: another maker's WebSocket library, resuming by cursor on their own.

usage: receiver.py JSON

JSON: {"port": N, "folder": DIR, "seed": S, "receivers": [Wish, …]}; see `Wish` for the fields.
Lines on stdin tell a receiver by its name to `pause` reading, to `go` on, to `cut` its connection,
to begin `anew` without its cursor, or to do so and `tear` the first snapshot that comes. The end
of stdin is the end.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from recording import Recording
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage
from websockets.typing import Subprotocol

SILENCE_SECONDS = 35.0
CAP_SECONDS = 1.0
FINAL = {1000, 1002, 1003, 1007, 1008, 1009}


@dataclass
class Wish:
    """What one receiver wants, and how it asks."""

    name: str
    patterns: list[str]
    types: list[str] | None = None
    # In the address of the upgrade rather than in a frame.
    by_query: bool = False
    # The version as a subprotocol, as browsers do.
    as_browser: bool = False
    # Begins with the present state.
    snapshot: bool = False
    # Small buffers, so that a pause is felt by the server.
    narrow_pipe: bool = False
    # Seconds between its own pings; 0 for none.
    ping: float = 1.0


@dataclass
class Receiver:
    port: int
    seed: str
    wish: Wish
    recording: Recording
    cursor: str | None = None
    connections: int = 0
    forgets: bool = False
    was_told: bool = False
    # Parts of a snapshot that may still come before the connection is cut.
    parts: int | None = None
    may_read: asyncio.Event = field(default_factory=asyncio.Event)
    socket: ClientConnection | None = None

    async def run(self) -> None:
        choices = random.Random(f"{self.seed}/{self.wish.name}")
        self.may_read.set()
        limit = 0.1
        while True:
            code, reason = await self._one_connection(choices)
            if code in FINAL or (code is not None and 4000 <= code < 4100):
                self.recording.add("gave_up", code=code)
                return
            at_once = self.was_told or (code is not None and 4200 <= code < 4300)
            self.was_told = False
            wait = 0.0 if at_once else choices.uniform(0, limit)
            limit = min(limit * 2, CAP_SECONDS)
            advised = re.search(r" retry_after_ms=(\d+)", reason)
            await asyncio.sleep(max(wait, int(advised[1]) / 1000 if advised else 0.0))

    async def _one_connection(self, choices: random.Random) -> tuple[int | None, str]:
        self.connections += 1
        number = self.connections
        if self.forgets:
            self.cursor, self.forgets = None, False
        try:
            ws = await self._dial()
        except (OSError, InvalidHandshake, InvalidMessage, TimeoutError, EOFError) as problem:
            self.recording.add("not_connected", conn=number, why=repr(problem))
            return None, ""
        self.socket = ws
        self.recording.add("open", conn=number, since=self.cursor)
        pinging: asyncio.Task[None] | None = None
        try:
            if not self.wish.by_query:
                await ws.send(
                    json.dumps({"type": "subscribe", "id": f"s{number}", "data": self._subscribe()})
                )
            # Behind the request: before it the answer would be the head.
            pinging = asyncio.create_task(self._ping(ws, choices))
            while True:
                await self.may_read.wait()
                text = await asyncio.wait_for(ws.recv(), SILENCE_SECONDS)
                self._received(number, text)
                if self.parts == 0:
                    self.parts = None
                    self._cut()
                if '"ping"' in text[:200] and json.loads(text)["type"] == "ping":
                    await ws.send('{"type":"pong"}')
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd else None
            reason = closed.rcvd.reason if closed.rcvd else ""
        except TimeoutError:
            ws.transport.abort()
            code, reason = None, "silence"
        finally:
            if pinging is not None:
                pinging.cancel()
            self.socket = None
        self.recording.add("closed", conn=number, code=code, reason=reason)
        return code, reason

    def _subscribe(self) -> dict[str, Any]:
        asked: dict[str, Any] = {"repositories": self.wish.patterns}
        if self.wish.types:
            asked["types"] = self.wish.types
        if self.cursor is not None:
            asked["since"] = self.cursor
        elif self.wish.snapshot:
            asked["snapshot"] = True
        return asked

    async def _dial(self) -> ClientConnection:
        query: list[tuple[str, str]] = []
        if self.wish.by_query:
            asked = self._subscribe()
            query = [("repo", pattern) for pattern in asked.pop("repositories")]
            query += [(name, "true" if value is True else value) for name, value in asked.items()]
        raw = socket.socket()
        raw.setblocking(False)
        if self.wish.narrow_pipe:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        try:
            await asyncio.wait_for(
                asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", self.port)), 3
            )
            # It closes the socket itself if this fails.
            return await connect(
                f"ws://127.0.0.1:{self.port}/ws?{urlencode(query)}",
                sock=raw,
                additional_headers=None if self.wish.as_browser else {"X-Version": "1"},
                subprotocols=[Subprotocol("taskwatch.v1")] if self.wish.as_browser else None,
                compression=None,
                ping_interval=None,
                open_timeout=4,
                close_timeout=1,
                max_size=None,
                max_queue=4,
            )
        except BaseException:
            raw.close()
            raise

    def _received(self, number: int, text: str | bytes) -> None:
        frame = json.loads(text)
        kind = frame["type"]
        cursor = frame.get("cursor")
        said = {"conn": number, "type": kind, "cursor": cursor}
        if kind.startswith("task."):
            raw = text if isinstance(text, bytes) else text.encode()
            self.recording.add("frame", **said, hash=hashlib.sha256(raw).hexdigest())
        else:
            self.recording.add("frame", **said, data=frame.get("data"))
        if kind == "subscribed" and frame["data"]["mode"] == "reset":
            self.cursor = None
        if kind == "snapshot" and self.parts is not None:
            self.parts = None if frame["data"]["last"] else self.parts - 1
        if cursor is not None:
            self.cursor = cursor

    async def _ping(self, ws: ClientConnection, choices: random.Random) -> None:
        """Asks for bookmarks."""
        number = 0
        # Often the first one comes so soon that the subscription is not answered yet.
        wait = choices.choice([0.0, 0.01, self.wish.ping])
        while self.wish.ping > 0:
            await asyncio.sleep(wait)
            wait = choices.uniform(0.5, 1.5) * self.wish.ping
            number += 1
            try:
                await ws.send(json.dumps({"type": "ping", "id": f"p{number}"}))
            except ConnectionClosed:
                return

    def told(self, command: str) -> None:
        self.recording.add("told", command=command)
        if command == "pause":
            self.may_read.clear()
        elif command == "go":
            self.may_read.set()
        elif command in ("cut", "anew", "tear"):
            # At the next connection: frames of this one may still come.
            self.forgets = command != "cut"
            self.parts = (
                random.Random(f"{self.seed}/{self.connections}").randrange(1, 15)
                if command == "tear"
                else None
            )
            self._cut()

    def _cut(self) -> None:
        """Ends the connection without a word, to come back at once."""
        if self.socket:
            self.was_told = True
            self.socket.transport.abort()


async def commands() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    return reader


async def main(settings: dict[str, Any]) -> None:
    receivers = {}
    for fields in settings["receivers"]:
        wish = Wish(**fields)
        recording = Recording(Path(settings["folder"]) / f"{wish.name}.jsonl")
        receivers[wish.name] = Receiver(settings["port"], settings["seed"], wish, recording)
    running = [asyncio.create_task(receiver.run()) for receiver in receivers.values()]
    reader = await commands()
    while line := (await reader.readline()).decode().split():
        command, name = line
        receivers[name].told(command)
    for task in running:
        # A receiver that failed by itself is a failure of the run.
        if task.done():
            task.result()
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))

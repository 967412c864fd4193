"""Cursors that no longer hold: each gets the documented answer, and no event before it.

A server with a folder of its own, since these cases throw events away.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from daemon import Daemon, free_port
from recording import Recording, Tail
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

KEEP = 10
QUIET_SECONDS = 0.5
GARBAGE = [
    "",
    "garbage",
    "c1-",
    "c1-0-1",
    "c1-zzzzzzzzzzzzzzzz-1",
    "c2-0123456789abcdef-1",
    "c1-0123456789abcdef--1",
    "☃",
    "9" * 100,
]


class Resets:
    def __init__(
        self, folder: Path, server: Path, recorder: Path, seed: str, faults: Recording
    ) -> None:
        self.folder = folder / "resets"
        self.folder.mkdir()
        self._recorder = recorder
        self._data = folder / "data-resets"
        port = free_port(random.Random(f"{seed}/resets"))
        self.daemon = Daemon(server, self._data, port, faults)
        self._port = port

    def run(self) -> None:
        try:
            self._expired()
            self._foreign_and_future()
            self._restored()
        finally:
            self.daemon.discard()

    def _write(self, count: int) -> list[str]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        cursors = []
        with closing(connection):
            for _ in range(count):
                body = json.dumps({"repository": "acme/api", "title": "a task"})
                connection.request(
                    "POST", "/api/v1/tasks", body, {"Content-Type": "application/json"}
                )
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 201, answer.status
                cursors.append(answer.getheader("Task-Cursor") or "")
        return cursors

    def _log(self) -> tuple[int, list[tuple[int, str]]]:
        """The floor, and the kept events, from the database itself."""
        with closing(self._open(self._data)) as database:
            (floor,) = database.execute("SELECT floor FROM state").fetchone()
            rows = database.execute(
                "SELECT seq, json_extract(envelope, '$.cursor') FROM event ORDER BY seq"
            )
            return floor, rows.fetchall()

    def _tasks(self) -> dict[str, int]:
        """The version of each task, from the database itself."""
        with closing(self._open(self._data)) as database:
            return dict(database.execute("SELECT id, version FROM task").fetchall())

    def ask(
        self, name: str, since: str, on_gap: str | None, expected: tuple[str, str | None]
    ) -> None:
        """Resumes, writes down what comes until it is quiet, and what should have come."""
        mode, reason = expected
        _, kept = self._log()
        tasks = self._tasks() if on_gap == "snapshot" else {}
        at = int(since.rsplit("-", 1)[1]) if mode == "resumed" else 0
        following = [cursor for seq, cursor in kept if seq > at] if mode == "resumed" else []
        recording = Recording(self.folder / f"{name}.jsonl")
        case: dict[str, Any] = {
            "since": since,
            "on_gap": on_gap,
            "mode": mode,
            "reason": reason,
            "events": following,
        }
        case["tasks"] = tasks
        if on_gap:
            asyncio.run(self._ask(recording, case, lambda: case["events"].extend(self._write(1))))
        else:
            asyncio.run(self._ask(recording, case, lambda: None))

    async def _ask(
        self, recording: Recording, case: dict[str, Any], change: Callable[[], object]
    ) -> None:
        url = f"ws://127.0.0.1:{self._port}/ws"
        frames = []
        async with connect(url, additional_headers={"X-Version": "1"}, compression=None) as ws:
            asked = {"repositories": ["*"], "since": case["since"]}
            if case["on_gap"]:
                asked["on_gap"] = case["on_gap"]
            await ws.send(json.dumps({"type": "subscribe", "data": asked}))
            try:
                while True:
                    frame = json.loads(await asyncio.wait_for(ws.recv(), QUIET_SECONDS))
                    frames.append(frame)
                    # What happens behind the answer is live, if anything was subscribed.
                    is_whole = frame["type"] == "snapshot" and frame["data"]["last"]
                    if is_whole or (frame["type"] == "subscribed" and case["on_gap"] != "snapshot"):
                        await asyncio.to_thread(change)
            except (TimeoutError, ConnectionClosed):
                pass
        recording.add("case", **case)
        for frame in frames:
            said = {"type": frame["type"], "cursor": frame.get("cursor"), "data": frame.get("data")}
            recording.add("frame", **said)
        recording.close()

    def _ask_sdk(self, name: str, since: str, *, live: bool) -> None:
        """The SDK tells of the gap, and goes on only if that was chosen."""
        out = self.folder / f"{name}-{'live' if live else 'error'}.jsonl"
        command = [str(self._recorder), "--url", self.daemon.url, "--out", str(out)]
        command += ["--repo", "*", "--since", since, *(["--live-on-gap"] if live else [])]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            await_text(out, '"kind":"gap"' if live else '"kind":"end"')
            if live:
                self._write(1)
                await_text(out, '"kind":"event"')
        except TimeoutError:
            # The checker says what is missing.
            pass
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)

    def _expired(self) -> None:
        self.daemon.start("--retention-events", str(KEEP))
        old = self._write(3 * KEEP)
        deadline = time.monotonic() + 10
        while self._log()[0] < 2 * KEEP:
            assert time.monotonic() < deadline, "nothing is trimmed"
            time.sleep(0.05)
        floor, _ = self._log()
        # The cursor of number n stands at n - 1.
        for offset in (-2 * KEEP + 1, -1, 0, 1, KEEP):
            holds = offset >= 0
            expected = ("resumed", None) if holds else ("reset", "expired")
            self.ask(f"expired{offset:+}", old[floor + offset - 1], None, expected)
        self._ask_sdk("expired", old[0], live=False)
        self.ask("expired-goes-on", old[0], "live", ("reset", "expired"))
        self.ask("expired-anew", old[0], "snapshot", ("reset", "expired"))
        self._ask_sdk("expired", old[0], live=True)

    def _foreign_and_future(self) -> None:
        head = self._write(1)[0]
        number = int(head.rsplit("-", 1)[1])
        for ahead in (1, 2, 10**6, 2**62):
            since = re.sub(r"\d+$", str(number + ahead), head)
            self.ask(f"future+{ahead}", since, None, ("reset", "future"))
        self.ask(
            "future-goes-on", re.sub(r"\d+$", str(number + 9), head), "live", ("reset", "future")
        )
        for index, since in enumerate(GARBAGE):
            self.ask(f"garbage{index}", since, None, ("reset", "malformed"))
        self.ask("garbage-goes-on", "garbage", "live", ("reset", "malformed"))
        foreign = re.sub(r"-[0-9a-f]{16}-", "-0123456789abcdef-", head)
        self.ask("another-log", foreign, None, ("reset", "incarnation"))

    def _restored(self) -> None:
        """A copy of the folder is put back: who saw more than it holds is told so, nobody else."""
        self._stop()
        copy = self._data.with_name("data-copy")
        shutil.copytree(self._data, copy)
        self.daemon.start()
        lost = self._write(1)[0]
        self._stop()
        held = self._log_of(copy)
        shutil.rmtree(self._data)
        shutil.move(copy, self._data)
        self.daemon.start()
        self._write(5)
        self.ask("restored", lost, None, ("reset", "incarnation"))
        self._ask_sdk("restored", lost, live=False)
        self.ask("restored-held", held, None, ("resumed", None))
        self.ask("restored-goes-on", lost, "live", ("reset", "incarnation"))
        self.ask("restored-anew", lost, "snapshot", ("reset", "incarnation"))
        self._stop()

    def _log_of(self, folder: Path) -> str:
        """The newest cursor that a copy holds."""
        with closing(self._open(folder)) as database:
            sql = "SELECT json_extract(envelope, '$.cursor') FROM event ORDER BY seq DESC LIMIT 1"
            return str(database.execute(sql).fetchone()[0])

    def _open(self, folder: Path) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{folder / 'taskwatch.db'}?mode=ro", uri=True, timeout=5)

    def _stop(self) -> None:
        code = self.daemon.stop()
        assert code == 0, f"the server ended with {code}"


def await_text(path: Path, text: str, seconds: float = 10.0) -> None:
    tail, deadline = Tail(path), time.monotonic() + seconds
    while not tail.has(text):
        if time.monotonic() > deadline:
            raise TimeoutError(text)
        time.sleep(0.02)

"""What a run left behind: the log in the database, the writers' requests, the streams' recordings.

The checker reads files only. It shares no code with the server, the SDK, or the receivers.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Line = dict[str, Any]
CURSOR = re.compile(r"c1-([0-9a-f]{16})-(0|[1-9][0-9]*)")


@dataclass(frozen=True)
class Violation:
    """A broken promise, by its name."""

    name: str
    text: str
    # Where it shows: a recording and its line, and a number of the log.
    where: str = ""
    line: int = 0
    seq: int = 0

    def __str__(self) -> str:
        place = f" ({self.where}:{self.line})" if self.where else ""
        return f"{self.name}: {self.text}{place}"


@dataclass(frozen=True)
class Entry:
    """An event as it stands in the log."""

    seq: int
    repository: str
    # task.created and so on
    type: str
    ts: int
    envelope: str
    event: Line
    hash: str


@dataclass
class Log:
    """The database, read without the server."""

    entries: list[Entry]
    # Each life of the log: the first and the last position that its cursors may name.
    lives: dict[str, tuple[int, int]]
    head: int
    tasks: dict[str, Line]
    integrity: str = "ok"

    def at(self, seq: int) -> Entry | None:
        if not self.entries:
            return None
        index = seq - self.entries[0].seq
        return self.entries[index] if 0 <= index < len(self.entries) else None

    def seq(self, cursor: str | None) -> int | None:
        """The position that a cursor names, if this log has had it."""
        found = CURSOR.fullmatch(cursor or "")
        if not found:
            return None
        number = int(found[2])
        first, last = self.lives.get(found[1], (1, 0))
        return number if first <= number <= last else None


def hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def read_log(file: Path) -> Log:
    database = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        problems = [row[0] for row in database.execute("PRAGMA integrity_check")]
        rows = database.execute(
            "SELECT seq, repository, kind, ts, envelope FROM event ORDER BY seq"
        )
        entries = [
            Entry(seq, name, type, ts, text, json.loads(text), hash_of(text))
            for seq, name, type, ts, text in rows
        ]
        sql = "SELECT id, first FROM incarnation ORDER BY ordinal"
        starts = [(f"{id & (2**64 - 1):016x}", first - 1) for id, first in database.execute(sql)]
        (head,) = database.execute("SELECT head FROM state").fetchone()
        # A life ends where the next one begins.
        ends = [first for _, first in starts[1:]] + [head]
        lives = {id: (first, end) for (id, first), end in zip(starts, ends, strict=True)}
        columns = "id, repository, title, description, status, priority, assignee, tags, version"
        tasks = {}
        for row in database.execute(f"SELECT {columns} FROM task"):
            task = dict(zip(columns.split(", "), row, strict=True))
            tasks[row[0]] = task | {"tags": json.loads(task["tags"])}
    finally:
        database.close()
    return Log(entries, lives, head, tasks, "; ".join(problems))


@dataclass
class Attempt:
    sent: int
    # None: it was never answered.
    answered: int | None = None
    status: int | None = None
    cursor: str | None = None
    body: Line = field(default_factory=dict)
    lost: bool = False
    # When it was answered or given up.
    ended: int | None = None

    @property
    def acknowledged(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def refused(self) -> bool:
        """Answered, and the answer says that nothing was changed."""
        return self.status is not None and (400 <= self.status < 500 or self.status == 503)


@dataclass
class Request:
    op: str
    method: str
    path: str
    body: Line | None
    key: str | None
    where: str
    line: int
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def acknowledged(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.acknowledged]


def lines(path: Path) -> Iterator[tuple[int, Line]]:
    with path.open(encoding="utf-8") as file:
        for number, text in enumerate(file, 1):
            # The last one may be torn: its writer was killed.
            if text.endswith("\n"):
                yield number, json.loads(text)


def read_requests(folder: Path) -> dict[str, Request]:
    requests: dict[str, Request] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for number, line in lines(path):
            op = line["op"]
            if line["kind"] == "sent":
                request = requests.setdefault(
                    op,
                    Request(
                        op,
                        line["method"],
                        line["path"],
                        line["body"],
                        line["key"],
                        path.stem,
                        number,
                    ),
                )
                request.attempts.append(Attempt(line["t"]))
                continue
            attempt = requests[op].attempts[-1]
            attempt.ended = line["t"]
            if line["kind"] == "lost":
                attempt.lost = True
            else:
                attempt.answered, attempt.status = line["t"], line["status"]
                attempt.cursor, attempt.body = line["cursor"], line["body"]
    return requests


@dataclass
class Step:
    """One line of a stream's recording, whoever made it."""

    # open, ack, event, bookmark, saved, snapshot, gap, end, closed
    kind: str
    t: int
    line: int
    cursor: str | None = None
    # What the line says besides.
    said: Line = field(default_factory=dict)


@dataclass
class Stream:
    """One logical subscription, over all its connections and all lives of its process."""

    name: str
    patterns: list[str]
    types: list[str] | None
    steps: list[Step]
    is_sdk: bool = False

    def wants(self, entry: Entry) -> bool:
        if self.types and entry.type not in self.types:
            return False
        return any(covers(pattern, entry.repository) for pattern in self.patterns)


def covers(pattern: str, repository: str) -> bool:
    if pattern == "*" or pattern == repository:
        return True
    return pattern.endswith("/*") and repository.startswith(pattern[:-1])


def raw_steps(path: Path) -> Iterator[Step]:
    """What a raw receiver recorded."""
    for number, line in lines(path):
        kind, cursor = line["kind"], line.get("cursor")
        if kind in ("open", "closed"):
            yield Step(kind, line["t"], number, line.get("since"), line)
        if kind != "frame":
            continue
        if line["type"].startswith("task."):
            yield Step("event", line["t"], number, cursor, {"hash": line["hash"]})
        elif line["type"] == "subscribed":
            yield Step("ack", line["t"], number, cursor, line["data"])
        elif line["type"] in ("ping", "pong"):
            yield Step("bookmark", line["t"], number, cursor, line["data"])
        elif line["type"] == "snapshot":
            yield Step("snapshot", line["t"], number, cursor, line["data"])
        elif line["type"] == "error":
            yield Step("error", line["t"], number, cursor, line["data"])


def sdk_steps(path: Path, clock: int) -> Iterator[Step]:
    """What the SDK yielded. `clock` turns its wall clock into the monotonic one."""
    for number, line in lines(path):
        t, kind = line["unix"] - clock, line["kind"]
        if kind == "start":
            yield Step("open", t, number, line["since"], line)
            continue
        if kind == "event":
            yield Step("event", t, number, line["at"], {"hash": hash_of(line["envelope"])})
        elif kind == "bookmark":
            yield Step("bookmark", t, number, line["at"], {})
        elif kind == "snapshot":
            yield Step("ack", t, number, None, {"mode": "snapshot"})
            whole = {"tasks": line["tasks"], "first": True, "last": True}
            yield Step("snapshot", t, number, line["at"], whole)
        elif kind in ("gap", "end"):
            yield Step(kind, t, number, line.get("at"), line)
        if line["cursor"] is not None:
            # Without what is heavy: this is yielded for each line.
            said = {"kind": kind, "replayed": line.get("replayed")}
            yield Step("saved", t, number, line["cursor"], said)


def read_stream(folder: Path, wish: Line, clock: int) -> Stream:
    path = folder / f"{wish['name']}.jsonl"
    is_sdk = bool(wish.get("sdk"))
    steps = list(sdk_steps(path, clock) if is_sdk else raw_steps(path)) if path.exists() else []
    return Stream(wish["name"], wish["patterns"], wish.get("types"), steps, is_sdk)

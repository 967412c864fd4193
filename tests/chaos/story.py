"""A good history, made up: for each promise a test spoils it in one place.

It has two lives of the server, a keyed request that was sent again, a deletion, a refusal, raw
receivers with a cut and a pattern, one that begins with a snapshot, and a stream of the SDK.
"""

from __future__ import annotations

import copy
import hashlib
import json
import sqlite3
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Line = dict[str, Any]
LIVES = [("00000000000000aa", 1), ("ff000000000000bb", 11)]
REPOSITORIES = ["acme/api", "tools", "acme/web"]
COLUMNS = "id repository title description status priority assignee tags version".split()
EVENTS = 20
CUT = 12
SNAPSHOT_AT = 8
# Nanoseconds between two changes, and what the SDK's wall clock is ahead.
STEP = 1_000_000
CLOCK = 5_000_000_000


def cursor(seq: int, life: int | None = None) -> str:
    if life is None:
        life = 0 if seq < LIVES[1][1] - 1 else 1
    return f"c1-{LIVES[life][0]}-{seq}"


@dataclass
class Story:
    rows: list[Line] = field(default_factory=list)
    tasks: dict[str, Line] = field(default_factory=dict)
    requests: list[Line] = field(default_factory=list)
    streams: dict[str, list[Line]] = field(default_factory=dict)
    wishes: list[Line] = field(default_factory=list)
    resets: dict[str, list[Line]] = field(default_factory=dict)
    faults: list[Line] = field(default_factory=list)
    healed: int = 30 * STEP
    form: str = "scenario"
    not_tried: list[str] = field(default_factory=list)
    head: int = EVENTS

    def event(self, row: int, **changed: Any) -> None:
        """Changes the envelope of a row of the log."""
        self.rows[row]["event"] |= changed

    def with_faults(self, window: list[Line]) -> None:
        self.faults = window

    def save(self, folder: Path) -> None:
        (folder / "data").mkdir(parents=True)
        self._save_log(folder / "data" / "taskwatch.db")
        recordings = {f"streams/{name}": rows for name, rows in self.streams.items()}
        recordings |= {f"resets/{name}": rows for name, rows in self.resets.items()}
        recordings |= {"writers/w1": self.requests, "faults": self.faults}
        for name, rows in recordings.items():
            path = folder / f"{name}.jsonl"
            path.parent.mkdir(exist_ok=True)
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        run = {
            "form": self.form,
            "streams": self.wishes,
            "healed": self.healed,
            "clock": CLOCK,
            "counters": {},
            "not_tried": self.not_tried,
        }
        (folder / "run.json").write_text(json.dumps(run))

    def _save_log(self, file: Path) -> None:
        database = sqlite3.connect(file)
        database.executescript(
            """CREATE TABLE event (seq INTEGER PRIMARY KEY, repository, kind, ts, envelope);
            CREATE TABLE incarnation (ordinal INTEGER PRIMARY KEY, id, first);
            CREATE TABLE state (head);
            """
        )
        database.execute(f"CREATE TABLE task ({', '.join(COLUMNS)})")
        for row in self.rows:
            event = (row["seq"], row["repository"], row["kind"], row["ts"])
            text = json.dumps(row["event"])
            database.execute("INSERT INTO event VALUES (?, ?, ?, ?, ?)", (*event, text))
        for life, first in LIVES:
            # 64 bits, kept as SQLite keeps them.
            id = int(life, 16)
            database.execute(
                "INSERT INTO incarnation (id, first) VALUES (?, ?)", (id - (id >> 63 << 64), first)
            )
        database.execute("INSERT INTO state VALUES (?)", (self.head,))
        for task in self.tasks.values():
            fields = [task[name] for name in COLUMNS]
            fields[COLUMNS.index("tags")] = json.dumps(task["tags"])
            marks = ", ".join("?" * len(COLUMNS))
            database.execute(f"INSERT INTO task VALUES ({marks})", fields)
        database.commit()
        database.close()


def good() -> Story:
    story = Story()
    states: dict[int, dict[str, Line]] = {0: {}}
    for seq in range(1, EVENTS + 1):
        _change(story, seq)
        states[seq] = copy.deepcopy(story.tasks)
    _refusal(story)
    _raw(story, "all", ["*"])
    _raw(story, "part", ["acme/*"])
    _snapshot(story, states[SNAPSHOT_AT])
    _sdk(story)
    _resets(story)
    return story


def _change(story: Story, seq: int) -> None:
    """Creations mostly; every fourth changes an older task, and one deletes."""
    op, at = f"w1-{seq}", seq * STEP
    ts = 1_700_000_000_000 + seq
    stamp = (
        datetime.fromtimestamp(ts / 1000, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )
    key = f"key-{op}" if seq % 3 == 0 else None
    asked: Line = {"op": op, "attempt": 1, "key": key, "body": {"title": op}}
    answer: Line = {"op": op, "attempt": 1, "cursor": cursor(seq), "body": {}}
    if seq % 4 == 0:
        old = story.tasks[f"task-{seq - 3}"]
        kind, version, id = "updated", old["version"] + 1, old["id"]
        task = old | {"title": op, "version": version, "updated_at": stamp}
        data: Line = {"task": task, "changes": {"title": {"from": old["title"], "to": op}}}
        asked |= {"method": "PATCH", "path": f"/api/v1/tasks/{id}"}
        answer["status"] = 200
    elif seq == 15:
        old = task = story.tasks["task-2"]
        kind, version, id = "deleted", old["version"] + 1, old["id"]
        data = {"previous": old}
        asked |= {"method": "DELETE", "path": f"/api/v1/tasks/{id}", "body": None}
        answer["status"] = 204
    else:
        kind, version, id = "created", 1, f"task-{seq}"
        repository = REPOSITORIES[seq % 3]
        task = {
            "id": id,
            "repository": repository,
            "title": op,
            "description": "",
            "status": "pending",
        }
        task |= {"priority": "medium", "assignee": None, "tags": ["ü"], "version": 1}
        task |= {"created_at": stamp, "updated_at": stamp}
        data = {"task": task}
        asked |= {"method": "POST", "path": "/api/v1/tasks"}
        asked["body"] |= {"repository": repository, "tags": ["ü"]}
        answer["status"] = 201
    data |= {
        "task_id": id,
        "repository": task["repository"],
        "version": version,
        "changed_by": "api",
    }
    event = {"type": f"task.{kind}", "timestamp": stamp, "cursor": cursor(seq), "data": data}
    row = {
        "seq": seq,
        "repository": task["repository"],
        "kind": f"task.{kind}",
        "ts": ts,
        "event": event,
    }
    story.rows.append(copy.deepcopy(row))
    if kind == "deleted":
        del story.tasks[id]
    else:
        story.tasks[id] = task
        answer["body"] = copy.deepcopy(task)
    story.requests.append({"t": at, "kind": "sent", **asked})
    if seq == 6:
        # The answer got lost, and the request goes again under its key.
        story.requests.append({"t": at + 100, "kind": "lost", "op": op, "attempt": 1})
        story.requests.append({"t": at + 200, "kind": "sent", **asked, "attempt": 2})
    story.requests.append({"t": at + 500, "kind": "answered", **answer})


def _refusal(story: Story) -> None:
    at, op = (EVENTS + 1) * STEP, "w1-refused"
    sent = {
        "op": op,
        "attempt": 1,
        "method": "POST",
        "path": "/api/v1/tasks",
        "key": None,
        "body": {"title": op},
    }
    story.requests.append({"t": at, "kind": "sent", **sent})
    story.requests.append(
        {
            "t": at + 1,
            "kind": "answered",
            "op": op,
            "attempt": 1,
            "status": 422,
            "cursor": None,
            "body": {},
        }
    )


def _hash(row: Line) -> str:
    return hashlib.sha256(json.dumps(row["event"]).encode()).hexdigest()


def _frame(t: int, conn: int, type: str, cursor: str | None, **said: Any) -> Line:
    return {"t": t, "kind": "frame", "conn": conn, "type": type, "cursor": cursor, **said}


def frame_of(row: Line, conn: int) -> Line:
    return _frame(
        row["seq"] * STEP + 700, conn, row["event"]["type"], row["event"]["cursor"], hash=_hash(row)
    )


def _matches(patterns: list[str], row: Line) -> bool:
    return patterns == ["*"] or row["repository"].startswith("acme/")


def _raw(story: Story, name: str, patterns: list[str]) -> None:
    """Live from the start, cut in the middle, resumed; a bookmark after every fifth number."""
    t = STEP // 2
    lines = [{"t": t, "kind": "open", "conn": 1, "since": None}]
    data = {"mode": "live", "accepted": patterns, "head": cursor(0)}
    lines.append(_frame(t, 1, "subscribed", cursor(0), data=data))
    conn, delivered = 1, 0
    for row in story.rows:
        seq, t = row["seq"], row["seq"] * STEP + 700
        if _matches(patterns, row):
            delivered += 1
            lines.append(frame_of(row, conn))
        if seq % 5 == 0:
            lines.append(_frame(t + 10, conn, "pong", cursor(seq), data={"delivered": delivered}))
        if seq == CUT:
            conn, delivered = 2, 0
            since = str([line["cursor"] for line in lines if line.get("cursor")][-1])
            lines.append({"t": t + 20, "kind": "closed", "conn": 1, "code": None, "reason": ""})
            lines.append({"t": t + 30, "kind": "open", "conn": 2, "since": since})
            data = {"mode": "resumed", "accepted": patterns, "head": cursor(seq)}
            lines.append(_frame(t + 40, 2, "subscribed", since, data=data))
    story.streams[name] = lines
    story.wishes.append({"name": name, "patterns": patterns})


def _snapshot(story: Story, state: dict[str, Line]) -> None:
    t = SNAPSHOT_AT * STEP + 700
    lines: list[Line] = [{"t": t, "kind": "open", "conn": 1, "since": None}]
    data: Line = {"mode": "snapshot", "accepted": ["*"], "head": cursor(SNAPSHOT_AT)}
    lines.append(_frame(t, 1, "subscribed", None, data=data))
    tasks = list(state.values())
    first = {"repositories": ["*"], "tasks": tasks[:3], "first": True, "last": False}
    lines.append(_frame(t, 1, "snapshot", None, data=first))
    lines.append(_frame(t, 1, "ping", None, data={"delivered": 0}))
    last = {"repositories": ["*"], "tasks": tasks[3:], "first": False, "last": True}
    lines.append(_frame(t, 1, "snapshot", cursor(SNAPSHOT_AT), data=last))
    lines += [frame_of(row, 1) for row in story.rows[SNAPSHOT_AT:]]
    story.streams["snapshot"] = lines
    story.wishes.append({"name": "snapshot", "patterns": ["*"]})


def _sdk(story: Story) -> None:
    """Two lives of a program: the second goes on from the cursor that the first one saved."""

    def line(seq: int, kind: str, saved: str | None, **said: Any) -> Line:
        return {"unix": seq * STEP + 800 + CLOCK, "kind": kind, "cursor": saved, **said}

    lines = [line(0, "start", None, since=None), line(0, "connected", cursor(0), resumed=False)]
    for row in story.rows:
        seq = row["seq"]
        envelope = json.dumps(row["event"])
        lines.append(
            line(seq, "event", cursor(seq), at=cursor(seq), replayed=False, envelope=envelope)
        )
        if seq == CUT:
            lines.append(line(seq, "start", None, since=cursor(seq)))
            lines.append(line(seq, "connected", cursor(seq), resumed=True))
            lines.append(line(seq, "caught_up", cursor(seq), replayed=0))
    lines.append(line(EVENTS, "bookmark", cursor(EVENTS), at=cursor(EVENTS)))
    story.streams["sdk"] = lines
    story.wishes.append({"name": "sdk", "patterns": ["*"], "sdk": True})


def _resets(story: Story) -> None:
    def case(
        since: str, on_gap: str | None, mode: str, reason: str | None, events: list[str]
    ) -> Line:
        return {
            "t": 0,
            "kind": "case",
            "since": since,
            "on_gap": on_gap,
            "mode": mode,
            "reason": reason,
            "events": events,
        }

    refused = {"mode": "reset", "reason": "expired", "accepted": [], "head": cursor(9)}
    story.resets["expired"] = [
        case(cursor(1), None, "reset", "expired", []),
        _frame(0, 1, "welcome", None, data={}),
        _frame(0, 1, "subscribed", None, data=refused),
        _frame(0, 1, "ping", None, data={"delivered": 0}),
    ]
    story.resets["goes-on"] = [
        case("garbage", "live", "reset", "malformed", [cursor(10)]),
        _frame(
            0, 1, "subscribed", cursor(9), data=refused | {"reason": "malformed", "accepted": ["*"]}
        ),
        _frame(0, 1, "task.created", cursor(10), hash=""),
    ]
    anew = case("garbage", "snapshot", "reset", "malformed", [cursor(10)]) | {
        "tasks": {"a": 1, "b": 2}
    }
    parts = [[{"id": "a", "version": 1}], [{"id": "b", "version": 2}]]
    story.resets["anew"] = [
        anew,
        _frame(0, 1, "subscribed", None, data=refused | {"reason": "malformed", "accepted": ["*"]}),
        _frame(0, 1, "snapshot", None, data={"tasks": parts[0], "first": True, "last": False}),
        _frame(0, 1, "snapshot", cursor(9), data={"tasks": parts[1], "first": False, "last": True}),
        _frame(0, 1, "task.created", cursor(10), hash=""),
    ]
    story.resets["resumed"] = [
        case(cursor(7), None, "resumed", None, [cursor(8), cursor(9)]),
        _frame(
            0,
            1,
            "subscribed",
            cursor(7),
            data={"mode": "resumed", "accepted": ["*"], "head": cursor(9)},
        ),
        _frame(0, 1, "task.created", cursor(8), hash=""),
        _frame(0, 1, "task.created", cursor(9), hash=""),
    ]
    start = {"unix": 0, "kind": "start", "cursor": None, "since": cursor(1)}
    story.resets["sdk-live"] = [
        start,
        {"unix": 0, "kind": "gap", "cursor": None, "reason": "expired", "at": cursor(9)},
        {"unix": 0, "kind": "event", "cursor": cursor(10), "at": cursor(10), "envelope": "{}"},
    ]
    story.resets["sdk-error"] = [
        start,
        {"unix": 0, "kind": "end", "cursor": None, "error": "expired"},
    ]

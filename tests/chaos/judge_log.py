"""Judges the log by itself, and the writers' requests against it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from history import Attempt, Entry, Line, Log, Request, Violation

DEFAULTS: Line = {
    "description": "",
    "status": "pending",
    "priority": "medium",
    "assignee": None,
    "tags": [],
}
WRITTEN_BY_SERVER = {"created_at", "updated_at", "version"}
METHODS = {"task.created": "POST", "task.updated": "PATCH", "task.deleted": "DELETE"}


def judge_log(log: Log) -> Iterator[Violation]:
    if log.integrity != "ok":
        yield Violation("Integrity", f"PRAGMA integrity_check says {log.integrity}")
    tasks: dict[str, Line] = {}
    before: Entry | None = None
    for entry in log.entries:
        number = before.seq + 1 if before else 1
        if entry.seq != number:
            yield Violation(
                "I1 Order", f"number {entry.seq} where {number} was next", seq=entry.seq
            )
        if log.seq(entry.event["cursor"]) != entry.seq:
            text = f"number {entry.seq} has the cursor {entry.event['cursor']}"
            yield Violation("I1 Order", text, seq=entry.seq)
        if before and entry.ts < before.ts:
            text = f"the time of {entry.seq} is before that of {before.seq}"
            yield Violation("I9 Version", text, seq=entry.seq)
        yield from _one_entry(entry, tasks)
        before = entry
    if before and log.head != before.seq:
        yield Violation("I1 Order", f"the head is {log.head}, the last number {before.seq}")
    kept = {
        id: {field: task[field] for field in log.tasks.get(id, task)} for id, task in tasks.items()
    }
    if kept != log.tasks:
        differing = {
            id for id in kept.keys() | log.tasks.keys() if kept.get(id) != log.tasks.get(id)
        }
        text = f"the tasks are not what the log makes of them: {sorted(differing)[:3]}"
        yield Violation("No invention", text)


def _one_entry(entry: Entry, tasks: dict[str, Line]) -> Iterator[Violation]:
    """Applies an entry to the tasks as they were, and looks whether it could."""
    data = entry.event["data"]
    task_id, at = data["task_id"], f"number {entry.seq}"
    stamp = datetime.fromisoformat(entry.event["timestamp"])
    if round(stamp.timestamp() * 1000) != entry.ts:
        yield Violation(
            "I9 Version", f"{at} is dated {stamp}, and {entry.ts} in the log", seq=entry.seq
        )
    if entry.event["type"] != entry.type or data["repository"] != entry.repository:
        yield Violation(
            "No invention", f"{at} is filed under another name than it has", seq=entry.seq
        )
    old = tasks.pop(task_id, None)
    version = old["version"] + 1 if old else 1
    if data["version"] != version:
        text = f"{at} makes version {data['version']} of a task, not {version}"
        yield Violation("I9 Version", text, seq=entry.seq)
    if (entry.type == "task.created") == (old is not None):
        yield Violation(
            "I9 Version", f"{at} is {entry.type}, which cannot come here", seq=entry.seq
        )
    if entry.type == "task.deleted":
        if old and data["previous"] != old:
            yield Violation("No invention", f"{at} deletes another task than it was", seq=entry.seq)
        return
    task = data["task"]
    tasks[task_id] = task
    stamped = (task["id"], task["version"], task["repository"], task["updated_at"])
    if stamped != (task_id, data["version"], entry.repository, entry.event["timestamp"]):
        yield Violation("I9 Version", f"{at} and its task disagree", seq=entry.seq)
    if old and not _changes_are_true(data, old, task):
        yield Violation("No invention", f"{at} tells other changes than it makes", seq=entry.seq)


def _changes_are_true(data: Line, old: Line, new: Line) -> bool:
    changed = {field for field in new if new[field] != old.get(field)} - WRITTEN_BY_SERVER
    told: Line = data["changes"]
    if changed != told.keys():
        return False
    for field, change in told.items():
        for side, value in (("from", old[field]), ("to", new[field])):
            if side in change and change[side] != value:
                return False
            if side not in change and not change.get("truncated"):
                return False
    return True


def judge_requests(log: Log, requests: dict[str, Request]) -> Iterator[Violation]:
    made: dict[str, list[Entry]] = {}
    deletions = {r.path.rsplit("/", 1)[1]: r for r in requests.values() if r.method == "DELETE"}
    tasks: dict[str, Line] = {}
    for entry in log.entries:
        data = entry.event["data"]
        task_id = data["task_id"]
        if entry.type == "task.deleted":
            request = deletions.get(task_id)
        else:
            request = requests.get(data["task"]["title"])
        if request is None:
            yield Violation("No invention", f"nobody asked for number {entry.seq}", seq=entry.seq)
        else:
            made.setdefault(request.op, []).append(entry)
            if not _as_asked(entry, request, tasks.get(task_id)):
                text = f"number {entry.seq} is not what {request.op} asked for"
                yield Violation("No invention", text, request.where, request.line, entry.seq)
        tasks[task_id] = data.get("task", {})
    for request in requests.values():
        yield from _one_request(log, request, made.get(request.op, []))
    yield from _keys(requests)
    yield from _real_time(requests, made)


def _as_asked(entry: Entry, request: Request, old: Line | None) -> bool:
    method = METHODS.get(entry.type)
    if request.method != method:
        return False
    if entry.type == "task.deleted":
        return True
    task, asked = entry.event["data"]["task"], request.body or {}
    if entry.type == "task.updated" and request.path.rsplit("/", 1)[1] != task["id"]:
        return False
    base = DEFAULTS if entry.type == "task.created" else old or {}
    fields = {"title", "repository", *DEFAULTS}
    return all(task[field] == asked.get(field, base.get(field)) for field in fields)


def _one_request(log: Log, request: Request, entries: list[Entry]) -> Iterator[Violation]:
    def violation(name: str, text: str) -> Violation:
        seq = entries[0].seq if entries else log.seq(request.attempts[-1].cursor) or 0
        return Violation(name, f"{request.op} {text}", request.where, request.line, seq)

    if len(entries) > 1:
        numbers = ", ".join(str(entry.seq) for entry in entries)
        yield violation(
            "Idempotency" if request.key else "No invention", f"was made more than once: {numbers}"
        )
    if entries and all(attempt.refused for attempt in request.attempts):
        statuses = sorted({str(attempt.status) for attempt in request.attempts})
        yield violation(
            "No invention", f"was refused ({', '.join(statuses)}) and made all the same"
        )
    acknowledged = request.acknowledged
    if not acknowledged:
        return
    if not entries:
        yield violation(
            "I5 Durable first",
            f"was acknowledged as {acknowledged[0].cursor} and is not in the log",
        )
        return
    if any(log.seq(attempt.cursor) != entries[0].seq for attempt in acknowledged):
        cursors = sorted({str(attempt.cursor) for attempt in acknowledged})
        name = "I5 Durable first" if len(cursors) == 1 else "Idempotency"
        yield violation(
            name, f"was acknowledged as {', '.join(cursors)} and is number {entries[0].seq}"
        )
    if any(not _same_answer(attempt, entries[0]) for attempt in acknowledged):
        yield violation("I5 Durable first", "was answered with another task than the log has")


def _same_answer(attempt: Attempt, entry: Entry) -> bool:
    if entry.type == "task.deleted":
        return attempt.status == 204
    same: bool = attempt.body == entry.event["data"]["task"]
    return same


def _keys(requests: dict[str, Request]) -> Iterator[Violation]:
    """A key stands for one request."""
    first: dict[str, Request] = {}
    for request in requests.values():
        if request.key and request.acknowledged:
            other = first.setdefault(request.key, request)
            if other is not request:
                text = f"{request.op} was acknowledged under the key of {other.op}"
                yield Violation("Idempotency", text, request.where, request.line)


def _real_time(requests: dict[str, Request], made: dict[str, list[Entry]]) -> Iterator[Violation]:
    """What was acknowledged before another was asked for stands before it in the log."""
    moments: list[tuple[int, int, int, Request]] = []
    for request in requests.values():
        entries = made.get(request.op)
        if entries:
            moments.append((request.attempts[0].sent, 1, entries[0].seq, request))
            for attempt in request.acknowledged[:1]:
                moments.append((attempt.answered or 0, 0, entries[0].seq, request))
    newest = 0
    for _, is_sent, seq, request in sorted(moments, key=lambda moment: moment[:3]):
        if not is_sent:
            newest = max(newest, seq)
        elif seq < newest:
            text = (
                f"{request.op} is number {seq}, and was asked for after {newest} was acknowledged"
            )
            yield Violation("Real time", text, request.where, request.line, seq)


def first_asked(log: Log, requests: dict[str, Request]) -> dict[int, int]:
    """When the change of each number was asked for: no number can be known before."""
    deletions = {r.path.rsplit("/", 1)[1]: r for r in requests.values() if r.method == "DELETE"}
    asked = {}
    for entry in log.entries:
        data = entry.event["data"]
        request = (
            deletions.get(data["task_id"])
            if entry.type == "task.deleted"
            else requests.get(data["task"]["title"])
        )
        if request:
            asked[entry.seq] = request.attempts[0].sent
    return asked


# Until the second of these, no change that was asked for after the first can have become durable.
WINDOWS = {"disk_full": "disk_free", "failing_sync": "ended"}


def judge_faults(faults: list[Line], requests: dict[str, Request]) -> Iterator[Violation]:
    begun: tuple[str, int] | None = None
    for fault in faults:
        if begun and fault["kind"] == WINDOWS[begun[0]]:
            yield from _none_acknowledged(
                begun[0].replace("_", " "), begun[1], fault["t"], requests
            )
            begun = None
        elif fault["kind"] in WINDOWS:
            begun = (fault["kind"], fault["t"])


def _none_acknowledged(
    fault: str, begin: int, end: int, requests: dict[str, Request]
) -> Iterator[Violation]:
    for request in requests.values():
        # An answer that is kept may be given again.
        for attempt in request.acknowledged[:1]:
            if begin < request.attempts[0].sent and (attempt.answered or end) < end:
                text = f"{request.op} was acknowledged during a {fault}"
                yield Violation("I5 Durable first", text, request.where, request.line)

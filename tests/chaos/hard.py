"""How hard a run was, told from its histories. One that was too easy shows nothing, so it fails."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from history import Line, Log, Request, Stream, lines

Counts = dict[str, int]

# Per form: the least of each. `scenario` is a run for a single mutant.
LEAST: dict[str, Counts] = {
    "short": {
        "acknowledged changes": 1000,
        "kills": 30,
        "kills with a write in flight": 10,
        "lost answers": 20,
        "lost answers of changes that were made": 1,
        "keyed requests sent again": 10,
        "kept answers given again": 1,
        "refusals on purpose": 30,
        "pauses of the server": 2,
        "changes refused by a full disk": 5,
        "ends by a failing sync": 1,
        "SDK processes killed": 2,
        "resumes that replayed": 60,
        "resumes counted by the server": 60,
        "switches to catching up": 2,
        "switches back to live": 1,
        "snapshots": 15,
        "snapshots of the SDK": 2,
        "snapshots cut in the middle": 3,
        "resets: expired": 1,
        "resets: incarnation": 1,
        "resets: future": 1,
        "resets: malformed": 1,
    },
    "scenario": {"acknowledged changes": 20},
}
# What is not shown where no process may trace another.
TRACED = ["changes refused by a full disk", "ends by a failing sync"]
LEAST["long"] = {
    name: least if name.startswith("resets") else 8 * least
    for name, least in LEAST["short"].items()
}


def replaying(stream: Stream) -> int:
    """Resumes after which something came that had happened before."""
    if stream.is_sdk:
        # Its own word for it; the events are judged elsewhere.
        return sum(
            step.said.get("kind") == "caught_up" and step.said["replayed"] > 0
            for step in stream.steps
            if step.kind == "saved"
        )
    resumes, head = 0, 0
    for step in stream.steps:
        if step.kind == "ack":
            resumed = step.said["mode"] == "resumed"
            head = number(step.said["head"]) if resumed else 0
        elif step.kind == "event" and head:
            resumes += number(step.cursor) <= head
            head = 0
    return resumes


def snapshots(stream: Stream) -> int:
    return sum(step.kind == "snapshot" and step.said["last"] for step in stream.steps)


def cut_snapshots(stream: Stream) -> int:
    """Connections that ended with a part of a snapshot."""
    cuts, has_part = 0, False
    for step in stream.steps:
        if step.kind == "snapshot":
            has_part = not step.said["last"]
        elif step.kind in ("closed", "open"):
            cuts += has_part
            has_part = False
    return cuts


def number(cursor: str | None) -> int:
    return int((cursor or "0").rsplit("-", 1)[-1])


def in_flight(kills: list[int], requests: dict[str, Request]) -> int:
    """Kills that came between a request and its answer, which then was lost."""
    open_times = [
        (attempt.sent, attempt.ended or attempt.sent)
        for request in requests.values()
        for attempt in request.attempts
        if attempt.lost
    ]
    return sum(any(sent <= kill <= end for sent, end in open_times) for kill in kills)


def measure(
    folder: Path, run: Line, log: Log, requests: dict[str, Request], streams: list[Stream]
) -> Counts:
    faults = [line for _, line in lines(folder / "faults.jsonl")]
    kills = [line["t"] for line in faults if line["kind"] == "kill"]
    attempts = [(request, attempt) for request in requests.values() for attempt in request.attempts]
    made = {e.event["data"].get("task", {}).get("title") for e in log.entries}
    counts: Counts = {
        "changes in the log": len(log.entries),
        "acknowledged changes": sum(bool(request.acknowledged) for request in requests.values()),
        "kills": len(kills),
        "kills with a write in flight": in_flight(kills, requests),
        "lost answers": sum(attempt.lost for _, attempt in attempts),
        "lost answers of changes that were made": sum(
            request.op in made and request.attempts[0].lost for request in requests.values()
        ),
        "keyed requests sent again": sum(
            bool(request.key and request.attempts[0].lost and request.acknowledged)
            for request in requests.values()
        ),
        "kept answers given again": sum(
            len(request.acknowledged) > 1 for request in requests.values()
        ),
        "refusals on purpose": sum(
            attempt.status is not None and 400 <= attempt.status < 500 for _, attempt in attempts
        ),
        "pauses of the server": sum(line["kind"] == "pause" for line in faults),
        "changes refused by a full disk": sum(attempt.status == 503 for _, attempt in attempts),
        "ends by a failing sync": sum(line["kind"] == "ended" for line in faults),
        "SDK processes killed": sum(line["kind"] == "kill_sdk" for line in faults),
        "resumes that replayed": sum(replaying(stream) for stream in streams),
        "snapshots": sum(snapshots(stream) for stream in streams if not stream.is_sdk),
        "snapshots of the SDK": sum(snapshots(stream) for stream in streams if stream.is_sdk),
        "snapshots cut in the middle": sum(cut_snapshots(stream) for stream in streams),
    }
    counters: dict[str, Any] = run["counters"]
    for name, counter in (
        ("resumes counted by the server", "taskwatch_resumes_total"),
        ("events replayed", "taskwatch_events_replayed_total"),
        ("switches to catching up", "taskwatch_switches_to_catching_up_total"),
        ("switches back to live", "taskwatch_switches_back_to_live_total"),
    ):
        counts[name] = counters.get(counter, 0)
    for reason in ("expired", "incarnation", "future", "malformed"):
        counts[f"resets: {reason}"] = counters.get(
            f'taskwatch_resets_total{{reason="{reason}"}}', 0
        )
    return counts


def too_easy(form: str, counts: Counts, not_tried: Collection[str] = ()) -> list[str]:
    return [
        f"{name}: {counts.get(name, 0)}, at least {least}"
        for name, least in LEAST[form].items()
        if counts.get(name, 0) < least and name not in not_tried
    ]

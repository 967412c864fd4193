"""Judges the answers to cursors that no longer hold, as the protocol's page has them.

Each recording begins with a line of kind `case`: what was asked, and, read from the database at
that moment, what a resume or a snapshot has to send.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from history import Line, Violation, lines

KINDS = {"welcome", "ping", "pong"}


def judge_resets(folder: Path) -> Iterator[Violation]:
    for path in sorted(folder.glob("*.jsonl")):
        rows = list(lines(path))
        if rows and rows[0][1]["kind"] == "case":
            judge = _raw(rows)
        else:
            judge = _sdk(rows, "live" if path.stem.endswith("-live") else "error")
        for line, text in judge:
            yield Violation("Reset", f"{path.stem}: {text}", path.stem, line)


def _raw(rows: list[tuple[int, Line]]) -> Iterator[tuple[int, str]]:
    case, answer = rows[0][1], None
    events: list[str] = []
    tasks: list[tuple[str, int]] = []
    # Of a snapshot that was asked for.
    is_whole = case["on_gap"] != "snapshot"
    for line, row in rows[1:]:
        if row["kind"] != "frame" or row["type"] in KINDS:
            # Whoever saved it would come back behind what it was just told to have lost.
            if row.get("cursor") and not (answer and answer["data"]["accepted"]):
                yield line, "a bookmark comes although nothing is subscribed"
            continue
        if row["type"].startswith("task."):
            if answer is None or not is_whole:
                yield line, "an event comes before the answer"
            events.append(row["cursor"])
        elif row["type"] == "subscribed" and answer is None:
            answer = row
            for text in _answer(case, row):
                yield line, text
        elif row["type"] == "snapshot" and answer and not is_whole:
            tasks += [(task["id"], task["version"]) for task in row["data"]["tasks"]]
            is_whole = row["data"]["last"]
            if is_whole and row["cursor"] != answer["data"]["head"]:
                yield (
                    line,
                    f"the snapshot is of {row['cursor']}, the head is {answer['data']['head']}",
                )
        else:
            yield line, f"{row['type']} comes: {row.get('data')}"
    if answer is None:
        yield len(rows), "there is no answer"
    elif not is_whole or sorted(tasks) != sorted(case.get("tasks", {}).items()):
        yield len(rows), f"{len(tasks)} tasks came, not the {len(case['tasks'])} that there are"
    elif events != case["events"]:
        yield len(rows), f"{len(events)} events came, not the {len(case['events'])} that follow"


def _answer(case: Line, row: Line) -> Iterator[str]:
    data, cursor = row["data"], row.get("cursor")
    told = (data["mode"], data.get("reason"))
    if told != (case["mode"], case["reason"]):
        yield f"the answer is {told}, not {(case['mode'], case['reason'])}"
        return
    if case["mode"] == "resumed":
        if cursor != case["since"]:
            yield f"resumed at {cursor}, asked for {case['since']}"
    elif case["on_gap"] == "snapshot":
        if cursor is not None or not data["accepted"]:
            yield f"goes on at {cursor} with {data['accepted']}, before the tasks"
    elif case["on_gap"] == "live":
        if cursor != data["head"] or not data["accepted"]:
            yield f"goes on at {cursor} with {data['accepted']}; the head is {data['head']}"
    elif cursor is not None or data["accepted"]:
        yield f"goes on at {cursor} with {data['accepted']}, although nobody wished it"


def _sdk(rows: list[tuple[int, Line]], wished: str) -> Iterator[tuple[int, str]]:
    """The SDK says the gap before anything else, and goes on or ends, as it was told."""
    told = None
    for line, row in rows:
        if row["kind"] == "event" and told is None:
            yield line, "an event comes before the gap"
        if row["kind"] in ("gap", "end") and told is None:
            told = row
            if (row["kind"] == "gap") != (wished == "live"):
                yield line, f"{row['kind']} although {wished} was chosen"
    if told is None:
        yield len(rows), "the stream says nothing of a gap"
    elif wished == "live" and not any(row["kind"] == "event" for _, row in rows):
        yield len(rows), "the stream does not go on"

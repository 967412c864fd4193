"""What the tests of the checker have in common: they spoil a good history in one place."""

from __future__ import annotations

import contextlib
import io
import tempfile
import unittest
from collections.abc import Callable
from pathlib import Path

import check
from story import EVENTS, Line, Story, cursor, good

Spoil = Callable[[Story], object]


def judged(story: Story) -> check.Report:
    with tempfile.TemporaryDirectory() as folder:
        story.save(Path(folder))
        report = check.judge(Path(folder))
        # It must also be able to tell it.
        with contextlib.redirect_stdout(io.StringIO()) as said:
            check.show(report)
    for violation in report.violations[:1]:
        assert f"VIOLATED: {violation}" in said.getvalue()
    return report


class Spoilt(unittest.TestCase):
    def names(self, spoil: Spoil) -> set[str]:
        story = good()
        spoil(story)
        report = judged(story)
        self.assertEqual(report.code, 1)
        return report.names

    def rejects(self, name: str, spoil: Spoil) -> None:
        """With this name, and no other."""
        self.assertEqual({name}, self.names(spoil))

    def rejects_stream(self, name: str, stream: str, spoil: Callable[[list[Line]], object]) -> None:
        self.rejects(name, lambda story: spoil(story.streams[stream]))


def event_at(lines: list[Line], seq: int) -> int:
    """Where the event of a number stands in a recording."""
    for index, line in enumerate(lines):
        if str(line.get("type", line["kind"])).split(".")[0] in ("task", "event"):
            if (line.get("at") or line["cursor"]).endswith(f"-{seq}"):
                return index
    raise AssertionError(f"{seq} is not in the recording")


def pong_at(lines: list[Line], seq: int) -> int:
    found = (i for i, line in enumerate(lines) if line.get("type") == "pong")
    return next(index for index in found if lines[index]["cursor"] == cursor(seq))


def leave_out(lines: list[Line], seq: int) -> None:
    at = event_at(lines, seq)
    del lines[at]
    count_more(lines[at:], -1)


def count_more(lines: list[Line], more: int) -> None:
    """What the server says to have delivered, until the connection ends."""
    for line in lines:
        if line["kind"] == "open":
            return
        if "delivered" in line.get("data", {}):
            line["data"]["delivered"] += more


def snapshot_part(story: Story, task: str) -> list[Line]:
    for line in story.streams["snapshot"]:
        tasks = line.get("data", {}).get("tasks", [])
        if any(one["id"] == task for one in tasks):
            found: list[Line] = tasks
            return found
    raise AssertionError(f"{task} is in no part")


def drop_last(story: Story) -> None:
    """The last change is nowhere but in its acknowledgement."""
    row = story.rows.pop()
    story.head -= 1
    old = row["event"]["data"]["changes"]["title"]["from"]
    task = story.tasks[row["event"]["data"]["task_id"]]
    task |= {"title": old, "version": task["version"] - 1}
    for lines in story.streams.values():
        lines[:] = [
            line for line in lines if cursor(EVENTS) not in (line.get("cursor"), line.get("at"))
        ]

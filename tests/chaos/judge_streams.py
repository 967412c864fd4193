"""Judges what each subscriber saw against the log."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from history import Entry, Line, Log, Step, Stream, Violation

LEVEL_SECONDS = 60


class Judge:
    """Goes through one stream, and knows at each step what must come next."""

    def __init__(self, log: Log, stream: Stream, asked: dict[int, int]) -> None:
        self.log = log
        self.stream = stream
        self.asked = asked
        # When each number comes in the recording, to tell what is late from what is lost.
        self.coming: dict[int, list[int]] = {}
        for step in stream.steps:
            seq = log.seq(step.cursor) if step.kind == "event" else None
            if seq is not None:
                self.coming.setdefault(seq, []).append(step.line)
        self.matching = [entry for entry in log.entries if stream.wants(entry)]
        # What must come, from `next` on; None before the first acknowledgement.
        self.expected: list[Entry] | None = None
        self.next = 0
        self.seen: set[int] = set()
        self.newest = 0
        self.bookmark = 0
        # Of this connection.
        self.since: int | None = None
        self.delivered = 0
        # Of the snapshot that is coming in: its tasks, and whether a part of it has come.
        self.collected: list[Line] | None = None
        self.has_part = False
        self.state = State(log, stream)
        self.level_at = 0

    def violations(self, healed: int) -> Iterator[Violation]:
        for step in self.stream.steps:
            for violation in getattr(self, f"_{step.kind}")(step):
                text = f"{self.stream.name}: {violation.text}"
                yield Violation(violation.name, text, self.stream.name, step.line, violation.seq)
        name = self.stream.name
        if self.expected is None:
            yield Violation("Liveness", f"{name}: never subscribed", name)
            return
        missing = self.expected[self.next :]
        if missing:
            text = f"{name}: ends before number {missing[0].seq}; {len(missing)} never came"
            yield Violation("Liveness", text, name, self._last_line(), missing[0].seq)
        late = (self.level_at - healed) / 1e9
        if late > LEVEL_SECONDS:
            text = f"{name}: level {late:.1f} s after the last fault"
            yield Violation("Liveness", text, name, self._last_line())

    def _last_line(self) -> int:
        return self.stream.steps[-1].line if self.stream.steps else 0

    def _begin(self, after: int) -> None:
        """From a position on, everything that matches must come."""
        self.expected = self.matching
        self.next = bisect_right(self.matching, after, key=lambda entry: entry.seq)
        self.seen, self.newest, self.bookmark = set(), 0, after

    def _open(self, step: Step) -> Iterator[Violation]:
        self.delivered = 0
        self.collected = None
        self.since = self.log.seq(step.cursor)
        if step.cursor is None:
            # It begins anew: what it saw before binds nobody.
            self.expected = None
        if step.cursor and self.since is None:
            yield Violation(
                "I6 Bookmark", f"resumes from {step.cursor}, which the log does not have"
            )
        if step.cursor and self.expected is None and self.since is not None:
            self._begin(self.since)

    def _closed(self, step: Step) -> Iterator[Violation]:
        self.collected = None
        yield from ()

    def _error(self, step: Step) -> Iterator[Violation]:
        yield Violation("Reset", f"was refused: {step.said}")

    def _gap(self, step: Step) -> Iterator[Violation]:
        yield Violation("Reset", f"a gap ({step.said.get('reason')}), although everything is kept")

    def _end(self, step: Step) -> Iterator[Violation]:
        yield Violation("Reset", f"ended for good: {step.said.get('error')}")

    def _ack(self, step: Step) -> Iterator[Violation]:
        mode, at = step.said["mode"], self.log.seq(step.cursor)
        if mode == "snapshot":
            self.collected, self.has_part = [], False
            if step.cursor is not None:
                yield Violation("I7 Snapshot", "the acknowledgement has a cursor, before the tasks")
        elif mode == "live" and at is not None:
            self._begin(at)
        elif mode == "resumed":
            if self.since is None or at != self.since:
                yield Violation("Reset", f"resumed at {step.cursor}, which was not asked for")
            yield from self._bookmark(step)
        else:
            reason = step.said.get("reason")
            yield Violation("Reset", f"mode {mode} ({reason}), although everything is kept")

    def _event(self, step: Step) -> Iterator[Violation]:
        self.delivered += 1
        seq = self.log.seq(step.cursor)
        entry = self.log.at(seq) if seq is not None else None
        if seq is None or entry is None:
            yield Violation(
                "I5 Durable first", f"has an event that is not in the log: {step.cursor}"
            )
            return
        if self.collected is not None:
            yield Violation("I7 Snapshot", f"number {seq} comes amid a snapshot", seq=seq)
        if self.expected is None:
            yield Violation("Reset", f"number {seq} comes before the acknowledgement", seq=seq)
            return
        if step.said["hash"] != entry.hash:
            yield Violation("No invention", f"number {seq} differs from the log's", seq=seq)
        if not self.stream.wants(entry):
            text = f"number {seq} ({entry.type} of {entry.repository}) was not asked for"
            yield Violation("I4 Filter", text, seq=seq)
            return
        if seq in self.seen or (self.since is not None and seq <= self.since):
            yield Violation("I2 Once", f"number {seq} comes again", seq=seq)
            return
        self.seen.add(seq)
        if seq < self.newest:
            yield Violation("I1 Order", f"number {seq} comes after {self.newest}", seq=seq)
            return
        if seq <= self.bookmark:
            text = f"number {seq} comes after a bookmark that covers it"
            yield Violation("I6 Bookmark", text, seq=seq)
        while self.next < len(self.expected) and self.expected[self.next].seq < seq:
            missed = self.expected[self.next].seq
            # One that comes later is told of there.
            if not self._comes_after(missed, step.line):
                yield Violation("I3 No gap", f"number {missed} is missing before {seq}", seq=missed)
            self.next += 1
        self.next += 1
        self.newest = seq
        if self.next == len(self.expected):
            self.level_at = step.t

    def _comes_after(self, seq: int, line: int) -> bool:
        return any(later > line for later in self.coming.get(seq, []))

    def _bookmark(self, step: Step) -> Iterator[Violation]:
        if step.cursor is not None:
            yield from self._covers(step)
        told = step.said.get("delivered")
        if told is not None and told != self.delivered:
            text = f"delivered says {told}, {self.delivered} events came on this connection"
            yield Violation("I3 No gap", text)
            # Told once, not at each bookmark.
            self.delivered = told

    def _saved(self, step: Step) -> Iterator[Violation]:
        """The SDK's `cursor()`: whoever goes on there must miss nothing."""
        if self.expected is None:
            at = self.log.seq(step.cursor)
            if at is not None:
                self._begin(at)
                return
        yield from self._covers(step)

    def _covers(self, step: Step) -> Iterator[Violation]:
        """Everything that matches up to this cursor came before it."""
        at = self.log.seq(step.cursor)
        if at is None:
            yield Violation("I6 Bookmark", f"{step.cursor} is no position of the log")
            return
        if self.collected is not None:
            yield Violation("I7 Snapshot", f"a bookmark ({at}) comes amid a snapshot", seq=at)
            return
        if self.expected is None:
            # Whoever saved it would go on behind what is still to come.
            yield Violation("I6 Bookmark", f"a bookmark ({at}) before any subscription", seq=at)
            return
        if at < max(self.bookmark, self.newest):
            text = f"the bookmark goes back from {max(self.bookmark, self.newest)} to {at}"
            yield Violation("I6 Bookmark", text, seq=at)
        asked = self.asked.get(at)
        if not self.stream.is_sdk and asked is not None and step.t < asked:
            text = f"the bookmark names {at} before that change was asked for"
            yield Violation("I6 Bookmark", text, seq=at)
        while self.next < len(self.expected) and self.expected[self.next].seq <= at:
            missed = self.expected[self.next].seq
            if self._comes_after(missed, step.line):
                text = f"the bookmark {at} stands before number {missed}"
                yield Violation("I6 Bookmark", text, seq=missed)
                break
            yield Violation("I3 No gap", f"number {missed} is missing before {at}", seq=missed)
            self.next += 1
        self.bookmark = max(self.bookmark, at)

    def _snapshot(self, step: Step) -> Iterator[Violation]:
        said = step.said
        if self.collected is None or said["first"] == self.has_part:
            yield Violation("I7 Snapshot", "a part of a snapshot comes out of turn")
            return
        self.has_part = True
        self.collected += said["tasks"]
        if said["last"] != (step.cursor is not None):
            yield Violation("I7 Snapshot", "the last part, and only it, has the cursor")
        if not said["last"]:
            return
        at, tasks = self.log.seq(step.cursor), self.collected
        self.collected = None
        if at is None:
            yield Violation("I7 Snapshot", f"{step.cursor} is no position of the log")
            return
        if at < max(self.newest, self.bookmark):
            text = (
                f"the snapshot at {at} is older than {max(self.newest, self.bookmark)}, seen before"
            )
            yield Violation("I7 Snapshot", text, seq=at)
        found = {task["id"]: task for task in tasks}
        truth = self.state.at(at)
        if len(found) != len(tasks):
            yield Violation("I7 Snapshot", f"the snapshot at {at} has a task twice", seq=at)
        if found != truth:
            differing = {id for id in found.keys() | truth.keys() if found.get(id) != truth.get(id)}
            text = f"the snapshot at {at} is not the log up to there: {sorted(differing)[:2]}"
            yield Violation("I7 Snapshot", text, seq=at)
        self._begin(at)


class State:
    """The tasks of a stream's repositories, as the log makes them up to a number."""

    def __init__(self, log: Log, stream: Stream) -> None:
        self.log = log
        # A snapshot has no types.
        self.stream = Stream(stream.name, stream.patterns, None, [])
        self.seq = 0
        self.tasks: dict[str, Line] = {}

    def at(self, seq: int) -> dict[str, Line]:
        if seq < self.seq:
            self.seq, self.tasks = 0, {}
        for number in range(self.seq + 1, seq + 1):
            entry = self.log.at(number)
            if entry and self.stream.wants(entry):
                data = entry.event["data"]
                self.tasks.pop(data["task_id"], None)
                if "task" in data:
                    self.tasks[data["task_id"]] = data["task"]
        self.seq = seq
        return self.tasks


def judge_stream(log: Log, stream: Stream, asked: dict[int, int], healed: int) -> list[Violation]:
    return list(Judge(log, stream, asked).violations(healed))

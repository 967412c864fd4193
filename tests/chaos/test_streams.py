"""A stream that breaks a promise is rejected, with the promise's name."""

from __future__ import annotations

import unittest
from collections.abc import Callable

from spoil import Spoilt, count_more, event_at, leave_out, pong_at, snapshot_part
from story import CUT, EVENTS, STEP, Line, Story, cursor, frame_of


class Streams(Spoilt):
    # I1 Order

    def test_two_events_swapped(self) -> None:
        def swap(lines: list[Line]) -> None:
            at = event_at(lines, 7)
            lines[at], lines[at + 1] = lines[at + 1], lines[at]

        self.rejects_stream("I1 Order", "all", swap)

    def test_a_hole_in_the_numbers_of_the_log(self) -> None:
        def hole(story: Story) -> None:
            story.rows[-1]["seq"] = story.head = EVENTS + 1
            story.event(-1, cursor=cursor(EVENTS + 1))

        self.assertIn("I1 Order", self.names(hole))

    def test_a_head_that_is_not_the_last_number(self) -> None:
        self.rejects("I1 Order", lambda story: setattr(story, "head", EVENTS + 1))

    def test_a_cursor_that_names_another_number(self) -> None:
        def other(story: Story) -> None:
            story.event(4, cursor=cursor(6))

        self.assertIn("I1 Order", self.names(other))

    # I2 Once

    def test_an_event_twice(self) -> None:
        def twice(lines: list[Line]) -> None:
            at = event_at(lines, 9)
            lines.insert(at, lines[at])
            count_more(lines[at + 1 :], 1)

        for stream in ("all", "part", "snapshot", "sdk"):
            with self.subTest(stream):
                self.rejects_stream("I2 Once", stream, twice)

    def test_a_resume_that_repeats_the_event_of_its_cursor(self) -> None:
        def repeat(story: Story) -> None:
            lines = story.streams["all"]
            at = next(
                i for i, line in enumerate(lines) if line.get("data", {}).get("mode") == "resumed"
            )
            lines.insert(at + 1, frame_of(story.rows[CUT - 1], 2))
            count_more(lines[at + 2 :], 1)

        self.rejects("I2 Once", repeat)

    # I3 No gap

    def test_an_event_left_out(self) -> None:
        for stream in ("all", "part", "snapshot", "sdk"):
            with self.subTest(stream):
                self.rejects_stream("I3 No gap", stream, lambda lines: leave_out(lines, 14))

    def test_a_first_event_left_out(self) -> None:
        self.rejects_stream("I3 No gap", "all", lambda lines: leave_out(lines, 1))

    def test_a_count_that_is_one_too_high(self) -> None:
        def miscount(lines: list[Line]) -> None:
            lines[pong_at(lines, 10)]["data"]["delivered"] += 1

        self.rejects_stream("I3 No gap", "part", miscount)

    # I4 Filter

    def test_an_event_of_another_repository(self) -> None:
        def foreign(story: Story) -> None:
            lines = story.streams["part"]
            row = next(
                row for row in story.rows if row["repository"] == "tools" and row["seq"] > CUT
            )
            lines.insert(event_at(lines, 20), frame_of(row, 2))
            count_more(lines[event_at(lines, 20) :], 1)

        self.rejects("I4 Filter", foreign)

    def test_an_event_of_another_type(self) -> None:
        def narrowed(story: Story) -> None:
            story.wishes[0]["types"] = ["task.created", "task.updated"]

        self.rejects("I4 Filter", narrowed)

    # I6 Bookmark

    def test_a_bookmark_one_ahead(self) -> None:
        def ahead(lines: list[Line]) -> None:
            at = pong_at(lines, 5)
            # Late enough for the change to have been asked for.
            lines[at] |= {"cursor": cursor(6), "t": 6 * STEP + 600}

        self.rejects_stream("I6 Bookmark", "all", ahead)

    def test_a_bookmark_ahead_of_the_log(self) -> None:
        self.rejects_stream(
            "I6 Bookmark",
            "all",
            lambda lines: lines[pong_at(lines, EVENTS)].update(cursor=cursor(EVENTS + 1)),
        )

    def test_a_bookmark_of_what_nobody_had_asked_for_yet(self) -> None:
        # Number 11 is of a repository that this one does not see, so nothing else tells.
        def early(story: Story) -> None:
            seq = next(r["seq"] for r in story.rows if r["repository"] == "tools" and r["seq"] > 10)
            lines = story.streams["part"]
            lines[pong_at(lines, 10)]["cursor"] = cursor(seq)

        self.rejects("I6 Bookmark", early)

    def test_a_bookmark_before_any_subscription(self) -> None:
        def early(lines: list[Line]) -> None:
            lines.insert(1, lines[pong_at(lines, 5)] | {"data": {"delivered": 0}})

        self.rejects_stream("I6 Bookmark", "all", early)

    def test_a_bookmark_that_goes_back(self) -> None:
        self.rejects_stream(
            "I6 Bookmark", "part", lambda lines: lines[pong_at(lines, 15)].update(cursor=cursor(9))
        )

    def test_a_bookmark_of_a_life_that_this_log_never_had(self) -> None:
        foreign = "c1-00000000000000cc-5"
        self.rejects_stream(
            "I6 Bookmark", "all", lambda lines: lines[pong_at(lines, 5)].update(cursor=foreign)
        )

    def test_a_bookmark_beyond_the_end_of_its_life(self) -> None:
        self.rejects_stream(
            "I6 Bookmark",
            "all",
            lambda lines: lines[pong_at(lines, 15)].update(cursor=cursor(15, life=0)),
        )

    def test_a_cursor_of_the_sdk_ahead_of_what_it_yielded(self) -> None:
        def ahead(lines: list[Line]) -> None:
            lines[event_at(lines, 7)]["cursor"] = cursor(8)

        self.rejects_stream("I6 Bookmark", "sdk", ahead)

    # I7 Snapshot

    def test_a_snapshot_one_event_old(self) -> None:
        def old(story: Story) -> None:
            # Number 8 changed this task.
            part = snapshot_part(story, "task-5")
            part[:] = [
                task | {"version": 1, "title": "w1-5"} if task["id"] == "task-5" else task
                for task in part
            ]

        self.rejects("I7 Snapshot", old)

    def test_a_snapshot_without_a_task(self) -> None:
        self.rejects("I7 Snapshot", lambda story: snapshot_part(story, "task-6").pop())

    def test_a_snapshot_with_a_task_twice(self) -> None:
        def twice(story: Story) -> None:
            part = snapshot_part(story, "task-6")
            part.append(part[0])

        self.rejects("I7 Snapshot", twice)

    def test_an_event_amid_a_snapshot(self) -> None:
        def amid(story: Story) -> None:
            lines = story.streams["snapshot"]
            lines.insert(3, frame_of(story.rows[7], 1))

        self.assertIn("I7 Snapshot", self.names(amid))

    def test_a_bookmark_amid_a_snapshot(self) -> None:
        self.rejects_stream(
            "I7 Snapshot", "snapshot", lambda lines: lines[3].update(cursor=cursor(8))
        )

    def test_a_snapshot_that_is_not_ended_by_its_cursor(self) -> None:
        self.assertIn(
            "I7 Snapshot", self.names(lambda s: s.streams["snapshot"][2].update(cursor=cursor(8)))
        )

    def test_a_part_of_a_snapshot_left_out(self) -> None:
        self.assertIn("I7 Snapshot", self.names(lambda s: s.streams["snapshot"].pop(2)))

    # The end

    def test_a_stream_that_never_gets_level(self) -> None:
        def short(lines: list[Line]) -> None:
            del lines[event_at(lines, EVENTS) :]

        for stream in ("all", "snapshot", "sdk"):
            with self.subTest(stream):
                self.rejects_stream("Liveness", stream, short)

    def test_a_stream_that_is_level_too_late(self) -> None:
        def late(story: Story) -> None:
            story.healed = -61 * 10**9

        self.rejects("Liveness", late)

    def test_a_reset_without_a_reason(self) -> None:
        def reset(lines: list[Line]) -> None:
            data = next(
                line["data"] for line in lines if line.get("data", {}).get("mode") == "resumed"
            )
            data |= {"mode": "reset", "reason": "expired"}

        self.rejects_stream("Reset", "all", reset)

    def test_answers_to_cursors_that_do_not_hold(self) -> None:
        event = {
            "t": 0,
            "kind": "frame",
            "conn": 1,
            "type": "task.created",
            "cursor": cursor(3),
            "hash": "",
        }
        cases: dict[str, Callable[[dict[str, list[Line]]], object]] = {
            "an event before the reset": lambda r: r["expired"].insert(2, event),
            "an event after the reset": lambda r: r["expired"].append(event),
            "a bookmark after it": lambda r: r["expired"][3].update(cursor=cursor(9)),
            "another reason": lambda r: r["expired"][2]["data"].update(reason="future"),
            "a resume instead": lambda r: r["expired"][2]["data"].update(
                mode="resumed", reason=None
            ),
            "a subscription nobody wished": lambda r: r["expired"][2].update(cursor=cursor(9)),
            "no answer": lambda r: r["expired"].pop(2),
            "an event left out after it": lambda r: r["goes-on"].pop(),
            "a task left out": lambda r: r["anew"].pop(2),
            "an event amid the tasks": lambda r: r["anew"].insert(3, r["anew"].pop()),
            "tasks that end nowhere": lambda r: r["anew"].pop(3),
            "tasks of another position": lambda r: r["anew"][3].update(cursor=cursor(8)),
            "an event left out of a resume": lambda r: r["resumed"].pop(2),
            "an event too many in a resume": lambda r: r["resumed"].insert(2, event),
            "an event of the SDK before its gap": lambda r: r["sdk-live"].insert(
                1, r["sdk-live"][2]
            ),
            "a gap that ends a stream that goes on": lambda r: r["sdk-live"][1].update(kind="end"),
            "a gap that is passed over": lambda r: r["sdk-error"].pop(),
        }
        for name, spoil in cases.items():
            with self.subTest(name):
                self.rejects_resets(spoil)

    def rejects_resets(self, spoil: Callable[[dict[str, list[Line]]], object]) -> None:
        self.rejects("Reset", lambda story: spoil(story.resets))


if __name__ == "__main__":
    unittest.main()

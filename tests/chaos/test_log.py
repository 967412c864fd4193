"""A log, or an answer to a writer, that breaks a promise is rejected, with the promise's name."""

from __future__ import annotations

import unittest
from functools import partial

import hard
from spoil import Spoilt, drop_last, event_at, judged
from story import STEP, Story, cursor, frame_of, good


class GoodHistory(unittest.TestCase):
    def test_passes(self) -> None:
        report = judged(good())
        self.assertEqual([str(v) for v in report.violations], [])
        self.assertEqual(report.counts["keyed requests sent again"], 1)

    def test_that_was_too_easy_fails(self) -> None:
        story = good()
        self.assertEqual(judged(story).code, 0)
        story.form = "short"
        report = judged(story)
        self.assertEqual(report.code, 3)
        least = hard.LEAST["short"]["acknowledged changes"]
        self.assertIn(f"acknowledged changes: 20, at least {least}", report.too_easy)

    def test_may_go_without_what_cannot_be_tried(self) -> None:
        story = good()
        story.form, story.not_tried = "short", list(hard.LEAST["short"])
        self.assertEqual(judged(story).code, 0)

    def test_is_hard_only_in_every_respect(self) -> None:
        for form, least in hard.LEAST.items():
            self.assertEqual(hard.too_easy(form, least), [])
            for name, count in least.items():
                self.assertEqual(len(hard.too_easy(form, least | {name: count - 1})), 1, name)


class Log(Spoilt):
    # I5 Durable first

    def test_an_acknowledged_change_that_is_not_in_the_log(self) -> None:
        def lose(story: Story) -> None:
            drop_last(story)

        self.rejects("I5 Durable first", lose)

    def test_an_event_that_is_not_in_the_log(self) -> None:
        def ghost(story: Story) -> None:
            story.streams["all"].append(
                frame_of(
                    story.rows[0]
                    | {"event": {"type": "task.created", "cursor": cursor(21), "data": {}}},
                    2,
                )
            )

        self.rejects("I5 Durable first", ghost)

    def test_an_acknowledgement_with_another_cursor(self) -> None:
        def other(story: Story) -> None:
            next(r for r in story.requests if r["op"] == "w1-5" and r["kind"] == "answered")[
                "cursor"
            ] = cursor(6)

        self.rejects("I5 Durable first", other)

    def test_an_answer_with_another_task(self) -> None:
        def other(story: Story) -> None:
            answer = next(
                r for r in story.requests if r["op"] == "w1-5" and r["kind"] == "answered"
            )
            answer["body"] = answer["body"] | {"title": "another"}

        self.rejects("I5 Durable first", other)

    def test_an_acknowledgement_while_no_sync_succeeds(self) -> None:
        for begin, end in (("failing_sync", "ended"), ("disk_full", "disk_free")):
            with self.subTest(begin):
                window = [{"t": 9 * STEP - 1, "kind": begin}, {"t": 10 * STEP - 1, "kind": end}]
                self.rejects("I5 Durable first", partial(Story.with_faults, window=window))

    # I9 Version

    def test_a_version_left_out(self) -> None:
        def hole(story: Story) -> None:
            data = story.rows[3]["event"]["data"]
            data["version"] = data["task"]["version"] = 3

        self.assertIn("I9 Version", self.names(hole))

    def test_a_time_that_decreases(self) -> None:
        def back(story: Story) -> None:
            story.rows[6]["ts"] -= 5

        self.rejects("I9 Version", back)

    # What the log may hold

    def test_an_event_nobody_asked_for(self) -> None:
        def forget(story: Story) -> None:
            story.requests[:] = [r for r in story.requests if r["op"] != "w1-10"]

        self.rejects("No invention", forget)

    def test_a_change_that_was_refused(self) -> None:
        def refuse(story: Story) -> None:
            answer = next(
                r for r in story.requests if r["op"] == "w1-10" and r["kind"] == "answered"
            )
            answer |= {"status": 503, "cursor": None, "body": {}}

        self.rejects("No invention", refuse)

    def test_a_change_with_another_content(self) -> None:
        def change(story: Story) -> None:
            sent = next(r for r in story.requests if r["op"] == "w1-10" and r["kind"] == "sent")
            sent["body"]["priority"] = "high"

        self.rejects("No invention", change)

    def test_an_event_with_another_content(self) -> None:
        self.rejects_stream(
            "No invention", "all", lambda lines: lines[event_at(lines, 3)].update(hash="0")
        )

    def test_changes_that_are_not_told(self) -> None:
        self.assertIn(
            "No invention", self.names(lambda s: s.rows[3]["event"]["data"]["changes"].clear())
        )

    def test_tasks_that_the_log_does_not_make(self) -> None:
        self.rejects("No invention", lambda story: story.tasks["task-3"].update(title="another"))

    def test_a_keyed_request_made_twice(self) -> None:
        def twice(story: Story) -> None:
            other = next(r for r in story.requests if r["op"] == "w1-6" and r["kind"] == "answered")
            again = [r for r in story.requests if r["op"] == "w1-6"][-2:]
            story.requests += [
                again[0] | {"attempt": 3},
                other | {"attempt": 3, "cursor": cursor(7)},
            ]

        self.rejects("Idempotency", twice)

    def test_a_key_that_stands_for_two_requests(self) -> None:
        def share(story: Story) -> None:
            for request in story.requests:
                if request["op"] in ("w1-10", "w1-11") and request["kind"] == "sent":
                    request["key"] = "shared"

        self.rejects("Idempotency", share)

    def test_a_later_request_before_an_acknowledged_one(self) -> None:
        def late(story: Story) -> None:
            next(r for r in story.requests if r["op"] == "w1-7" and r["kind"] == "sent")["t"] = (
                9 * STEP
            )
            next(r for r in story.requests if r["op"] == "w1-7" and r["kind"] == "answered")[
                "t"
            ] = 9 * STEP + 1

        self.rejects("Real time", late)


if __name__ == "__main__":
    unittest.main()

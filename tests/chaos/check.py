"""Judges the histories of a run.

usage: check.py FOLDER

Reads files only, so an old report can be judged again. Ends with 0 if every promise was kept and
the run was hard enough to show it, with 1 if one was broken, and with 3 if the run was too easy.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import hard
from history import Line, Log, Stream, Violation, lines, read_log, read_requests, read_stream
from judge_log import first_asked, judge_faults, judge_log, judge_requests
from judge_resets import judge_resets
from judge_streams import judge_stream

CONTEXT = 6
TOLD = 20


@dataclass
class Report:
    folder: Path
    form: str
    log: Log
    streams: list[Stream]
    violations: list[Violation]
    counts: hard.Counts
    # What the caller chose to go without.
    not_tried: list[str]

    @property
    def names(self) -> set[str]:
        return {violation.name for violation in self.violations}

    @property
    def too_easy(self) -> list[str]:
        return hard.too_easy(self.form, self.counts, self.not_tried)

    @property
    def code(self) -> int:
        return 1 if self.violations else 3 if self.too_easy else 0


def judge(folder: Path) -> Report:
    run: Line = json.loads((folder / "run.json").read_text())
    log = read_log(folder / "data" / "taskwatch.db")
    requests = read_requests(folder / "writers")
    streams = [read_stream(folder / "streams", wish, run["clock"]) for wish in run["streams"]]
    violations = [*judge_log(log), *judge_requests(log, requests)]
    violations += judge_faults([line for _, line in lines(folder / "faults.jsonl")], requests)
    asked = first_asked(log, requests)
    for stream in streams:
        violations += judge_stream(log, stream, asked, run["healed"])
    violations += judge_resets(folder / "resets")
    for text in run.get("problems", []):
        violations.append(Violation("Liveness", text))
    counts = hard.measure(folder, run, log, requests, streams)
    not_tried = run.get("not_tried", [])
    return Report(folder, run["form"], log, streams, violations, counts, not_tried)


def show(report: Report) -> None:
    log = report.log
    print(f"log: {len(log.entries)} events, {len(log.lives)} starts, {len(log.tasks)} tasks")
    for stream in report.streams:
        events = sum(step.kind == "event" for step in stream.steps)
        opened = sum(step.kind == "open" for step in stream.steps)
        what = "lives of its process" if stream.is_sdk else "connections"
        resumes = f"{hard.replaying(stream)} resumes that replayed"
        print(f"  {stream.name}: {events} events, {opened} {what}, {resumes}")
    print("how hard it was:")
    least = hard.LEAST[report.form]
    for name, count in report.counts.items():
        print(f"  {count:8} {name}" + (f" (at least {least[name]})" if name in least else ""))
    if report.violations:
        _explain(report)
    else:
        print("every promise was kept: 0 lost, 0 duplicate, 0 out of order; integrity_check ok")
    for text in report.too_easy:
        print(f"TOO EASY: {text}")
    for name in report.not_tried:
        print(f"NOT TRIED, as was asked: {name}")


def _explain(report: Report) -> None:
    first, *others = report.violations
    print(f"VIOLATED: {first}")
    _context(report, first)
    for violation in others[:TOLD]:
        print(f"also: {violation}")
    if len(others) > TOLD:
        print(f"and {len(others) - TOLD} more")


def _context(report: Report, violation: Violation) -> None:
    """Both sides around the place: the recording, and the log."""
    for folder in ("streams", "resets", "writers"):
        path = report.folder / folder / f"{violation.where}.jsonl"
        if violation.where and path.exists():
            print(f"  {folder}/{path.name}:")
            with path.open(encoding="utf-8") as file:
                for number, text in enumerate(file, 1):
                    if abs(number - violation.line) <= CONTEXT:
                        mark = ">" if number == violation.line else " "
                        print(f"  {mark} {number:6} {text.rstrip()[:240]}")
            break
    if violation.seq:
        print("  log:")
        for seq in range(violation.seq - CONTEXT, violation.seq + CONTEXT + 1):
            entry = report.log.at(seq)
            if entry:
                mark = ">" if seq == violation.seq else " "
                print(f"  {mark} {seq:6} {entry.envelope[:240]}")


def main() -> int:
    report = judge(Path(sys.argv[1]))
    show(report)
    return report.code


if __name__ == "__main__":
    sys.exit(main())

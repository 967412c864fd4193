"""Broken servers: a short scenario for each, after which the checker names the broken promise.

usage: mutants.py --seed N --binaries DIR --mutants DIR --report DIR [NAME…]

Each scenario is also run with the same binary unbroken, and must then pass.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import check
from receiver import Wish
from stage import Stage
from writers import Pace

WRITERS = 4
# Quick and small: hundreds of changes in a few seconds.
PACE = Pace(think=0.008, large_part=0.02)
LEVEL_SECONDS = 5.0
SCENARIO_SECONDS = 60
ALL = Wish("raw-all", ["*"], ping=0.2)


def some_load(stage: Stage) -> None:
    stage.receive(ALL)
    begin(stage)
    time.sleep(2.0)


def kills(stage: Stage) -> None:
    stage.receive(ALL)
    begin(stage)
    for _ in range(4):
        time.sleep(0.7)
        stage.kill()
    time.sleep(0.3)


def cuts(stage: Stage, *wishes: Wish) -> None:
    """Connections end and resume amid events."""
    wishes = wishes or (ALL, Wish("raw-query", ["*"], by_query=True))
    stage.receive(*wishes)
    begin(stage)
    for _ in range(15):
        time.sleep(0.2)
        for wish in wishes:
            stage.tell(wish.name, "cut")
    time.sleep(0.5)


def cuts_of_a_filter(stage: Stage) -> None:
    cuts(stage, Wish("raw-prefix", ["acme/*"]), Wish("raw-created", ["*"], types=["task.created"]))


def snapshots(stage: Stage) -> None:
    wishes = (
        Wish("raw-snapshot", ["*"], snapshot=True),
        Wish("raw-part", ["acme/*"], snapshot=True, by_query=True),
    )
    stage.receive(*wishes)
    begin(stage)
    for _ in range(10):
        time.sleep(0.3)
        for wish in wishes:
            stage.tell(wish.name, "anew")
    time.sleep(0.5)


def begin(stage: Stage) -> None:
    stage.subscribed()
    stage.writers.start(WRITERS)


@dataclass
class Mutant:
    name: str
    # The promise it breaks.
    breaks: str
    scenario: Callable[[Stage], None]


MUTANTS = [
    Mutant("skip-event", "I3 No gap", some_load),
    Mutant("ack-before-commit", "I5 Durable first", kills),
    Mutant("bookmark-ahead", "I6 Bookmark", some_load),
    Mutant("resume-inclusive", "I2 Once", cuts),
    Mutant("forget-filter", "I4 Filter", cuts_of_a_filter),
    Mutant("join-late", "I3 No gap", cuts),
    Mutant("stale-snapshot", "I7 Snapshot", snapshots),
    Mutant("miscount", "I3 No gap", some_load),
]


def play(mutant: Mutant, broken: bool, args: argparse.Namespace) -> tuple[check.Report, float]:
    folder = args.report / f"{mutant.name}{'' if broken else '-unbroken'}"
    began = time.monotonic()
    signal.alarm(SCENARIO_SECONDS)
    with Stage(
        folder, args.mutants / "taskwatchd", args.binaries / "recorder", args.seed, "scenario", PACE
    ) as stage:
        stage.level_seconds = LEVEL_SECONDS
        stage.env = {"TASKWATCH_MUTANT": mutant.name} if broken else {}
        stage.start()
        mutant.scenario(stage)
        stage.settle()
        stage.finish()
        stage.save({})
    report = check.judge(folder)
    signal.alarm(0)
    return report, time.monotonic() - began


def out_of_time(*_: object) -> None:
    raise TimeoutError(f"a scenario takes more than {SCENARIO_SECONDS} s")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seed", required=True)
    parser.add_argument("--binaries", type=Path, required=True)
    parser.add_argument("--mutants", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    args = parser.parse_args()
    signal.signal(signal.SIGALRM, out_of_time)
    for end in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(end, lambda number, _: sys.exit(128 + number))
    shutil.rmtree(args.report, ignore_errors=True)

    failed = 0
    print(f"{'mutant':18} {'breaks':17} {'named':8} {'seconds':>7}  unbroken  seconds")
    for mutant in MUTANTS:
        if args.names and mutant.name not in args.names:
            continue
        report, seconds = play(mutant, True, args)
        unbroken, unbroken_seconds = play(mutant, False, args)
        caught = mutant.breaks in report.names
        named = "yes" if caught else "NO"
        passed = "passes" if unbroken.code == 0 else "FAILS"
        row = f"{mutant.name:18} {mutant.breaks:17} {named:8} {seconds:7.1f}"
        print(f"{row}  {passed:8}  {unbroken_seconds:7.1f}", flush=True)
        first = next((v for v in report.violations if v.name == mutant.breaks), None)
        others = ", ".join(sorted(report.names - {mutant.breaks})) or "nothing"
        print(f"    {first or 'not told'}\n    besides: {others}", flush=True)
        if not caught:
            failed += 1
            check.show(report)
        if unbroken.code:
            failed += 1
            check.show(unbroken)
    print(
        f"failures: {failed}; the histories are in {args.report}"
        if failed
        else "every mutant was caught"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""A chaos run over the real binaries: load, faults, and then the checker's verdict.

usage: run.py short|long --seed N --binaries DIR --report DIR
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import check
import hard
from daemon import NotPermitted, try_tracing
from receiver import Wish
from resets import Resets
from stage import Stage

# kills, rounds of other faults, and the most that the whole run may take
FORMS = {"short": (34, 3, 280), "long": (400, 16, 3600)}
WRITERS = 6
# More than the server's queue and both ends of the socket hold.
UNREAD_BYTES = 1_500_000
# Less than the 10 s after which the server gives up on a reader.
STALL_SECONDS = 8.0
RECEIVERS = [
    Wish("raw-all", ["*"]),
    Wish("raw-query", ["*"], by_query=True),
    Wish("raw-narrow", ["quiet"], ping=0.7),
    Wish("raw-prefix", ["acme/*"], as_browser=True),
    Wish("raw-twice", ["acme/*", "acme/api", "tools"], by_query=True, as_browser=True),
    Wish("raw-created", ["*"], types=["task.created"]),
    Wish("raw-pausing", ["*"], narrow_pipe=True),
]
SNAPSHOTS = [
    # Slow enough for cuts and kills to come amid a snapshot.
    Wish("raw-snapshot", ["*"], snapshot=True, narrow_pipe=True),
    Wish("raw-snapshot-part", ["acme/*"], snapshot=True, by_query=True),
]
STOPPED = Wish("raw-stopped", ["*"], narrow_pipe=True)


class Chaos:
    """The main phase: what happens when is drawn from the seed beforehand."""

    def __init__(self, stage: Stage, kills: int, rounds: int, traced: bool) -> None:
        self.stage = stage
        choices = random.Random(f"{stage.seed}/faults")
        steps = ["kill"] * kills
        others = ["pause", "restart", "slow readers", "kill an SDK"]
        if traced:
            others += ["disk full", "failing sync"]
        # In each round everything else once, spread over the kills.
        for name in others * rounds:
            steps.insert(choices.randrange(len(steps)), name)
        # A kill may hit a start, or a server that has run for a while.
        self.steps = [(name, choices.choice([0.05, 0.2, 0.8, 1.2, 1.6, 2.0])) for name in steps]
        self.choices = choices

    def run(self) -> None:
        stage = self.stage
        stage.start()
        stage.receive(*RECEIVERS, *SNAPSHOTS)
        self.stopped = stage.receive(STOPPED)
        stage.record("sdk-all", ["*"])
        stage.record("sdk-prefix", ["acme/*"])
        stage.record("sdk-narrow", ["quiet", "tools"])
        stage.record("sdk-snapshot", ["*"], "--snapshot")
        stage.subscribed()
        stage.writers.start(WRITERS)
        for name, wait in self.steps:
            time.sleep(wait)
            getattr(self, "_" + name.replace(" ", "_"))()
            self._snapshot()
        time.sleep(1.0)
        stage.settle()
        stage.finish()

    def _kill(self) -> None:
        self.stage.kill()

    def _pause(self) -> None:
        self.stage.daemon.pause(self.choices.uniform(1.0, 3.5))

    def _kill_an_SDK(self) -> None:
        self.stage.kill_recorder(self.choices.choice(["sdk-all", "sdk-prefix"]))

    def _restart(self) -> None:
        code = self.stage.daemon.stop()
        if code != 0:
            self.stage.problems.append(f"the server ended with {code} when it was asked to stop")
        self.stage.start()

    def _snapshot(self) -> None:
        """One begins anew with the present state, and is often cut before it has all of it."""
        self.stage.tell(self.choices.choice(SNAPSHOTS).name, self.choices.choice(["anew", "tear"]))
        if self.choices.random() < 0.2:
            self.stage.kill_recorder("sdk-snapshot", "--anew")

    def _slow_readers(self) -> None:
        """Some do not read for a while, by choice or because they are stopped; then do again."""
        counters = self.stage.daemon.counters
        # One that is not there cannot be slow.
        streams = self.stage.streams()
        wait(lambda: counters.now("taskwatch_connections") >= streams, 5.0)
        level = counters.total("taskwatch_switches_back_to_live_total")
        with self.stage.large_texts():
            self.stage.tell("raw-pausing", "pause")
            self.stopped.send_signal(signal.SIGSTOP)
            with self.stage.stopped_recorder("sdk-prefix"):
                self.stage.writers.await_bytes(UNREAD_BYTES, STALL_SECONDS)
            self.stopped.send_signal(signal.SIGCONT)
            self.stage.tell("raw-pausing", "go")
        # Level again before the next kill.
        wait(lambda: counters.total("taskwatch_switches_back_to_live_total") >= level + 2, 8.0)

    def _disk_full(self) -> None:
        self.stage.daemon.disk_full(self.choices.uniform(0.8, 1.5))

    def _failing_sync(self) -> None:
        code = self.stage.daemon.failing_sync(10.0)
        if code is None or code == 0:
            self.stage.problems.append(
                f"a sync failed, and the server did not end as it must: {code}"
            )
            self.stage.daemon.discard()
        self.stage.start()


def wait(until: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not until() and time.monotonic() < deadline:
        time.sleep(0.05)


def out_of_time(*_: object) -> None:
    raise TimeoutError("the run takes too long")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("form", choices=FORMS)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--binaries", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument(
        "--without-strace", action="store_true", help="go on where tracing is forbidden"
    )
    args = parser.parse_args()
    kills, rounds, limit = FORMS[args.form]
    signal.signal(signal.SIGALRM, out_of_time)
    for end in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(end, lambda number, _: sys.exit(128 + number))
    signal.alarm(limit)
    shutil.rmtree(args.report, ignore_errors=True)

    try:
        if not args.without_strace:
            try_tracing()
    except NotPermitted as problem:
        print(f"strace may not trace here: {problem}")
        print("The faults of the disk cannot be shown. To go on without them: --without-strace")
        return 2
    server, recorder = args.binaries / "taskwatchd", args.binaries / "recorder"
    began = time.monotonic()
    with Stage(args.report, server, recorder, args.seed, args.form) as stage:
        Chaos(stage, kills, rounds, not args.without_strace).run()
        resets = Resets(args.report, server, recorder, args.seed, stage.faults)
        resets.run()
        main_phase, other = stage.daemon.counters, resets.daemon.counters
        names = main_phase.names() | other.names()
        counters = {name: main_phase.total(name) + other.total(name) for name in names}
        stage.save(counters, hard.TRACED if args.without_strace else [])
    ran = time.monotonic() - began
    report = check.judge(args.report)
    check.show(report)
    print(f"ran {ran:.0f} s, judged in {time.monotonic() - began - ran:.0f} s, seed {args.seed}")
    return report.code


if __name__ == "__main__":
    sys.exit(main())

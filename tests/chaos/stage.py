"""One server with its writers and subscribers, and what may happen to them."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from daemon import Daemon, free_port
from receiver import Wish
from recording import Recording, Tail
from writers import Pace, Writers

HERE = Path(__file__).parent
LEVEL_SECONDS = 60.0
POLL_SECONDS = 0.2
KILL_WAIT_SECONDS = 0.5


class Stage:
    """Use it as a context: at its end nothing that it started is left."""

    def __init__(
        self,
        folder: Path,
        server: Path,
        recorder: Path,
        seed: str,
        form: str,
        pace: Pace | None = None,
    ) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.level_seconds = LEVEL_SECONDS
        # The server's environment, besides this one's.
        self.env: dict[str, str] = {}
        self._recorder = recorder
        self.seed = seed
        self.form = form
        self.choices = random.Random(f"{seed}/stage")
        self.faults = Recording(folder / "faults.jsonl")
        self.problems: list[str] = []
        self.port = free_port(self.choices)
        self.daemon = Daemon(server, folder / "data", self.port, self.faults)
        self.writers = Writers(self.port, seed, folder / "writers", pace or Pace())
        self._wishes: list[dict[str, Any]] = []
        self._receivers: list[tuple[list[str], subprocess.Popen[str]]] = []
        self._recorders: dict[str, tuple[list[str], subprocess.Popen[bytes]]] = {}
        self._healed = 0
        self._closing = threading.Event()
        self._poller = threading.Thread(target=self._poll, daemon=True)

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        for writer in self.writers.running:
            writer.finish()
        children: list[subprocess.Popen[Any]] = [process for _, process in self._receivers]
        children += [process for _, process in self._recorders.values()]
        for child in children:
            if child.poll() is None:
                # One that is stopped cannot end otherwise.
                child.kill()
            child.wait()
        self.daemon.discard()

    def _poll(self) -> None:
        while not self._closing.wait(POLL_SECONDS):
            self.daemon.counters.poll()

    def start(self) -> None:
        self.daemon.start(env=self.env)
        if not self._poller.is_alive():
            self._poller.start()

    def receive(self, *wishes: Wish) -> subprocess.Popen[str]:
        """Starts a process of raw receivers."""
        settings = {"port": self.port, "seed": self.seed, "folder": str(self.folder / "streams")}
        settings["receivers"] = [asdict(wish) for wish in wishes]
        process = subprocess.Popen(
            [sys.executable, str(HERE / "receiver.py"), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stderr=(self.folder / "receivers.stderr").open("a"),
            text=True,
        )
        self._receivers.append(([wish.name for wish in wishes], process))
        self._wishes += [asdict(wish) for wish in wishes]
        return process

    def tell(self, name: str, command: str) -> None:
        for names, process in self._receivers:
            if name in names:
                assert process.stdin is not None
                process.stdin.write(f"{command} {name}\n")
                process.stdin.flush()

    def record(self, name: str, patterns: list[str], *flags: str) -> None:
        """Starts a process with the SDK."""
        (self.folder / "streams").mkdir(exist_ok=True)
        out = self.folder / "streams" / f"{name}.jsonl"
        command = [str(self._recorder), "--url", self.daemon.url, "--out", str(out), *flags]
        for pattern in patterns:
            command += ["--repo", pattern]
        self._recorders[name] = (command, self._spawn(command))
        self._wishes.append({"name": name, "patterns": patterns, "sdk": True})

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stderr=(self.folder / "recorders.stderr").open("a")
        )

    def kill_recorder(self, name: str, *flags: str) -> None:
        """Kills a program that uses the SDK. It goes on from the cursor it saved, or as told."""
        command, process = self._recorders[name]
        self.faults.add("kill_sdk", name=name)
        process.kill()
        process.wait()
        self._recorders[name] = (command, self._spawn([*command, *flags]))

    @contextmanager
    def stopped_recorder(self, name: str) -> Iterator[None]:
        _, process = self._recorders[name]
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    @contextmanager
    def large_texts(self) -> Iterator[None]:
        """What is not read fills the server's queues sooner."""
        pace = self.writers.pace
        usual, pace.large_part = pace.large_part, 0.7
        try:
            yield
        finally:
            pace.large_part = usual

    def kill(self) -> None:
        """Kills the server amid a request, if there is one soon, and starts it again."""
        self.daemon.counters.poll()
        self.writers.amid_a_request(self.choices, KILL_WAIT_SECONDS)
        self.daemon.kill()
        self.start()

    def streams(self) -> int:
        return len(self._wishes)

    def subscribed(self, seconds: float = 20.0) -> None:
        """Waits until every receiver and recorder has its first acknowledgement."""
        deadline = time.monotonic() + seconds
        signs = {True: '"kind":"connected"', False: '"type": "subscribed"'}
        for wish in self._wishes:
            tail = Tail(self.folder / "streams" / f"{wish['name']}.jsonl")
            while not tail.has(signs[bool(wish.get("sdk"))]):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{wish['name']} never subscribed")
                time.sleep(0.02)

    def settle(self) -> None:
        """Ends the writers, makes a last change in each repository, and waits until all have it."""
        self._healed = self.faults.add("healed")
        deadline = time.monotonic() + self.level_seconds
        self.writers.finish()
        marks: dict[str, str] = {}
        try:
            marks = self.writers.mark(deadline)
        except TimeoutError as problem:
            self.problems.append(str(problem))
        waiting = [
            (wish["name"], cursor, Tail(self.folder / "streams" / f"{wish['name']}.jsonl"))
            for wish in self._wishes
            for cursor in [last_match(wish["patterns"], marks)]
            if cursor
        ]
        while waiting and time.monotonic() < deadline:
            waiting = [
                (name, cursor, tail)
                for name, cursor, tail in waiting
                if not tail.has(f'"{cursor}"')
            ]
            time.sleep(0.05)
        self.problems += [
            f"{name} is not level within {self.level_seconds:.0f} s" for name, _, _ in waiting
        ]

    def finish(self) -> None:
        """Ends everything in order, and leaves what the checker needs."""
        # One more look of everybody at the quiet server.
        time.sleep(1.0)
        for names, process in self._receivers:
            if process.poll() is not None:
                self.problems.append(f"the receivers {names} ended by themselves")
            assert process.stdin is not None
            process.stdin.close()
            if process.wait(20) != 0:
                self.problems.append(f"the receivers {names} failed, see receivers.stderr")
        for name, (_, recorder) in self._recorders.items():
            if recorder.poll() is not None:
                self.problems.append(f"the recorder {name} ended by itself")
            recorder.send_signal(signal.SIGTERM)
            recorder.wait(20)
        code = self.daemon.stop()
        if code != 0:
            self.problems.append(f"the server ended with {code} when it was asked to stop")
        self._closing.set()
        for log in (self.daemon.log, self.folder / "recorders.stderr"):
            if log.exists() and "panicked at" in log.read_text():
                self.problems.append(f"something panicked, see {log.name}")

    def save(self, counters: dict[str, int], not_tried: Sequence[str] = ()) -> None:
        run = {
            "seed": self.seed,
            "form": self.form,
            "streams": self._wishes,
            "healed": self._healed,
            "clock": time.time_ns() - time.monotonic_ns(),
            "counters": counters,
            "problems": [*self.problems, *self.daemon.problems],
            "not_tried": not_tried,
        }
        (self.folder / "run.json").write_text(json.dumps(run, indent=1))


def last_match(patterns: list[str], marks: dict[str, str]) -> str | None:
    """The cursor of the last of the changes that a set of patterns matches."""
    last = None
    for repository, cursor in marks.items():
        if any(
            p in ("*", repository) or (p.endswith("/*") and repository.startswith(p[:-1]))
            for p in patterns
        ):
            last = cursor
    return last

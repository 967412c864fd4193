"""Kills `taskwatch --exec` at random amid changes, and shows that each event is handled, in the order of its task.

usage: run.py FOLDER-OF-THE-PROGRAMS SCRATCH KILLS
"""

import collections
import json
import os
import pathlib
import random
import signal
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "interop"))
sys.path.insert(0, str(HERE))
from daemon import Daemon, Rest, await_, end_all, spawn  # noqa: E402
from judge import judge  # noqa: E402

REPOSITORY = "foo"
PARALLEL = 4


def change(port: int, stop: threading.Event) -> None:
    """Changes few tasks often, so that many events are about the same one."""
    rest, dice, tasks = Rest(port), random.Random(7), []
    while not stop.is_set():
        time.sleep(dice.uniform(0, 0.02))
        kind = dice.random()
        if kind < 0.1 and len(tasks) > 2:
            rest.delete(tasks.pop(dice.randrange(len(tasks))))
        elif kind < 0.25 or not tasks:
            task_id, _ = rest.create({"repository": REPOSITORY, "title": f"task {dice.random()} $(exit 1)"})
            tasks.append(task_id)
        else:
            rest.update(dice.choice(tasks), {"title": f"`again` {dice.random()}"})


class Watcher:
    """`taskwatch --exec`, as often as it takes."""

    def __init__(self, program: pathlib.Path, url: str, scratch: pathlib.Path):
        self.journal, self.position = scratch / "journal", scratch / "position"
        self.command = [
            str(program), "--url", url, "--repo", REPOSITORY, "-q", "--cursor-file", str(self.position),
            "--exec-parallel", str(PARALLEL), "--exec", sys.executable, "--", str(HERE / "hook.py"), str(self.journal),
        ]
        self.said = open(scratch / "said", "ab")
        self.starts = 0
        self.start()

    def start(self) -> None:
        self.process = spawn(self.command, stderr=self.said)
        self.starts += 1

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def entries(self) -> list[list]:
        text = self.journal.read_text() if self.journal.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def children(self) -> list[int]:
        """The hooks that run now."""
        pids = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in pids.split()]


def kill_one(processes: list[int]) -> int:
    for process in processes[:1]:
        try:
            os.kill(process, signal.SIGKILL)
            return 1
        except ProcessLookupError:
            pass
    return 0


def main(programs: str, scratch: str, kills: str) -> int:
    scratch_path, dice = pathlib.Path(scratch), random.Random()
    daemon = Daemon(f"{programs}/taskwatchd", scratch_path / "data")
    watcher = Watcher(pathlib.Path(programs) / "taskwatch", daemon.url, scratch_path)
    # From here on nothing may be missed, whatever is killed.
    await_("a position", watcher.position.exists)
    stop = threading.Event()
    writer = threading.Thread(target=change, args=(daemon.port, stop))
    writer.start()
    killed_hooks = 0
    try:
        for _ in range(int(kills)):
            time.sleep(dice.uniform(0, 0.6))
            if dice.random() < 0.4:
                killed_hooks += kill_one(watcher.children())
                # It is run again, or not in time.
                time.sleep(dice.uniform(0, 0.4))
            if watcher.process.poll() is not None:
                raise SystemExit(f"the watcher ended with {watcher.process.returncode}")
            watcher.kill()
            watcher.start()
    finally:
        stop.set()
        writer.join()
    envelopes = [json.loads(envelope) for envelope in daemon.log(REPOSITORY)]
    log = [(it["cursor"], it["data"]["task_id"], it["data"]["version"]) for it in envelopes]
    last = log[-1][0]
    await_("the last event", lambda: {c for w, c, *_ in watcher.entries() if w == "done"} >= {c for c, *_ in log}
           or watcher.position.read_text().strip() == last, 120)
    watcher.process.send_signal(signal.SIGTERM)
    ended = watcher.process.wait(30)
    entries = watcher.entries()
    complaints = judge(log, entries)
    if ended != 143:
        complaints.append(f"the watcher ended with {ended}")
    if (saved := watcher.position.read_text().strip()) != last:
        complaints.append(f"the file has {saved}, and the last event is {last}")
    done = collections.Counter(cursor for what, cursor, *_ in entries if what == "done")
    begun = sum(what == "begin" for what, *_ in entries)
    for complaint in complaints[:20]:
        print(f"FAIL  {complaint}")
    print(
        f"hooks: {kills} kills of the watcher, {killed_hooks} of a hook; {len(log)} events of "
        f"{len({task for _, task, _ in log})} tasks; {begun} hooks begun, {sum(done.values())} ended well; "
        f"{sum(count > 1 for count in done.values())} events handled more than once, {len(log) - len(done)} never; "
        f"{len(complaints)} failed"
    )
    return 1 if complaints else 0


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    finally:
        end_all()

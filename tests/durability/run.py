"""What was acknowledged is on disk, and what is not is told to nobody.

usage: run.py TASKWATCHD [failing] [trace] [kill]

Shows it with syncs that fail, with a trace of the calls, and with a kill between a commit and its answers;
or with those that are named.
"""

import re
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from judge import CALLS, LENGTH, judge
from server import Caller, Server, Subscriber, log, query, title

SYNCS = "fsync,fdatasync"
# The first syncs of a fresh server's writer that are made to fail; each fails in two runs.
FAILING = 6
# How many of the syncs of a start.
FAILING_STARTS = 4
CALLERS = 8
CHANGES = 50
LEAST_JUDGED = 300
SAME_KEY = 10


failed = []


def check(kept, what):
    print(f"{'PASS' if kept else 'FAIL'}  {what}", flush=True)
    failed.extend([] if kept else [what])


def syncs_of_a_start(folder):
    """Syncs until the server listens, and those of its first change. Each thread is counted for itself,
    and the store is written by a thread that does not open it."""
    trace = f"{folder}/trace"
    server = Server(f"{folder}/data", ["-o", trace, "-e", f"trace={SYNCS}"])
    Caller(server.addr).create("one")
    server.stop()
    threads = Counter(line.split()[0] for line in Path(trace).read_text().splitlines() if "sync(" in line)
    opener, _ = threads.most_common(1)[0]
    return threads[opener]


def with_failing_sync(folder, nth, callers):
    """The nth sync of a thread fails. Returns what is wrong, and whether the server had started."""
    data = f"{folder}/data"
    inject = f"inject={SYNCS}:error=EIO:when={nth}"
    server = Server(data, ["-o", "/dev/null", "-e", f"trace={SYNCS}", "-e", inject])
    started = server.addr is not None
    seen, answered, unanswered, refused, cursor = [], [], [], [], None
    if started:
        subscriber = Subscriber(server.addr)

        def change(number):
            caller, at = Caller(server.addr), 0
            while True:
                name = f"{number}.{at}"
                answer = caller.create(name)
                if answer is None:
                    return unanswered.append(name)
                (answered if answer[0] == 201 else refused).append(name)
                at += 1

        with ThreadPoolExecutor(callers) as pool:
            list(pool.map(change, range(callers)))
        seen = subscriber.events()
        cursor = subscriber.cursor
    code = server.ended()
    # Bytes 18 and 19 of the file say whether it has a write-ahead journal.
    has_journal = Path(data, "taskwatch.db").read_bytes()[18:20] == b"\2\2"

    wrong = []

    def expect(kept, what):
        wrong.extend([] if kept else [f"sync {nth}, {callers} callers: {what}"])

    expect(code != 0, "the server ended as if all were well")
    expect(not refused, f"answers that are none: {refused}")
    if started:
        expect(has_journal, "it served without a journal")
        expect("the store failed" in server.said, f"it did not say why: {server.said}")
        expect(len(unanswered) == callers, "somebody had an answer to the change that failed")
        if callers == 1:
            # What was committed with others may have been sent, and its answer lost.
            expect(unanswered[0] not in map(title, seen), "the event of the change that failed was sent")

    server = Server(data)
    subscriber = Subscriber(server.addr, cursor)
    Caller(server.addr).create("the end")
    streamed = seen + subscriber.events(until="the end")
    logged = log(data)
    titles = Counter(map(title, logged))
    tasks = Counter(name for (name,) in query(data, "SELECT title FROM task"))
    expect(subscriber.mode == ("resumed" if started else "live"), f"the subscriber: {subscriber.mode}")
    expect(streamed == logged, f"{len(streamed)} events were streamed, {len(logged)} are in the log")
    expect(titles == tasks, "the log is not that of the tasks")
    expect(all(titles[name] == 1 for name in answered), "an acknowledged change is not there once")
    expect(all(titles[name] <= 1 for name in unanswered), "a change is there twice")
    expect(query(data, "PRAGMA integrity_check") == [("ok",)], "the database is broken")
    expect(server.stop() == 0, "the server did not stop as it should")
    return wrong, started, len(answered), sum(titles[name] for name in unanswered)


def failing_syncs(opening):
    starts = range(1, opening + 1, max(1, opening // FAILING_STARTS))
    later = range(opening + 1, opening + 1 + FAILING)
    wrong, started, answered, survived = [], 0, 0, 0
    runs = [(nth, 1) for nth in starts] + [(nth, callers) for nth in later for callers in (1, 4)]
    for nth, callers in runs:
        with tempfile.TemporaryDirectory() as folder:
            problems, up, acknowledged, there = with_failing_sync(folder, nth, callers)
        wrong += problems
        started, answered, survived = started + up, answered + acknowledged, survived + there
    print(f"{len(runs)} runs: {len(runs) - started} failed at the start, {started} with changes on their way")
    print(f"{answered} changes were acknowledged; of the others {survived} were there after a restart")
    for problem in wrong:
        print(f"      {problem}")
    check(not wrong, "a failing sync: no 2xx, no event, the end; then the change is there once or not at all")
    check(started >= 2 * FAILING and answered > 0, "and it hit servers at work")


def one_caller(addr, number):
    caller = Caller(addr)
    for at in range(CHANGES // 5):
        key = f"ask-{number}.{at}"
        status, headers, _ = caller.create("new", key=f"{key}.0;")
        assert status == 201
        path = headers["location"]
        for step in range(1, 4):
            assert caller.ask("PATCH", path, {"title": f"changed {step}"}, f"{key}.{step};")[0] == 200
        assert caller.ask("GET", path)[0] == 200
        assert caller.ask("DELETE", path, key=f"{key}.4;")[0] == 204


def traced_load():
    with tempfile.TemporaryDirectory() as folder:
        trace = f"{folder}/trace"
        server = Server(f"{folder}/data", ["--seccomp-bpf", "-yy", "-s", LENGTH, "-o", trace, "-e", f"trace={CALLS}"])
        with ThreadPoolExecutor(CALLERS) as pool:
            list(pool.map(one_caller, [server.addr] * CALLERS, range(CALLERS)))
        assert server.stop() == 0
        lines = Path(trace).read_text(errors="replace").splitlines()
    verdict = judge(lines)
    print(f"{verdict.judged} acknowledgements in a trace of {len(lines)} lines, {verdict.syncs} syncs of the journal")
    for line in verdict.early[:5]:
        print(f"      {lines[line]}")
    check(
        not verdict.early and verdict.judged >= LEAST_JUDGED,
        f"written after a sync of the change: "
        f"{verdict.judged - len(verdict.early)} of {verdict.judged}, at least {LEAST_JUDGED}",
    )
    # The judge must be able to say no.
    lying = [re.sub(r"(sync\(.*|sync resumed>\)) += 0$", r"\1 = -1 EIO (Input/output error)", line) for line in lines]
    verdict = judge(lying)
    check(
        verdict.judged == len(verdict.early) >= LEAST_JUDGED,
        f"had all syncs failed, all would be found too early: {len(verdict.early)} of {verdict.judged}",
    )


def killed_between(opening):
    """Ten ask with one key, and the server is killed when the change is written and nobody answered."""
    with tempfile.TemporaryDirectory() as folder:
        data = f"{folder}/data"
        # The first change of a fresh server has two syncs, the others one.
        nth = opening + 1
        inject = f"inject={SYNCS}:signal=KILL:when={nth}"
        server = Server(data, ["-o", "/dev/null", "-e", f"trace={SYNCS}", "-e", inject])
        before = nth - 2
        for number in range(before):
            assert Caller(server.addr).create(f"before {number}")[0] == 201

        def ask_all():
            with ThreadPoolExecutor(SAME_KEY) as pool:
                callers = [Caller(server.addr) for _ in range(SAME_KEY)]
                return list(pool.map(lambda caller: caller.create("once", key="k"), callers))

        first = ask_all()
        code = server.ended()
        # Before the server could have repaired anything.
        written = [title(envelope) for envelope in log(data)].count("once")
        server = Server(data)
        second = ask_all()
        third = ask_all()
        events = [title(envelope) for envelope in log(data)].count("once")
        tasks = query(data, "SELECT count(*) FROM task WHERE title = 'once'")[0][0]
        server.stop()
    print(f"killed ({code}) with {first.count(None)} of {SAME_KEY} unanswered and {written} written")
    check(code == 137 and first == [None] * SAME_KEY and written == 1, "the kill came between commit and answers")
    answers = {repr(answer) for answer in second + third}
    check(
        len(answers) == 1 and second[0][0] == 201 and (events, tasks) == (1, 1),
        f"one key, asked {3 * SAME_KEY} times: {tasks} task, {events} event, {len(answers)} answer",
    )


Server.binary, *chosen = sys.argv[1:]
with tempfile.TemporaryDirectory() as folder:
    opening = syncs_of_a_start(folder)
print(f"== durability: a start has {opening} syncs")
for name, show in [
    ("failing", lambda: failing_syncs(opening)),
    ("trace", traced_load),
    ("kill", lambda: killed_between(opening)),
]:
    if not chosen or name in chosen:
        show()
sys.exit(bool(failed))

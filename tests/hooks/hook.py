#!/usr/bin/env python3
"""The hook: it writes down that it begins with an event, takes its time, fails now and then, and writes down that it
has handled it.

usage: hook.py JOURNAL; the event is on stdin
"""

import json
import os
import random
import sys
import time


def note(journal: str, what: str, event: dict) -> None:
    data = event["data"]
    line = json.dumps([what, event["cursor"], data["task_id"], data["version"], os.getpid()])
    # One write to a file that is only added to: whole, whoever else writes.
    handle = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f"{line}\n".encode())
    os.close(handle)


def main(journal: str) -> int:
    event = json.load(sys.stdin)
    told = os.environ["TASKWATCH_CURSOR"], os.environ["TASKWATCH_TASK_ID"], os.environ["TASKWATCH_EVENT"]
    if told != (event["cursor"], event["data"]["task_id"], event["type"]):
        note(journal, "wrong", event)
    note(journal, "begin", event)
    time.sleep(random.expovariate(1 / 0.01))
    if random.random() < 0.05:
        return 1
    note(journal, "done", event)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""Judges a trace of the server: was each change on disk before it was acknowledged?

The trace is made with `strace -f -yy -s LENGTH -e trace=CALLS`. Its lines stand in the order in which calls began
and ended, so line numbers are all that is needed to tell before from after.

Each change brings an Idempotency-Key of the form `ask-1.2.3;`. The store keeps it in the commit of the
change, so that it tells which page of the journal belongs to which request.
"""

import re
from dataclasses import dataclass, field

CALLS = "fsync,fdatasync,pwrite64,read,recvfrom,write,writev,sendto,sendmsg"

# A page, a request and the head of an answer are to be seen whole.
LENGTH = "8192"

READS = {"read", "recvfrom"}
WRITES = {"write", "writev", "sendto", "sendmsg"}
SYNCS = {"fsync", "fdatasync"}

JOURNAL = "/taskwatch.db-wal"

LINE = re.compile(r"(?P<thread>\d+) +(?P<text>.*)")
RESUMED = re.compile(r"<\.\.\. \w+ resumed>")
CALL = re.compile(r"(?P<name>\w+)\(\d+<(?P<file>TCP:\[[^]]*\]|[^>]*)>(?P<data>.*)\) += (?P<result>-?\d+)")
REQUEST = re.compile(r', "[A-Z]{3,7} /')
KEY = re.compile(r"ask-[0-9.]+;")
ANSWER = re.compile(r'"HTTP/1\.1 (?P<status>\d{3}) ')


@dataclass
class Call:
    began: int
    ended: int
    name: str
    file: str
    data: str
    result: int


@dataclass
class Verdict:
    """What a trace shows."""

    # Acknowledged changes.
    judged: int = 0
    syncs: int = 0
    # The lines of acknowledgements that came too early.
    early: list[int] = field(default_factory=list)


def calls(lines):
    """The calls of a trace, in the order in which they ended."""
    begun = {}
    for number, line in enumerate(lines):
        if not (line := LINE.match(line)):
            continue
        thread, text, began = line["thread"], line["text"], number
        if text.endswith(" <unfinished ...>"):
            begun[thread] = number, text.removesuffix(" <unfinished ...>")
            continue
        if resumed := RESUMED.match(text):
            if thread not in begun:
                continue
            began, first = begun.pop(thread)
            text = first + text[resumed.end() :]
        if call := CALL.match(text):
            yield Call(began, number, call["name"], call["file"], call["data"], int(call["result"]))


def judge(lines):
    """Compares each acknowledgement of a change with the syncs of the journal."""
    verdict, syncs = Verdict(), []
    # Where the first page that holds a key had been written.
    written = {}
    # The key of what a connection asks for; empty until it was read, or if it is no change.
    asked = {}
    for call in calls(lines):
        if call.file.endswith(JOURNAL):
            if call.name == "pwrite64" and call.result > 0:
                for key in KEY.findall(call.data):
                    written.setdefault(key, call.ended)
            elif call.name in SYNCS and call.result == 0:
                syncs.append(call)
        elif call.name in READS and call.result > 0:
            if REQUEST.match(call.data):
                asked[call.file] = None
            if call.file in asked and (key := KEY.search(call.data)):
                asked[call.file] = key[0]
        elif call.name in WRITES and (answer := ANSWER.search(call.data)):
            key = asked.pop(call.file, None)
            if key is None or not answer["status"].startswith("2"):
                continue
            verdict.judged += 1
            page = written.get(key, len(lines))
            # A sync of that page, and thus one that began after the request was read.
            if not any(page < sync.began and sync.ended < call.began for sync in reversed(syncs)):
                verdict.early.append(call.began)
    verdict.syncs = len(syncs)
    return verdict

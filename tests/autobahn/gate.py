"""Judges a report of the Autobahn suite.

usage: gate.py INDEX            fails if anything in it is not as it should be
       gate.py --print INDEX    prints it in the order of the cases

The suite ends with 0 whatever it saw, even if nothing listened. It also forgives a peer that breaks the
connection off without a close code; this gate does not.
"""

import json
import sys
from collections import Counter

# How many cases each section has.
SECTIONS = {1: 16, 2: 11, 3: 7, 4: 10, 5: 20, 6: 145, 7: 37, 9: 54, 10: 1, 12: 90, 13: 126}

# Text that is not UTF-8, in one frame or split: noticed when the frame is complete, not in the middle.
NON_STRICT = {"6.4.3", "6.4.4"}
# What a peer does here is left to it, and only recorded.
INFORMATIONAL = {"7.1.6", "7.13.1", "7.13.2"}
# permessage-deflate, which is not offered.
UNIMPLEMENTED = {12, 13}

# Sections of cases that break the protocol, and the cases of mixed sections.
PROTOCOL = {"3", "4.1", "4.2", "7.9"}
PROTOCOL_CASES = {"2.5", "5.1", "5.2", *(f"5.{n}" for n in range(9, 19)), "7.3.2", "7.3.6"}
UTF8 = {"6.3", "6.4", "6.8", "6.10", *(f"6.{n}" for n in range(12, 22))}
UTF8_CASES = {*(f"6.6.{n}" for n in (1, 3, 4, 6, 8, 10)), "6.11.5"}


def required_codes(case):
    """The close codes of which the peer must send one; none where it need not send any."""
    section = case.rpartition(".")[0]
    if section in PROTOCOL or case in PROTOCOL_CASES:
        return {1002}
    if section in UTF8 or case in UTF8_CASES:
        return {1007}
    return {1002, 1007} if case == "7.5.1" else set()


def expected_behavior(case):
    if case in INFORMATIONAL:
        return {"INFORMATIONAL"}
    if int(case.split(".")[0]) in UNIMPLEMENTED:
        return {"UNIMPLEMENTED"}
    return {"OK", "NON-STRICT"} if case in NON_STRICT else {"OK"}


def judge(report):
    """What is wrong with a report."""
    if len(report) != 1:
        return [f"one peer should have been tested, not {len(report)}"]
    (cases,) = report.values()
    wrong = []
    sections = Counter(int(case.split(".")[0]) for case in cases)
    for section in sorted(SECTIONS.keys() | sections.keys()):
        ran, all_ = sections[section], SECTIONS.get(section, 0)
        if ran != all_:
            wrong.append(f"section {section}: {ran} cases ran, not {all_}")
    for case, seen in cases.items():
        if seen["behavior"] not in expected_behavior(case):
            wrong.append(f"{case}: {seen['behavior']}")
        closing = "INFORMATIONAL" if case in INFORMATIONAL else "OK"
        if seen["behaviorClose"] != closing:
            wrong.append(f"{case}: the closing is {seen['behaviorClose']}")
        codes = required_codes(case)
        if codes and seen["remoteCloseCode"] not in codes:
            wrong.append(f"{case}: close code {seen['remoteCloseCode']}, not {sorted(codes)}")
    return wrong


def in_order(report):
    """The report's text, one line for each case."""
    ((agent, cases),) = report.items()
    order = sorted(cases, key=lambda case: [int(part) for part in case.split(".")])
    lines = ",\n".join(f"{json.dumps(case)}: {json.dumps(cases[case])}" for case in order)
    return f"{{{json.dumps(agent)}: {{\n{lines}\n}}}}"


def main(arguments):
    try:
        with open(arguments[-1], encoding="utf-8") as file:
            report = json.load(file)
    except (OSError, ValueError) as error:
        print(f"autobahn: no report: {error}")
        return 1
    if "--print" in arguments:
        print(in_order(report))
        return 0
    wrong = judge(report)
    for line in wrong:
        print(f"autobahn: {line}")
    if not wrong:
        (cases,) = report.values()
        counts = Counter(seen["behavior"] for seen in cases.values())
        print("autobahn:", ", ".join(f"{n} {name}" for name, n in counts.most_common()))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

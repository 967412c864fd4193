"""Judges what the conformance suite has written.

usage: gate.py BASELINE SCENARIOS RESULTS

BASELINE explains the checks that fail. SCENARIOS is what the suite lists, RESULTS the folder it wrote
into. It fails if a check failed that is not explained, if one is explained that did not fail, or if a
scenario did not run.
"""

import json
import re
import sys
from pathlib import Path

import yaml

HARMLESS = {"SUCCESS", "INFO", "SKIPPED"}
SCENARIO = re.compile(r"^  - (\S+) \[(.*)\]$", re.MULTILINE)
RUN = re.compile(r"^server-(.+)-\d{4}-\d\d-\d\dT[-\dZ]+$")


def explained(baseline):
    """Scenario -> the checks that are explained; each scenario stands under one reason."""
    checks = {}
    for reason in baseline:
        assert reason["because"].strip()
        for scenario, failing in reason["scenarios"].items():
            assert scenario not in checks, f"{scenario} is explained twice"
            checks[scenario] = set(failing)
    return checks


def results(folder):
    """Scenario -> (checks that passed, checks that did not)."""
    found = {}
    for file in Path(folder).glob("*/checks.json"):
        passed, failed = found.setdefault(RUN.match(file.parent.name)[1], (set(), set()))
        for check in json.loads(file.read_text()):
            (passed if check["status"] in HARMLESS else failed).add(check["id"])
    return found


def complaints(checks, scenarios, found):
    for scenario in sorted(scenarios - found.keys()):
        yield f"{scenario} did not run"
    for scenario in sorted(checks.keys() - found.keys()):
        yield f"{scenario} is explained, and there is no such scenario"
    for scenario, (passed, failed) in sorted(found.items()):
        known = checks.get(scenario, set())
        for check in sorted(failed - known):
            yield f"{scenario}: {check} failed"
        for check in sorted(known - failed):
            yield f"{scenario}: {check} is explained and does not fail"
        if not passed and not failed:
            yield f"{scenario} checked nothing"


def main(baseline, scenarios, folder):
    checks = explained(yaml.safe_load(Path(baseline).read_text()))
    listed = {name for name, _ in SCENARIO.findall(Path(scenarios).read_text())}
    assert listed, "the suite lists no scenario"
    found = results(folder)
    wrong = list(complaints(checks, listed, found))
    for line in wrong:
        print(f"conformance: {line}")
    passed = sum(len(passed) for passed, _ in found.values())
    clean = sum(1 for _, failed in found.values() if not failed)
    print(
        f"conformance: {passed} checks passed; {clean} of {len(found)} scenarios are clean, "
        f"the others fail in {sum(map(len, checks.values()))} checks that are explained"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

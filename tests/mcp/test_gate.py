"""The gate lets pass what is explained, and nothing else."""

import json
import tempfile
import unittest
from pathlib import Path

import gate

BASELINE = [{"because": "There is none.", "scenarios": {"prompts": ["list", "get"]}}]


class Gate(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def ran(self, scenario, at="01", **checks):
        run = self.folder / f"server-{scenario}-2026-11-23T08-31-35-0{at}Z"
        run.mkdir()
        written = [{"id": name, "status": status} for name, status in checks.items()]
        (run / "checks.json").write_text(json.dumps(written))

    def complaints(self):
        found = gate.results(self.folder)
        return list(gate.complaints(gate.explained(BASELINE), {"tools", "prompts"}, found))

    def test_what_is_explained_passes(self):
        self.ran("tools", list="SUCCESS", log="SKIPPED")
        self.ran("prompts", list="FAILURE", get="FAILURE")
        self.assertEqual(self.complaints(), [])

    def test_what_fails_in_one_revision_fails(self):
        self.ran("tools", list="SUCCESS")
        self.ran("tools", at="02", list="FAILURE")
        self.ran("prompts", list="FAILURE", get="WARNING")
        self.assertEqual(self.complaints(), ["tools: list failed"])

    def test_what_is_explained_must_fail(self):
        self.ran("tools", list="SUCCESS")
        self.ran("prompts", list="FAILURE", get="SUCCESS")
        self.assertEqual(self.complaints(), ["prompts: get is explained and does not fail"])

    def test_every_scenario_runs_and_checks_something(self):
        self.ran("tools")
        complaints = self.complaints()
        self.assertIn("prompts did not run", complaints)
        self.assertIn("tools checked nothing", complaints)

    def test_a_scenario_has_one_explanation(self):
        with self.assertRaises(AssertionError):
            gate.explained(BASELINE + BASELINE)


if __name__ == "__main__":
    unittest.main()

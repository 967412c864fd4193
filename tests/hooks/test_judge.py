"""The judge sees what it must see: each kind of failure is one complaint."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from judge import judge  # noqa: E402

LOG = [("c1", "a", 1), ("c2", "b", 1), ("c3", "a", 2), ("c4", "a", 3)]


def entries(*steps: str) -> list[list]:
    """`b1`: the first event begins; `d1`: it is done."""
    kinds = {"b": "begin", "d": "done"}
    return [[kinds[step[0]], *LOG[int(step[1]) - 1], 7] for step in steps]


class Judge(unittest.TestCase):
    def test_good(self):
        for steps in [
            "b1 d1 b2 d2 b3 d3 b4 d4",
            "b1 b2 d2 d1 b3 b3 d3 b4 d4",  # killed amid the third
            "b1 d1 b1 d1 b3 d3 b1 d1 b3 d3 b4 d4 b2 d2",  # handled again
        ]:
            self.assertEqual(judge(LOG, entries(*steps.split())), [], steps)

    def test_bad(self):
        for steps, complaint in [
            ("b1 d1 b2 d2 b3 b4 d4", "c4: began before c3"),
            ("b1 d1 b2 d2 b3 d3 b4", "c4: never handled"),
            ("b2 d2 b3 d3 b4 d4 b1 d1", "c3: began before c1"),
        ]:
            said = judge(LOG, entries(*steps.split()))
            self.assertTrue(any(line.startswith(complaint) for line in said), said)
        self.assertEqual(len(judge(LOG, entries(*"b1 d1 b2 d2 b3 d3".split()))), 1)
        self.assertIn("not in the log", judge([], entries("b1"))[0])
        self.assertIn("differ", judge(LOG[:1], [["wrong", "c1", "a", 1, 7], *entries("b1", "d1")])[0])


if __name__ == "__main__":
    unittest.main()

"""The judge accepts a good trace, and none that was tampered with."""

import unittest

from judge import judge

# Two changes in one commit, the first of a new journal; a second one on the first connection; one that
# is refused, and a question.
GOOD = r"""
11 recvfrom(19<TCP:[127.0.0.1:1->127.0.0.1:2]>, "POST /api/v1/tasks HTTP/", 24, 0, NULL, NULL) = 24
11 recvfrom(19<TCP:[127.0.0.1:1->127.0.0.1:2]>, "1.1\r\nidempotency-key: ask-1.0.0;\r\n\r\n", 16360, 0, NULL, NULL) = 163
12 recvfrom(20<TCP:[127.0.0.1:1->127.0.0.1:3]>,  <unfinished ...>
13 pwrite64(13</d/taskwatch.db-wal>, "7\177\6\202"..., 32, 0) = 32
12 <... recvfrom resumed>"DELETE /api/v1/tasks/01a2 HTTP/1.1\r\nidempotency-key: ask-2.0.0;\r\n\r\n", 16384, 0, NULL, NULL) = 80
13 fsync(13</d/taskwatch.db-wal>) = 0
13 pwrite64(13</d/taskwatch.db-wal>, "\0\0"..., 24, 32) = 24
13 pwrite64(13</d/taskwatch.db-wal>, "\r\0\23ask-1.0.0;\0\7ask-2.0.0;\0"..., 4096, 56) = 4096
13 fsync(13</d/taskwatch.db-wal> <unfinished ...>
11 recvfrom(21<TCP:[127.0.0.1:1->127.0.0.1:4]>, "GET /api/v1/tasks HTTP/1.1\r\n"..., 16384, 0, NULL, NULL) = 80
11 writev(21<TCP:[127.0.0.1:1->127.0.0.1:4]>, [{iov_base="HTTP/1.1 200 OK\r\n"..., iov_len=2}], 1) = 2
11 recvfrom(21<TCP:[127.0.0.1:1->127.0.0.1:4]>, "POST /api/v1/tasks HTTP/1.1\r\nidempotency-key: ask-3.0.0;\r\n\r\n", 16384, 0, NULL, NULL) = 80
11 writev(21<TCP:[127.0.0.1:1->127.0.0.1:4]>, [{iov_base="HTTP/1.1 422 Unproc"..., iov_len=2}], 1) = 2
13 <... fsync resumed>)                    = 0
11 writev(19<TCP:[127.0.0.1:1->127.0.0.1:2]>, [{iov_base="HTTP/1.1 201 Created\r\n"..., iov_len=2}], 1) = 2
12 sendto(20<TCP:[127.0.0.1:1->127.0.0.1:3]>, "HTTP/1.1 204 No Content\r\n"..., 90, MSG_NOSIGNAL, NULL, 0) = 90
11 recvfrom(19<TCP:[127.0.0.1:1->127.0.0.1:2]>, "PATCH /api/v1/tasks/01a2 HTTP/1.1\r\nidempotency-key: ask-1.1.0;\r\n\r\n", 16384, 0, NULL, NULL) = 90
13 pwrite64(13</d/taskwatch.db-wal>, "\r\0\23ask-1.0.0;\0\7ask-2.0.0;\0\7ask-1.1.0;"..., 4096, 8300) = 4096
13 fdatasync(13</d/taskwatch.db-wal>) = 0
11 writev(19<TCP:[127.0.0.1:1->127.0.0.1:2]>, [{iov_base="HTTP/1.1 200 OK\r\n"..., iov_len=2}], 1) = 2
13 +++ exited with 0 +++
""".strip().splitlines()

HEADER, PAGE, BEGUN, DONE, FIRST, SECOND, SYNC, THIRD = 5, 7, 8, 13, 14, 15, 18, 19


def moved(line, to):
    """The good trace with one line before another."""
    lines = [text for number, text in enumerate(GOOD) if number != line]
    lines.insert(to if to < line else to - 1, GOOD[line])
    return lines


def replaced(line, old, new):
    assert old in GOOD[line]
    return [text.replace(old, new) if number == line else text for number, text in enumerate(GOOD)]


def without(*lines):
    return [text for number, text in enumerate(GOOD) if number not in lines]


class TestJudge(unittest.TestCase):
    def test_a_good_trace(self):
        verdict = judge(GOOD)
        self.assertEqual((verdict.judged, verdict.syncs, verdict.early), (3, 3, []))

    def test_tampered_traces(self):
        for what, lines, early in [
            ("no sync", without(BEGUN, DONE), 2),
            ("no sync of the last change", without(SYNC), 1),
            ("a sync that failed", replaced(DONE, "= 0", "= -1 EIO (Input/output error)"), 2),
            ("an answer during the sync", moved(FIRST, DONE), 1),
            ("an answer before the commit", moved(THIRD, SYNC), 1),
            ("a sync of another file", replaced(SYNC, "taskwatch.db-wal", "taskwatch.db"), 1),
            ("a sync before the page", moved(SYNC, SYNC - 1), 1),
            ("a sync of the header alone", without(PAGE), 2),
            ("a page of others", replaced(SYNC - 1, "ask-1.1.0;", "ask-9.9.9;"), 1),
        ]:
            with self.subTest(what):
                verdict = judge(lines)
                self.assertEqual((verdict.judged, len(verdict.early)), (3, early))


if __name__ == "__main__":
    unittest.main()

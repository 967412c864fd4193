"""A terminal with panes side by side, and what is on it."""

import os
import pathlib
import re
import subprocess
import sys
import time

PATIENCE = 60
STYLE = re.compile(r"\x1b\[([0-9;]*)m")
PROMPT = "$ "


class Terminal:
    """A tmux of its own, which reads no settings and outlives nobody."""

    def __init__(self, tmux: str, folder: pathlib.Path, width: int, height: int, env: dict[str, str]):
        self.command = [tmux, "-S", str(folder / "tmux"), "-f", "/dev/null", "-u"]
        self.width, self.height = width, height
        self.env = {"LANG": "C.UTF-8", "HOME": str(folder), "PS1": PROMPT, "TZ": "UTC"} | env
        # Which a shell would write when it is over.
        self.env["HISTFILE"] = "/dev/null"
        if "LD_LIBRARY_PATH" in os.environ:
            self.env["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
        self.tmux("new-session", "-d", "-x", str(width), "-y", str(height), *self.shell())

    def shell(self) -> list[str]:
        return ["bash", "--noprofile", "--norc", "-i"]

    def tmux(self, *words: str) -> str:
        answer = subprocess.run(
            [*self.command, *words], env=self.env, capture_output=True, text=True, timeout=PATIENCE
        )
        if answer.returncode != 0:
            raise SystemExit(f"tmux {words}: {answer.stderr}")
        return answer.stdout

    def panes(self) -> list["Pane"]:
        return [Pane(self, name) for name in self.tmux("list-panes", "-F", "#{pane_id}").split()]

    def split(self, left: int) -> list["Pane"]:
        """Puts a second pane beside the first, which keeps so many columns."""
        self.tmux("split-window", "-h", "-l", str(self.width - left - 1), *self.shell())
        return self.panes()

    def end(self) -> None:
        self.tmux("kill-server")


class Pane:
    def __init__(self, terminal: Terminal, name: str):
        self.terminal, self.name = terminal, name

    def ask(self, what: str) -> str:
        """What tmux knows of it, such as `alternate_on`."""
        question = "#{" + what + "}"
        return self.terminal.tmux("display-message", "-p", "-t", self.name, question).strip()

    def press(self, *keys: str) -> None:
        self.terminal.tmux("send-keys", "-t", self.name, *keys)

    def type(self, text: str) -> None:
        self.terminal.tmux("send-keys", "-t", self.name, "-l", text)

    def run(self, command: str) -> None:
        """Types a command, once the shell asks for one."""
        self.until("a prompt", lambda text: text.rstrip("\n").endswith(PROMPT.strip()))
        self.type(command)
        self.press("Enter")

    def resize(self, width: int) -> None:
        self.terminal.tmux("resize-pane", "-t", self.name, "-x", str(width))

    def styled(self) -> str:
        return self.terminal.tmux("capture-pane", "-p", "-e", "-t", self.name)

    def text(self) -> str:
        return plain(self.styled())

    def until(self, what: str, holds) -> str:
        """Waits until the text on it is as it should be, and returns what is on it."""
        end = time.monotonic() + PATIENCE
        while not holds(plain(styled := self.styled())):
            if time.monotonic() > end:
                print(plain(styled), file=sys.stderr)
                raise SystemExit(f"screens: {self.name} does not show {what}")
            time.sleep(0.05)
        return styled

    def shows(self, *words: str) -> str:
        """Waits until all these words are on it."""
        return self.until(repr(words), lambda text: all(word in text for word in words))

    def matches(self, pattern: str) -> str:
        return self.until(pattern, lambda text: re.search(pattern, text))


def plain(styled: str) -> str:
    return STYLE.sub("", styled)


def has_colours(styled: str) -> bool:
    """Whether anything is coloured: bold, underlined or reversed text is not."""
    numbers = [number for style in STYLE.findall(styled) for number in style.split(";")]
    return any(number not in ("", "0", "1", "2", "4", "7", "22", "24", "27", "39", "49") for number in numbers)

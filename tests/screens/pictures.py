"""Screens as they are put into the docs: without what changes from run to run."""

import io
import pathlib
import re

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

# The same width as what they replace, so that nothing moves.
CONSTANT = [
    (re.compile(r"(?<!\d)\d\d:\d\d:\d\d(?!\d)"), "14:30:05"),
    (re.compile(r"127\.0\.0\.1:\d{5}(?!\d)"), "127.0.0.1:58787"),
    (re.compile(r"\d\.\d s behind"), "0.1 s behind"),
    (re.compile(r"(after|retrying in)(\s+)\d\.\d s"), r"\1\g<2>0.9 s"),
    (re.compile(r"(reconnecting in) \d s"), r"\1 1 s"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"), "01a20f3c-5d1e-7b2a-9c40-6e8f10a2b3c4"),
]
FONT = re.compile(r"@font-face\s*\{.*?\}\s*", re.DOTALL)


def constant(styled: str) -> list[Text]:
    """The lines of a screen, made the same in each run."""
    for pattern, text in CONSTANT:
        styled = pattern.sub(text, styled)
    # What follows a style that lasts over the end of a line belongs to the next one.
    return list(Text.from_ansi(styled.rstrip("\n"), no_wrap=True, end="").split("\n", allow_blank=True))


def beside(left: list[Text], width: int, right: list[Text]) -> list[Text]:
    """Two screens with a line between them."""
    lines = []
    for number in range(max(len(left), len(right))):
        line = left[number].copy() if number < len(left) else Text()
        line.append(" " * max(0, width - cell_len(line.plain)))
        line.append("│", style="dim")
        lines.append(line + right[number] if number < len(right) else line)
    return lines


def as_text(lines: list[Text]) -> str:
    return "\n".join(line.plain.rstrip() for line in lines).rstrip() + "\n"


def as_image(lines: list[Text], width: int, title: str) -> str:
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, legacy_windows=False)
    for line in lines:
        console.print(line, no_wrap=True, crop=True, overflow="crop")
    # Without fonts that would be loaded from elsewhere.
    return FONT.sub("", console.export_svg(title=title, unique_id="taskwatch"))


def write(folder: pathlib.Path, name: str, lines: list[Text], width: int, title: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.txt").write_text(as_text(lines))
    (folder / f"{name}.svg").write_text(as_image(lines, width, title))

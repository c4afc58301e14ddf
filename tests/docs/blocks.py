"""The blocks of code on the pages, each with the comments before it that say how it is run.

A page is README.md, or a page below docs/. What stands before a block, each in a line of its own:

- ``<!-- run: NAME -->``: Python, with the names that the set-up `NAME` of `settings.py` gives; all blocks of a page
  with one set-up share them;
- ``<!-- file: NAME -->``: it is written into the folder of the page;
- ``<!-- shell: NAME -->``: it is run there, in the environment that the set-up gives;
- ``<!-- output -->``: it is what the shell block before it prints, but for numbers; ``...`` stands for any lines;
- ``<!-- checked: NAME -->``: a function of `checks.py` reads it, since it cannot be run here;
- ``<!-- tested by: FILE -->``: that test runs it;
- ``<!-- drawing -->``: it is a picture in characters;
- ``<!-- measured -->``: a run of the benchmarks printed it;
- ``<!-- needs: WHAT -->``: it can only run with what no test has, a real cloud for instance.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
KINDS = ("run", "file", "shell", "output", "checked", "tested by", "drawing", "measured", "needs")
COMMENT = re.compile(r"<!-- (?P<kind>[a-z ]+?)(?:: (?P<name>.+))? -->")
FENCE = re.compile(r"^ *(?P<fence>`{3,}) *(?P<language>\S*)")


@dataclass(frozen=True)
class Block:
    """A block of a page: its language and text, and how it is run."""

    page: str
    line: int
    language: str
    kind: str
    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(path: Path) -> list[Block]:
    """Return the blocks of a page; one without a comment has the kind ``""``."""
    found, marks, lines = [], list[str](), enumerate(path.read_text().splitlines(), 1)
    for number, line in lines:
        if fence := FENCE.match(line):
            body = []
            for _, inner in lines:
                if inner.strip() == fence["fence"]:
                    break
                body.append(inner)
            kind, name = _kind(marks)
            text = "\n".join(body) + "\n"
            found.append(Block(str(path.relative_to(ROOT)), number, fence["language"], kind, name, text))
        marks = [*marks, line.strip()] if line.strip().startswith("<!--") else []
    return found


def _kind(marks: list[str]) -> tuple[str, str]:
    for mark in marks:
        if (comment := COMMENT.fullmatch(mark)) and comment["kind"] in KINDS:
            return comment["kind"], comment["name"] or ""
    return "", ""


BLOCKS = {str(path.relative_to(ROOT)): blocks_of(path) for path in PAGES}

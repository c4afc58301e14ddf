"""Every block of code and every command of README.md and docs/ runs, or says what else proves it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from . import checks, settings
from .blocks import BLOCKS, ROOT, Block

SECONDS = 120
RUN = {page: blocks for page, blocks in BLOCKS.items() if any(block.kind in ("run", "shell") for block in blocks)}
EVERY = [block for blocks in BLOCKS.values() for block in blocks]


class Page:
    """The blocks of one page, run in their order."""

    def __init__(self, folder: Path, request: pytest.FixtureRequest) -> None:
        self.folder, self.request = folder, request
        self.stack, self.given, self.printed = ExitStack(), dict[str, settings.Given](), ""

    def setting(self, block: Block) -> settings.Given:
        if block.name not in self.given:
            made = getattr(settings, block.name)(self.request.getfixturevalue)
            self.given[block.name] = self.stack.enter_context(made)
        return self.given[block.name]

    def run(self, block: Block) -> None:
        getattr(self, f"run_{block.kind}", lambda block: None)(block)

    def run_run(self, block: Block) -> None:
        given = self.setting(block)
        text = _replaced(block.text, given.places)
        if given.sql:
            given.sql(text)
            return
        exec(compile(text, str(block), "exec"), given.names)

    def run_file(self, block: Block) -> None:
        (self.folder / block.name).write_text(block.text)

    def run_shell(self, block: Block) -> None:
        given = self.setting(block)
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "INSTRUMENTED_", "PG"))
        }
        path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
        shell = {**kept, "PATH": path, "PYTHONPATH": str(ROOT), **given.environment}
        command = ["bash", "-o", "pipefail", "-c", _replaced(block.text, given.places)]
        done = subprocess.run(
            command, cwd=self.folder, env=shell, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        self.printed = done.stdout + done.stderr
        expected = 1 if "# fails" in block.text else 0
        assert done.returncode == expected, f"{block}: {self.printed}"

    def run_output(self, block: Block) -> None:
        shown = _in_words(block.text)
        pattern = r"[\s\S]*?".join(re.escape(part) for part in re.split(r"\.\.\.", shown))
        assert re.fullmatch(pattern, _in_words(self.printed)), f"{block} shows\n{shown}\nand it is\n{self.printed}"


def _replaced(text: str, places: dict[str, str]) -> str:
    for shown, real in places.items():
        text = text.replace(shown, real)
    return text


def _in_words(text: str) -> str:
    """Return the text without what differs from run to run: numbers, folders, widths."""
    text = re.sub(r"(?:/[\w.+-]+)+/", "/", text)
    return re.sub(r"\d+(\.\d+)*", "N", " ".join(text.split()))


@pytest.fixture
def page(tmp_path: Path, request: pytest.FixtureRequest) -> Page:
    return Page(tmp_path, request)


@pytest.mark.parametrize("name", RUN)
def test_the_blocks_of_a_page_run(name: str, page: Page) -> None:
    with page.stack:
        for block in RUN[name]:
            page.run(block)


@pytest.mark.parametrize("block", [block for block in EVERY if block.kind == "checked"], ids=str)
def test_a_command_that_cannot_run_here_is_one_that_could(block: Block) -> None:
    getattr(checks, block.name)(block.text)


@pytest.mark.parametrize("block", [block for block in EVERY if block.kind == "tested by"], ids=str)
def test_a_block_that_another_test_runs_is_named_there(block: Block) -> None:
    assert Path(block.page).name in (ROOT / block.name).read_text()


@pytest.mark.parametrize("block", EVERY, ids=str)
def test_every_block_is_proved(block: Block) -> None:
    assert block.kind, f"{block}: say how it is run, in a comment before it (tests/docs/blocks.py)"
    assert block.name or block.kind in ("output", "drawing", "measured"), block
    assert block.kind != "needs" or len(block.name.split()) > 2, "say what it needs, and why no test has it"

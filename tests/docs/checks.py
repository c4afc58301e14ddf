"""What is read of a block that cannot be run here: installations, command lines of the reader's own programs."""

from __future__ import annotations

import re
import shlex
import tomllib
from importlib.metadata import entry_points

from instrumented_wrapper import options
from instrumented_wrapper.doctor import command_line
from servers.__main__ import parser

from .blocks import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
TARGETS = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)


def install(text: str) -> None:
    """Every extra is one of ours, and every package is one that the tests have installed."""
    known = {re.split(r"[\[<>=; ]", need)[0] for needs in PROJECT["optional-dependencies"].values() for need in needs}
    for word in shlex.split(text):
        if word.startswith("instrumented-wrapper"):
            named = re.fullmatch(r"instrumented-wrapper(?:\[([\w,-]+)\])?", word)
            assert named, word
            assert set(filter(None, (named[1] or "").split(","))) <= set(PROJECT["optional-dependencies"])
        else:
            assert word in ("pip", "install", "python", "-m") or word in known | {"opentelemetry-exporter-otlp"}, word


def install_and_launch(text: str) -> None:
    """The first line installs, the others launch."""
    first, _, others = text.partition("\n")
    install(first)
    launcher(others)


def launcher(text: str) -> None:
    """The launcher is there, it finds us, and each variable is one that somebody reads."""
    assert "opentelemetry-instrument " in text
    assert any(entry.name == "opentelemetry-instrument" for entry in entry_points(group="console_scripts"))
    assert any(entry.name == "instrumented_wrapper" for entry in entry_points(group="opentelemetry_instrumentor"))
    environment(text)


def environment(text: str) -> None:
    """Every variable of ours has a name and a value that are accepted."""
    words = (word.partition("=") for word in shlex.split(text, comments=True) if "=" in word)
    ours = {name: value for name, _, value in words if name.startswith(options.PREFIX)}
    assert "INSTRUMENTED_WRAPPER_" not in text or ours
    options.from_environment(ours)


def doctor(text: str) -> None:
    """Every command line is one that the doctor reads."""
    for line in text.strip().splitlines():
        words = shlex.split(line)
        assert words[:3] == ["python", "-m", "instrumented_wrapper"], line
        if words[3:]:
            assert words[3] == "doctor"
            ours = words[3 : words.index("--")] if "--" in words else words[3:]
            command_line._parsers()[0].parse_args(ours)


def make(text: str) -> None:
    """Every line is a target of the Makefile, which tests and CI run."""
    for line in text.strip().splitlines():
        command, target = shlex.split(line, comments=True)[:2]
        assert command == "make" and (target in TARGETS or target.removeprefix(".venv/") in EXTRAS), line


def activate(text: str) -> None:
    """It enters the folder that `make` sets up."""
    assert text == ". .venv/bin/activate\n" and "BIN := .venv/bin" in (ROOT / "Makefile").read_text()


def servers(text: str) -> None:
    """The command line is one that `python -m servers` reads."""
    words = shlex.split(text)
    assert words[:3] == ["python", "-m", "servers"]
    parser().parse_args(words[3:])


def example(text: str) -> None:
    """It shows a file of examples/, which tests run."""
    shown = re.fullmatch(r'--8<-- "(examples/\S+)"\n', text)
    assert shown and (ROOT / shown[1]).exists(), text

"""Record the demo as a terminal, in an SVG that plays by itself: ``python docs/pictures/terminal.py``.

Each line appears when the demo printed it; long pauses are cut. Who asks for reduced motion sees all lines at once.
"""

from __future__ import annotations

import itertools
import os
import pty
import re
import sys
import time
from html import escape
from pathlib import Path

HERE = Path(__file__).parent
DEMO = HERE.parents[1] / "examples" / "demo.py"
PICTURE = HERE / "demo.svg"
LONGEST = 1.5  # seconds of a pause
COLUMNS, LINE, LETTER, MARGIN = 84, 18, 7.8, 14
STYLE = re.compile(r"\x1b\[([\d;]*)m")
CLASSES = {"1": "b", "2": "d", "31": "r", "32": "g", "33": "y", "36": "c"}


def record(command: list[str]) -> list[tuple[float, str]]:
    """Run a command in a terminal; return when it printed each line, in seconds, and the line."""
    began, lines, rest = time.monotonic(), list[tuple[float, str]](), ""
    child, terminal = pty.fork()
    if not child:
        os.execv(command[0], command)
    while True:
        try:
            rest += os.read(terminal, 65536).decode(errors="replace")
        except OSError:  # the command has ended
            break
        *whole, rest = rest.split("\n")
        lines += [(time.monotonic() - began, line.rstrip("\r")) for line in whole]
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit(f"{command} ended with {status}")
    return lines


def spans(line: str) -> str:
    """Return a line as text of SVG, its styles as classes."""
    found, styles = "", list[str]()
    for number, part in enumerate(STYLE.split(line)):
        if number % 2:
            codes = part.split(";")
            styles = [] if codes in (["0"], [""]) else [*styles, *(CLASSES[code] for code in codes if code in CLASSES)]
        elif part:
            text = escape(part)
            found += f'<tspan class="{" ".join(styles)}">{text}</tspan>' if styles else text
    return found


def drawn(lines: list[tuple[float, str]]) -> str:
    """Return the recording as SVG."""
    waits = [after - before for (before, _), (after, _) in itertools.pairwise(lines)]
    moments = [0.0, *itertools.accumulate(min(wait, LONGEST) for wait in waits)]
    texts = [
        f'<text x="{MARGIN}" y="{MARGIN + (number + 1) * LINE}" style="animation-delay:{moments[number]:.2f}s">'
        f"{spans(line)}</text>"
        for number, (_, line) in enumerate(lines)
        if STYLE.sub("", line).strip()
    ]
    width, height = round(COLUMNS * LETTER + 2 * MARGIN), (len(lines) + 1) * LINE + 2 * MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" xml:space="preserve">',
            "<title>make demo, recorded</title>",
            "<style>text{font:13px monospace;fill:#d8dee9;white-space:pre;animation:a .01s both}"
            "@keyframes a{from{opacity:0}}"
            "@media(prefers-reduced-motion:reduce){text{animation:none}}"
            ".b{font-weight:bold}.d{fill:#8892a4}.r{fill:#ff6b6b}.g{fill:#7ee787}.y{fill:#f2cc60}.c{fill:#79c0ff}</style>",
            f'<rect width="{width}" height="{height}" rx="8" fill="#1b2028"/>',
            *texts,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    os.chdir(HERE.parents[1])
    PICTURE.write_text(drawn(record([sys.executable, str(DEMO)])))

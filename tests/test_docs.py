"""The table of drivers in the README is that of the code."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from instrumented_wrapper.instrument import PATCHERS
from instrumented_wrapper.options import DRIVERS

ROOT = Path(__file__).parents[1]
ROWS = {
    cells[0]: cells
    for line in (ROOT / "README.md").read_text().splitlines()
    if (cells := [cell.strip() for cell in line.strip("|").split("|")])[0].startswith("[`")
}
ROOMS = {name: patcher.room for name, patcher in PATCHERS.items() if name == patcher.driver}


def row(driver: str) -> list[str]:
    return next(cells for first, cells in ROWS.items() if f"[`{driver}`]" in first)


def test_every_driver_has_a_row() -> None:
    assert len(ROWS) == len(ROOMS) == len(DRIVERS)
    assert set(ROOMS) == set(DRIVERS)


@pytest.mark.parametrize("driver", sorted(ROOMS))
def test_a_row_says_what_the_code_does(driver: str) -> None:
    try:
        import_module(driver)  # the app's own import comes first, and is what patches
        room = import_module(ROOMS[driver])
    except ImportError as error:
        pytest.skip(f"{driver} is not installed: {error}")
    name, _, version, settings, failover, _ = row(driver)
    oldest = getattr(room, "OLDEST", None)
    if oldest is not None:
        assert version == ".".join(map(str, oldest))
    told = set(re.findall(r"`(\w+)`", settings))
    native = getattr(room, "NATIVE", None)
    known = set(native.settings) if native is not None else set(room.SETTINGS)
    assert known <= told
    assert (failover == "yes") is (driver != "sqlite3")
    (page,) = re.findall(r"\]\((docs/drivers/[\w-]+\.md)\)", name)
    assert (ROOT / page).exists()


def test_every_driver_has_an_example() -> None:
    assert len(list((ROOT / "examples" / "drivers").glob("*_app.py"))) == len(DRIVERS)

"""The table of drivers in the README is that of the code."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from instrumented_wrapper.supported import PoolEntry, ThreadEntry, driver_entries, driver_names, entries

ROOT = Path(__file__).parents[1]
ROWS = {
    cells[0]: cells
    for line in (ROOT / "README.md").read_text().splitlines()
    if (cells := [cell.strip() for cell in line.strip("|").split("|")])[0].startswith("[`")
}


def row(driver: str) -> list[str]:
    return next(cells for first, cells in ROWS.items() if f"[`{driver}`]" in first)


def test_every_driver_has_a_row() -> None:
    assert len(ROWS) == len(driver_names())
    assert all(map(row, driver_names()))
    assert f"comma list: `{','.join(driver_names())}`" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("driver", driver_names())
def test_a_row_says_what_the_code_does(driver: str) -> None:
    try:
        import_module(driver)  # the app's own import comes first, and is what patches
        room = import_module(driver_entries()[driver].room)
    except ImportError as error:
        pytest.skip(f"{driver} is not installed: {error}")
    entry = driver_entries()[driver]
    name, _, version, settings, failover, pools = row(driver)
    assert version == (".".join(map(str, entry.oldest)) or "Python 3.11")
    assert set(room.DRIVER.settings) <= set(re.findall(r"`(\w+)`", settings))
    assert (failover == "yes") is entry.has_server
    pooled = (pool for pool in entries().values() if isinstance(pool, PoolEntry))
    assert pools == ", ".join(pool.module for pool in pooled if pool.driver == driver)
    (page,) = re.findall(r"\]\((docs/drivers/[\w-]+\.md)\)", name)
    assert (ROOT / page).exists()


def test_every_driver_has_an_example() -> None:
    in_threads = [entry for entry in entries().values() if isinstance(entry, ThreadEntry)]
    assert len(list((ROOT / "examples" / "drivers").glob("*_app.py"))) == len(driver_names()) + len(in_threads)

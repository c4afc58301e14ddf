"""What `make dist` runs against the built wheel, in an environment that has it, and nothing of the repository.

The package imports, is typed, is found by OpenTelemetry, patches a driver, and looks after a session of sqlite3.
"""

import sqlite3
import subprocess
import sys
from importlib.metadata import entry_points, files, version
from pathlib import Path

import instrumented_wrapper as iw


def main() -> None:
    """Run the checks; an assertion that fails ends the program."""
    assert "site-packages" in str(Path(iw.__file__).resolve()), iw.__file__
    assert version("instrumented-wrapper") == iw.__version__
    packaged = {str(file) for file in files("instrumented-wrapper") or ()}
    assert "instrumented_wrapper/py.typed" in packaged
    assert not [name for name in packaged if name.startswith(("tests/", "servers/", "docs/", "examples/"))]
    (found,) = (
        each for each in entry_points(group="opentelemetry_instrumentor") if each.name == "instrumented_wrapper"
    )
    assert found.load().__name__ == "InstrumentedWrapperInstrumentor"
    iw.instrument()
    connection = sqlite3.connect(":memory:")
    connection.execute("PRAGMA foreign_keys = 1")
    assert str(iw.session_state(connection)) == "foreign_keys: 0 -> 1"
    assert iw.reset_session(connection)
    assert connection.execute("PRAGMA foreign_keys").fetchone() == (0,)
    iw.uninstrument()
    subprocess.run([sys.executable, "-m", "instrumented_wrapper"], check=True, stdout=subprocess.DEVNULL)
    print(f"instrumented-wrapper {iw.__version__}: the wheel works")


if __name__ == "__main__":
    main()

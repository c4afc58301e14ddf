"""A recorder that is the only one that is told."""

import pytest
from recorder import Recorder


@pytest.fixture
def recorder(monkeypatch) -> Recorder:
    return Recorder().listen(monkeypatch)

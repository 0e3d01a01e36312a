"""The data directory: one hub uses it, and what is lost or damaged in it is said."""

import hashlib
from pathlib import Path

import pytest

from harness.hub import Hub, HubFailure


@pytest.fixture
def hub(tmp_path):
    hub = Hub(data=tmp_path / "data").start()
    yield hub
    hub.stop()


def digests(data: Path) -> dict[str, str]:
    """What does not change while a hub rests."""
    files = [path for path in data.iterdir() if path.is_file() and not path.name.startswith("registry.db")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_second_hub_is_refused_before_it_touches_anything(hub):
    before = digests(hub.data)
    second = Hub(data=hub.data, hostnames=("another.example",))
    with pytest.raises(HubFailure, match="in use by another hub"):
        second.start()
    assert digests(hub.data) == before
    assert "server.key" in before

"""What `holdfast why` says of what a client just did."""

from contextlib import suppress

import pytest
from azure.iot.device import exceptions

from harness import devices
from harness.hub import Hub
from harness.wait import until

MEMBERS = ("cause", "explanation", "presented", "expected", "change", "fix")


class Refusals:
    """The refusals from now on, for clients that have no name to ask by."""

    def __init__(self, hub: Hub):
        self._hub = hub
        self._before = max((entry["number"] for entry in hub.why("--limit", "5")), default=0)

    def __enter__(self) -> "Refusals":
        return self

    def __exit__(self, *_) -> None:
        pass

    def entries(self) -> list[dict]:
        return [entry for entry in self._hub.why("--limit", "50") if entry["number"] > self._before]

    def top(self) -> dict:
        """The newest entry, complete."""
        return complete(until(self.entries, 5, "a refusal")[0])

    def of(self, cause: str) -> dict:
        """The newest entry of a cause; fails with the causes that were named instead."""
        try:
            found = until(lambda: [entry for entry in self.entries() if entry["cause"] == cause], 5)
        except AssertionError:
            raise AssertionError(f"`{cause}` was not named, but {[e['cause'] for e in self.entries()]}") from None
        return complete(found[0])


def the_refusal(hub: Hub, device: str) -> dict:
    """The one entry that a single refused attempt of a device leaves, complete."""
    [entry] = until(lambda: hub.why(device), 5, f"an entry for {device}")
    return complete(entry)


def complete(entry: dict) -> dict:
    for member in MEMBERS:
        assert entry[member], f"`{member}` says nothing: {entry}"
    assert entry["fix"].startswith("holdfast "), entry["fix"]
    return entry


def refused(client) -> None:
    """Connects by an SDK, which is refused."""
    with pytest.raises((exceptions.CredentialError, exceptions.ConnectionFailedError)), devices.connected(client):
        pass


def tried(client) -> None:
    """Connects by an SDK, whatever comes of it."""
    with suppress(Exception), devices.connected(client):
        pass

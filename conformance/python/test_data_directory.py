"""The data directory: one hub uses it, and what is lost or damaged in it is said."""

import hashlib
import shutil
from pathlib import Path

import pytest

from harness.hub import Hub, HubFailure
from harness.raw_mqtt import RawDevice
from harness.rest import Registry, Rest


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


def send(hub: Hub, name: str, count: int = 3) -> None:
    device = Registry(hub).create(name)
    with RawDevice(hub, name, device.token()) as live:
        for number in range(count):
            assert live.publish(f"devices/{name}/messages/events/", b"%d" % number)


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir(mode=0o700)


LOSSES = {
    "registry": (lambda data: [path.unlink() for path in data.glob("registry.db*")], "registry.db is missing"),
    "empty registry": (lambda data: (data / "registry.db").write_bytes(b""), "registry.db is missing or empty"),
    "journal": (lambda data: shutil.rmtree(data / "journal"), "`journal` is missing"),
    "emptied journal": (lambda data: empty(data / "journal"), "`journal` is missing"),
    "segments": (lambda data: [path.unlink() for path in (data / "journal").glob("*.journal")], "newest events of partition"),
    "empty segments": (lambda data: [path.write_bytes(b"") for path in (data / "journal").glob("*.journal")], "newest events"),
    "uploads": (lambda data: shutil.rmtree(data / "uploads"), "`uploads` is missing"),
}


@pytest.mark.parametrize("what", LOSSES)
def test_what_is_missing_is_named_and_accepted_only_by_an_operator(hub, what):
    send(hub, "one")
    hub.stop()
    lose, words = LOSSES[what]
    lose(hub.data)
    for _ in range(2):
        with pytest.raises(HubFailure, match=words):
            hub.start()
        assert "--accept-loss" in hub.stderr()
    accepted = Hub(data=hub.data, accept_loss=True).start()
    records = accepted.cli("audit", "list")
    assert any(record["act"].get("what") == "accept loss" for record in records)
    accepted.stop()
    hub.start()


def test_keys_that_are_missing_are_not_made_anew(hub):
    hub.stop()
    (hub.data / "keys.json").unlink()
    with pytest.raises(HubFailure, match="keys.json is missing"):
        hub.start()
    assert not (hub.data / "keys.json").exists()


def test_a_folder_of_another_hub_is_named(hub, tmp_path):
    other = Hub(data=tmp_path / "other").start()
    send(other, "one")
    other.stop()
    hub.stop()
    shutil.rmtree(hub.data / "journal")
    shutil.copytree(other.data / "journal", hub.data / "journal")
    with pytest.raises(HubFailure, match="`journal` belongs to another registry.db"):
        hub.start()


def test_a_kill_at_any_time_is_no_loss(hub):
    for number in range(3):
        send(hub, f"d{number}")
        hub.kill()
        hub.start()


def test_a_damaged_device_is_named_and_the_others_are_listed(hub):
    for number in range(5):
        Registry(hub).create(f"d{number}")
    hub.stop()
    # A copy of this file alone has all of it.
    assert not (hub.data / "registry.db-wal").exists() or (hub.data / "registry.db-wal").stat().st_size == 0
    path = hub.data / "registry.db"
    content = path.read_bytes()
    at = content.index(b'"id":"d2"')
    path.write_bytes(content[:at] + b'"id":"dX"' + content[at + 9 :])
    hub.start()
    answer = Rest(hub).call("GET", "/devices")
    assert answer.status == 200
    assert sorted(device["deviceId"] for device in answer.body) == ["d0", "d1", "d3", "d4"]
    damages = hub.cli("scrub", accepted=(1,))
    assert len(damages) == 1 and "`d2`" in damages[0]["damage"]
    found = [found for found in hub.posture()["findings"] if found["check"] == "hub-files-damaged"]
    assert [(one["severity"], "`d2`" in one["summary"]) for one in found] == [("high", True)]
    assert 'holdfast_damaged_places{hub="' in Rest(hub).call("GET", "/metrics").body.decode()
    assert "cannot be read" in hub.stderr()


def test_a_whole_directory_has_nothing_to_scrub(hub):
    send(hub, "one")
    assert hub.cli("scrub") == []


def test_a_full_disk_refuses_telemetry_and_says_why_and_devices_can_be_disabled(tmp_path):
    config = tmp_path / "holdfast.toml"
    # More than any disk has free.
    config.write_text("reserve-megabytes = 1000000000\n")
    hub = Hub(data=tmp_path / "data", config=config).start()
    try:
        registry = Registry(hub)
        device = registry.create("greedy")
        live = RawDevice(hub, "greedy", device.token()).open()
        assert live.connack == 0
        assert not live.publish("devices/greedy/messages/events/", b"x")
        answer = Rest(hub, authorization=device.token()).call("POST", "/devices/greedy/messages/events", data=b"x")
        assert answer.status == 503
        assert {entry["cause"] for entry in hub.why("greedy")} == {"disk-full"}
        assert len(hub.why("greedy")) == 2
        rest = Rest(hub)
        body = rest.expect(200, "GET", "/devices/greedy")
        rest.expect(200, "PUT", "/devices/greedy", {**body, "status": "disabled"}, {"If-Match": "*"})
        assert RawDevice(hub, "greedy", device.token()).open().connack == 5
        found = [found["check"] for found in hub.posture()["findings"]]
        assert "hub-disk-full" in found
    finally:
        hub.stop()
    config.write_text("")
    hub.start()
    try:
        send(hub, "other")
    finally:
        hub.stop()

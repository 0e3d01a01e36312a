"""A clock that jumps loses nothing: libfaketime moves the time of day, and nothing else, of a hub that runs."""

import socket
import ssl

import pytest

from harness.hub import Hub
from harness.raw_mqtt import RawDevice
from harness.rest import Registry
from harness.wait import until

HOUR = 3600


@pytest.fixture
def hub(tmp_path):
    hub = Hub(data=tmp_path / "data", moves_clock=True).start()
    yield hub
    hub.stop()


def send(hub: Hub, device, count: int) -> None:
    with RawDevice(hub, device.device, device.token(seconds=hub.clock.seconds + HOUR)) as live:
        assert live.connack == 0
        for number in range(count):
            assert live.publish(f"devices/{device.device}/messages/events/", b"%d" % number)


def events(hub: Hub) -> tuple[int, int]:
    """How many events are there for a new reader, and how many were deleted before."""
    group = next(group for group in hub.cli("events", "consumer-group", "list") if group["name"] == "$Default")
    return group["waiting"], group["expired"]


def finding(hub: Hub) -> list[dict]:
    found = hub.posture()["findings"]
    return [finding for finding in found if finding["check"] == "hub-clock-ahead" and finding["closed"] is None]


@pytest.mark.parametrize("restarts", [False, True], ids=["while it runs", "while it is off"])
def test_a_jump_of_25_hours_deletes_no_event_until_somebody_trusts_the_clock(hub, restarts):
    device = Registry(hub).create("one")
    send(hub, device, 5)
    if restarts:
        hub.stop()
    hub.clock.advance(25 * HOUR)
    if restarts:
        hub.start()
    clock = hub.cli("trust-clock", "--show")
    assert (clock["trusted"], round(clock["aheadSeconds"] / HOUR)) == (False, 25)
    assert 3500 < clock["trustedInSeconds"] <= 3600
    # A hub that is started deletes at once what is due; another start must not take the jump for a rest.
    for _ in range(2):
        hub.restart()
        assert events(hub) == (5, 0)
    assert [found["severity"] for found in finding(hub)] == ["high"]
    assert "jumped ahead" in hub.stderr()
    assert hub.cli("trust-clock")["trusted"] is True
    assert events(hub) == (0, 5), "now they are old"
    assert finding(hub) == []
    assert any(record["act"].get("what") == "trust clock" for record in hub.cli("audit", "list"))


def test_a_jump_back_loses_nothing_and_keeps_the_order(hub):
    device = Registry(hub).create("one")
    send(hub, device, 3)
    hub.clock.advance(-HOUR)
    hub.restart()
    send(hub, device, 3)
    times = [record["time"] for record in hub.cli("audit", "list") if record["act"]["kind"] == "connect"]
    assert times[0] < times[-1], "the clock did go back"
    assert events(hub) == (6, 0)
    assert hub.cli("trust-clock", "--show")["trusted"] is True


def certificate_files(hub: Hub) -> dict[str, bytes]:
    return {name: (hub.data / name).read_bytes() for name in ("ca.pem", "ca.key", "server.pem", "server.key")}


def presented(hub: Hub) -> ssl.SSLSocket:
    """A handshake that trusts `ca.pem`, by the true clock."""
    context = ssl.create_default_context(cafile=str(hub.data / "ca.pem"))
    with socket.create_connection((hub.address, hub.ports["mqtt"])) as plain:
        return context.wrap_socket(plain, server_hostname="localhost").close()


def trusts(hub: Hub) -> bool:
    try:
        presented(hub)
        return True
    except ssl.SSLCertVerificationError:
        return False


DAY = 24 * HOUR


@pytest.mark.parametrize("days", [1000, -15_000], ids=["ahead", "in the eighties"])
@pytest.mark.parametrize("restarts", [False, True], ids=["while it runs", "while it is off"])
def test_an_authority_that_a_wrong_clock_made_is_made_again_while_nobody_has_it(tmp_path, days, restarts):
    hub = Hub(data=tmp_path / "data", moves_clock=True)
    hub.clock.advance(days * DAY)
    hub.start()
    try:
        assert not trusts(hub)
        hub.clock.advance(-days * DAY)
        if restarts:
            hub.restart()
        until(lambda: trusts(hub), 30, "a certificate that is valid")
        assert "made by a clock that was wrong" in hub.stderr()
        send(hub, Registry(hub).create("one"), 1)
    finally:
        hub.stop()


def test_an_authority_that_clients_have_stays_and_the_log_says_what_is_wrong(tmp_path):
    hub = Hub(data=tmp_path / "data", moves_clock=True)
    hub.clock.advance(1000 * DAY)
    hub.start()
    try:
        hub.cli("device", "create", "one")
        before = certificate_files(hub)
        hub.clock.advance(-1000 * DAY)
        hub.restart()
        assert certificate_files(hub) == before
        assert "no client trusts the hub" in hub.stderr() and "delete ca.pem" in hub.stderr()
    finally:
        hub.stop()


def test_a_certificate_that_a_wrong_clock_issued_is_issued_again(hub):
    Registry(hub).create("one")
    hub.clock.advance(400 * DAY)
    hub.restart()
    assert not trusts(hub), "it is not valid yet by the true clock"
    authority = (hub.data / "ca.pem").read_bytes()
    hub.clock.advance(-400 * DAY)
    until(lambda: trusts(hub), 30, "a certificate that is valid")
    assert (hub.data / "ca.pem").read_bytes() == authority

"""The life of a connection: one per identity, ended with its right, remembered over a restart."""

import logging
import threading
import time

import pytest

from harness import devices, sas
from harness.certificates import self_signed
from harness.events import BATCH, body_of, consumer
from harness.hub import Hub
from harness.raw_mqtt import RawDevice, connect_packet, tls_stream
from harness.rest import Registry, Rest
from harness.wait import until

SUBSCRIPTIONS = [
    "devices/{name}/messages/devicebound/#",
    "$iothub/methods/POST/#",
    "$iothub/twin/res/#",
    "$iothub/twin/PATCH/properties/desired/#",
]


def test_the_newer_connection_takes_over_and_the_older_one_is_closed(hub, registry, reader, name):
    identity = registry.create(name)
    with RawDevice(hub, name, identity.token()) as older, RawDevice(hub, name, identity.token()) as newer:
        assert (older.connack, newer.connack) == (0, 0)
        assert older.closed.wait(1), "the older connection is closed within a second"
        assert newer.publish(f"devices/{name}/messages/events/", b"from the newer")
    [event] = reader.from_device(name)
    assert body_of(event) == b"from the newer"


def test_a_takeover_crosses_from_tcp_to_websocket(hub, registry, reader, name):
    identity = registry.create(name)
    with RawDevice(hub, name, identity.token()) as older:
        with devices.connected(devices.by_key(hub, identity, websockets=True)) as newer:
            assert older.closed.wait(1)
            newer.send_message("from the newer")
    assert reader.from_device(name)


def test_an_sdk_client_that_is_taken_over_learns_of_its_end(hub, registry, name):
    identity = registry.create(name)
    gone = threading.Event()
    older = devices.by_key(hub, identity)
    older.on_connection_state_change = lambda: older.connected or gone.set()
    with devices.connected(older), RawDevice(hub, name, identity.token()) as newer:
        assert newer.connack == 0
        assert gone.wait(5)


def test_a_refused_connection_takes_nothing_over(hub, registry, name):
    identity = registry.create(name)
    with RawDevice(hub, name, identity.token()) as rightful:
        with RawDevice(hub, name, identity.token(key=sas.new_key())) as thief:
            assert thief.connack == 5
        assert not rightful.closed.wait(0.5)
        assert rightful.publish(f"devices/{name}/messages/events/", b"still here")


def test_a_module_and_its_device_have_each_their_own_connection(hub, registry, name):
    device = registry.create(name)
    module = registry.create_module(name, "m1")
    with RawDevice(hub, name, device.token()) as one, RawDevice(hub, f"{name}/m1", module.token()) as other:
        assert (one.connack, other.connack) == (0, 0)
        assert one.publish(f"devices/{name}/messages/events/", b"x")
        assert other.publish(f"devices/{name}/modules/m1/messages/events/", b"x")


def test_a_request_over_https_takes_nothing_over(hub, registry, name):
    identity = registry.create(name)
    with RawDevice(hub, name, identity.token()) as device:
        sender = Rest(hub, authorization=identity.token())
        assert sender.call("POST", f"/devices/{name}/messages/events", data=b"x").status == 204
        assert not device.closed.wait(0.5)


def test_a_session_ends_with_its_token(hub, registry, name):
    token = registry.create(name).token(seconds=3)
    with RawDevice(hub, name, token) as device:
        assert device.connack == 0
        assert device.publish(f"devices/{name}/messages/events/", b"within the time")
        assert device.closed.wait(sas.expiry_of(token) - time.time() + 1.5)
        assert time.time() >= sas.expiry_of(token) - 0.1, "not before its time"


def test_a_session_of_a_policy_token_ends_with_it_too(hub, registry, name):
    registry.create(name)
    token = sas.token(hub.hostname, hub.policy_key("device"), "device", seconds=2)
    with RawDevice(hub, name, token) as device:
        assert device.connack == 0
        assert device.closed.wait(sas.expiry_of(token) - time.time() + 1.5)


def test_a_token_past_its_end_is_admitted_within_the_skew(hub, registry, name):
    with RawDevice(hub, name, registry.create(name).token(seconds=-240)) as device:
        assert device.connack == 0
        assert not device.closed.wait(1)


def test_the_sdk_renews_its_token_without_the_application_noticing(hub, registry, reader, name):
    # The SDK renews 120 s before the end of a token, so 123 s of life means a new connection after 3 s.
    client = devices.by_key(hub, registry.create(name), sastoken_ttl=123, connection_retry=True)
    states = []
    client.on_connection_state_change = lambda: states.append(client.connected)
    with devices.connected(client):
        client.send_message("with the first token")
        until(lambda: states[-2:] == [False, True], 15, "a second connection")
        client.send_message("with the second token")
    events = reader.from_device(name, 2)
    assert [body_of(event) for event in events] == [b"with the first token", b"with the second token"]


def disable(registry: Registry, device: str) -> None:
    registry.update(device, status="disabled")


def delete(registry: Registry, device: str) -> None:
    registry.delete(device)


def change_keys(registry: Registry, device: str) -> None:
    keys = {"primaryKey": sas.new_key(), "secondaryKey": sas.new_key()}
    registry.update(device, authentication={"type": "sas", "symmetricKey": keys})


def change_kind(registry: Registry, device: str) -> None:
    registry.update(device, authentication={"type": "certificateAuthority"})


@pytest.mark.parametrize("change", [disable, delete, change_keys, change_kind], ids=lambda change: change.__name__)
def test_a_live_session_ends_within_a_second_of_losing_its_right(change, hub, registry, name):
    identity = registry.create(name)
    with RawDevice(hub, name, identity.token()) as device:
        assert device.connack == 0
        change(registry, name)
        assert device.closed.wait(1)
    with RawDevice(hub, name, identity.token()) as again:
        assert again.connack == 5


@pytest.mark.parametrize("change", [disable, delete], ids=lambda change: change.__name__)
def test_the_session_of_a_module_ends_with_its_device(change, hub, registry, name):
    registry.create(name)
    module = registry.create_module(name, "m1")
    with RawDevice(hub, f"{name}/m1", module.token()) as device:
        assert device.connack == 0
        change(registry, name)
        assert device.closed.wait(1)


def test_a_session_under_a_policy_token_ends_when_its_device_is_disabled(hub, registry, name):
    registry.create(name)
    with RawDevice(hub, name, sas.token(hub.hostname, hub.policy_key("device"), "device")) as device:
        disable(registry, name)
        assert device.closed.wait(1)


def test_a_session_ends_when_its_certificate_is_replaced(hub, registry, name, tmp_path):
    own, other = self_signed(tmp_path, name), self_signed(tmp_path, f"{name}-2")
    thumbprints = {"primaryThumbprint": own.sha256, "secondaryThumbprint": own.sha256}
    registry.create(name, {"type": "selfSigned", "x509Thumbprint": thumbprints})
    with RawDevice(hub, name, credential=own) as device:
        assert device.connack == 0
        thumbprints = {"primaryThumbprint": other.sha256, "secondaryThumbprint": other.sha256}
        registry.update(name, authentication={"type": "selfSigned", "x509Thumbprint": thumbprints})
        assert device.closed.wait(1)


def test_a_session_of_the_key_that_stays_survives_the_change_of_the_other(hub, registry, name):
    identity = registry.create(name)
    keys = identity.record["authentication"]["symmetricKey"]
    with RawDevice(hub, name, identity.token(key=keys["secondaryKey"])) as device:
        changed = {"primaryKey": sas.new_key(), "secondaryKey": keys["secondaryKey"]}
        registry.update(name, authentication={"type": "sas", "symmetricKey": changed})
        assert not device.closed.wait(1.5)
        assert device.publish(f"devices/{name}/messages/events/", b"still here")


def test_a_change_that_concerns_no_credential_ends_no_session(hub, registry, name):
    with RawDevice(hub, name, registry.create(name).token()) as device:
        registry.update(name, statusReason="moved to the cellar")
        assert not device.closed.wait(1.5)


def test_the_registry_shows_who_is_connected(hub, registry, name):
    def state() -> str:
        return registry.rest.expect(200, "GET", f"/devices/{name}")["connectionState"]

    identity = registry.create(name)
    assert state() == "Disconnected"
    with RawDevice(hub, name, identity.token()) as device:
        until(lambda: state() == "Connected", 2)
        device.close()
        until(lambda: state() == "Disconnected", 2)


def test_silence_beyond_one_and_a_half_keep_alives_closes_the_connection(hub, registry, name):
    with tls_stream(hub) as stream:
        stream.sendall(connect_packet(hub, name, registry.create(name).token(), keep_alive_seconds=2))
        assert stream.recv(4) == b"\x20\x02\x00\x00"
        started = time.monotonic()
        stream.settimeout(6)
        assert stream.recv(1) == b""
        assert 2.9 <= time.monotonic() - started <= 4.5


def test_a_will_is_sent_when_the_connection_ends_without_goodbye(hub, registry, reader, name):
    identity = registry.create(name)
    device = RawDevice(hub, name, identity.token(), will=(f"devices/{name}/messages/events/a=1", b"last words"))
    with device, RawDevice(hub, name, identity.token()) as newer:
        assert newer.connack == 0
    [event] = reader.from_device(name)
    assert body_of(event) == b"last words"
    assert event.properties[b"iothub-MessageType"] == b"Will"


def test_a_will_is_dropped_after_a_goodbye(hub, registry, reader, name):
    identity = registry.create(name)
    with RawDevice(hub, name, identity.token(), will=(f"devices/{name}/messages/events/", b"last words")):
        pass
    with RawDevice(hub, name, identity.token()) as device:
        device.publish(f"devices/{name}/messages/events/", b"ordinary")
    [event] = reader.from_device(name)
    assert body_of(event) == b"ordinary"


class TestOverARestart:
    """Each test restarts the hub that all tests of this class share, so they stand apart."""

    @pytest.fixture
    def kept(self, tmp_path):
        hub = Hub(data=tmp_path / "data").start()
        yield hub
        hub.stop()

    def test_subscriptions_survive_and_the_session_is_present(self, kept, name):
        identity = Registry(kept).create(name)
        with RawDevice(kept, name, identity.token()) as device:
            assert device.session_present is False
            for topic in SUBSCRIPTIONS:
                assert device.subscribe(topic.format(name=name)) == (1,)
        kept.restart()
        with RawDevice(kept, name, identity.token()) as device:
            assert (device.connack, device.session_present) == (0, True)

    def test_subscriptions_survive_a_kill(self, kept, name):
        identity = Registry(kept).create(name)
        with RawDevice(kept, name, identity.token()) as device:
            assert device.subscribe(SUBSCRIPTIONS[0].format(name=name)) == (1,)
            kept.kill()
        kept.start()
        with RawDevice(kept, name, identity.token()) as device:
            assert device.session_present is True

    def test_a_clean_session_forgets_them(self, kept, name):
        identity = Registry(kept).create(name)
        with RawDevice(kept, name, identity.token()) as device:
            device.subscribe(SUBSCRIPTIONS[0].format(name=name))
        with RawDevice(kept, name, identity.token(), clean_session=True) as device:
            assert device.session_present is False
        with RawDevice(kept, name, identity.token()) as device:
            assert device.session_present is False

    def test_an_sdk_client_reconnects_to_its_session_and_goes_on(self, kept, name, caplog):
        caplog.set_level(logging.DEBUG, logger="paho")
        identity = Registry(kept).create(name)
        client = devices.by_key(kept, identity, connection_retry=True, connection_retry_interval=1)
        client.on_message_received = lambda message: None
        client.on_method_request_received = lambda request: None
        client.on_twin_desired_properties_patch_received = lambda patch: None
        with devices.connected(client):
            client.send_message("before")
            kept.stop()
            until(lambda: not client.connected, 10, "the client's notice of the end")
            kept.start()
            until(lambda: client.connected, 20, "the client's return")
            client.send_message("after")
        answers = [line for line in caplog.messages if line.startswith("Received CONNACK")]
        assert answers == ["Received CONNACK (0, 0)", "Received CONNACK (1, 0)"]

    def test_acknowledged_messages_survive_a_kill(self, kept, name):
        identity = Registry(kept).create(name)
        with RawDevice(kept, name, identity.token()) as device:
            for number in range(50):
                assert device.publish(f"devices/{name}/messages/events/", str(number).encode())
            kept.kill()
        kept.start()
        assert received(kept, 50) == [str(number).encode() for number in range(50)]

    def test_a_reader_goes_on_from_its_offset(self, kept, name):
        identity = Registry(kept).create(name)
        with RawDevice(kept, name, identity.token()) as device:
            device.publish(f"devices/{name}/messages/events/", b"before")
        before = received(kept, 1, whole=True)[0]
        kept.restart()
        with RawDevice(kept, name, identity.token()) as device:
            device.publish(f"devices/{name}/messages/events/", b"after")
        after = received(kept, 1, whole=True, start=before.offset)[0]
        assert body_of(after) == b"after"
        assert after.sequence_number == before.sequence_number + 1


def received(hub: Hub, count: int, whole: bool = False, start: str = "-1") -> list:
    """The first `count` events after `start`; the only device of these tests fills one partition."""
    events, enough = [], threading.Event()
    client = consumer(hub)

    def keep(_partition, batch):
        events.extend(batch)
        if len(events) >= count:
            enough.set()

    options = {"on_event_batch": keep, "starting_position": start, "max_batch_size": BATCH}
    thread = threading.Thread(target=lambda: client.receive_batch(**options), daemon=True)
    thread.start()
    assert enough.wait(15), f"{len(events)} of {count} events"
    client.close()
    thread.join(10)
    return events if whole else [body_of(event) for event in events]

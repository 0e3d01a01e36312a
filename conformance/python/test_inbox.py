"""Device-bound messages: sent by the unmodified azure-iot-hub, received by azure-iot-device, by plain HTTPS, and by hand."""

import queue
import time
from datetime import datetime, timedelta, timezone

import pytest
from azure.iot.hub import IoTHubRegistryManager

from harness import devices
from harness.hub import Hub
from harness.inbox import Inbox
from harness.raw_mqtt import RawDevice, connect_packet, tls_stream
from harness.rest import Registry, device_path
from harness.wait import until

TRANSPORTS = {"mqtt": False, "mqtt-ws": True}


def sender_of(hub: Hub, monkeypatch) -> IoTHubRegistryManager:
    # The one way to hand a CA to uamqp through azure-iot-hub, which offers none.
    monkeypatch.setenv("SSL_CERT_FILE", hub.ca_file)
    return IoTHubRegistryManager.from_connection_string(hub.service_connection_string)


@pytest.fixture
def service(hub, monkeypatch):
    manager = sender_of(hub, monkeypatch)
    yield manager
    manager.amqp_svc_client.amqp_client.close()


@pytest.fixture
def device(registry, name):
    return registry.create(name)


def waiting(registry: Registry, identity) -> int:
    """How many messages wait for a device, as the registry shows it."""
    return registry.rest.expect(200, "GET", device_path(identity.device))["cloudToDeviceMessageCount"]


def received(client) -> queue.Queue:
    """What the client is sent. Before it connects where messages wait: the SDK loses those that come before its handler."""
    messages = queue.Queue()
    client.on_message_received = messages.put
    return messages


@pytest.mark.parametrize("websockets", TRANSPORTS.values(), ids=TRANSPORTS)
def test_a_message_arrives_with_its_properties(hub, service, device, websockets):
    with devices.connected(devices.by_key(hub, device, websockets)) as client:
        messages = received(client)
        expires = datetime.now(timezone.utc) + timedelta(minutes=5)
        properties = {
            "messageId": "m-7",
            "correlationId": "c/1 +",
            "contentType": "application/json",
            "contentEncoding": "utf-8",
            "expiryTimeUtc": int(expires.timestamp() * 1000),
            "iothub-ack": "full",
            "color": "red brick & more=%",
            "empty": "",
        }
        service.send_c2d_message(device.device, '{"a":1}', properties)
        message = messages.get(timeout=10)
    assert message.data == b'{"a":1}'
    assert (message.message_id, message.correlation_id) == ("m-7", "c/1 +")
    assert (message.content_type, message.content_encoding) == ("application/json", "utf-8")
    assert message.expiry_time_utc.startswith(expires.strftime("%Y-%m-%dT%H:%M:%S."))
    assert (message.ack, message.custom_properties) == ("full", {"color": "red brick & more=%", "empty": ""})


def test_a_message_whose_topic_would_be_too_long_is_rejected_for_all_to_see_and_the_next_one_comes(hub, service, device):
    """Text grows to three times its length when each byte of it is escaped, and a topic has 65,535 bytes at most."""
    with RawDevice(hub, device.device, device.token()) as client:
        client.subscribe(f"devices/{device.device}/messages/devicebound/#")
        service.send_c2d_message(device.device, "long", {"messageId": "long", "name": "é" * 15_000})
        service.send_c2d_message(device.device, "next", {})
        until(lambda: client.messages, 10, "the next message")
        assert [message.payload for message in client.messages] == [b"next"]
    passed = {message["messageId"]: message for message in hub.cli("c2d", "list", device.device)["passed"]}
    assert (passed["long"]["fate"], passed["long"]["reason"]) == ("rejected", "tooLarge")
    [traced] = hub.cli("trace", "long", "--device", device.device)["messages"]
    assert (traced["state"], traced["reason"]) == ("rejected", "tooLarge")


def test_what_was_sent_while_the_device_was_away_is_delivered_once_when_it_returns(hub, service, registry, device):
    with devices.connected(devices.by_key(hub, device)) as client:
        received(client)
    for number in range(20):
        service.send_c2d_message(device.device, f"{number}", {})
    client = devices.by_key(hub, device)
    messages = received(client)
    with devices.connected(client):
        assert [messages.get(timeout=10).data for _ in range(20)] == [b"%d" % number for number in range(20)]
    until(lambda: waiting(registry, device) == 0, 10, "the last acknowledgement")
    assert Inbox(hub, device).receive() is None


def test_a_message_without_puback_comes_again_with_the_next_connection_and_counts_for_nothing(hub, service, device):
    service.send_c2d_message(device.device, "once", {})
    for _ in range(12):
        with by_hand(hub, device) as stream:
            assert b"once" in read_publish(stream)
    # The hub takes it back when it sees that the connection is gone.
    answer = until(lambda: Inbox(hub, device).receive(), 10, "the message")
    assert (answer.body, answer.headers["iothub-deliverycount"]) == (b"once", "0")


def test_messages_are_taken_and_settled_over_https(hub, service, device):
    box = Inbox(hub, device)
    assert box.receive() is None
    for body in ("first", "second", "third"):
        service.send_c2d_message(device.device, body, {"messageId": body, "contentType": "text/plain", "x": "y"})
    first, second = box.receive(), box.receive()
    assert (first.body, second.body) == (b"first", b"second")
    assert first.headers["ETag"].startswith('"') and first.headers["ETag"].endswith('"')
    expected = {
        "iothub-messageid": "first",
        "iothub-contenttype": "text/plain",
        "iothub-app-x": "y",
        "iothub-to": f"/devices/{device.device}/messages/deviceBound",
        "iothub-deliverycount": "0",
        "iothub-sequencenumber": "1",
    }
    assert {key: first.headers.get(key) for key in expected} == expected
    assert box.settle(first) == 204
    assert box.settle(first) == 412, "settled twice"
    assert box.settle(second, "abandon") == 204
    again = box.receive()
    assert (again.body, again.headers["iothub-deliverycount"]) == (b"second", "1")
    assert box.settle(again, "reject") == 204
    assert box.settle(box.receive()) == 204
    assert box.receive() is None


def test_nobody_settles_with_a_lock_that_there_is_not(hub, device):
    box = Inbox(hub, device)
    for lock in ("6a5b0c3e-0000-4000-8000-000000000000", "no-lock", "%22%22"):
        answer = box.rest.call("DELETE", f"{box.path}/{lock}")
        assert (answer.status, answer.error) == (412, "DeviceMessageLockLost")


def test_the_fifty_first_message_is_refused_and_a_purge_makes_room(hub, service, registry, device):
    for number in range(50):
        service.send_c2d_message(device.device, f"{number}", {})
    with pytest.raises(Exception):
        service.send_c2d_message(device.device, "one too many", {})
    assert waiting(registry, device) == 50
    purged = registry.rest.expect(200, "DELETE", f"{device_path(device.device)}/commands")
    assert purged == {"deviceId": device.device, "moduleId": None, "totalMessagesPurged": 50}
    service.send_c2d_message(device.device, "room again", {})
    assert Inbox(hub, device).receive().body == b"room again"


def test_a_message_for_nobody_one_too_large_and_one_that_would_wait_for_ever_are_refused(hub, service, device):
    in_three_days = int((time.time() + 3 * 86_400) * 1000)
    for target, body, properties in [
        ("nobody-of-this-name", "x", {}),
        (device.device, "x" * (64 * 1024 + 1), {}),
        (device.device, "x", {"expiryTimeUtc": in_three_days}),
    ]:
        with pytest.raises(Exception):
            service.send_c2d_message(target, body, properties)
    service.send_c2d_message(device.device, "x" * (64 * 1024), {"messageId": ""})
    assert len(Inbox(hub, device).receive().body) == 64 * 1024


def test_a_message_that_expired_is_delivered_to_nobody(hub, service, device):
    service.send_c2d_message(device.device, "late", {"expiryTimeUtc": int((time.time() - 1) * 1000)})
    service.send_c2d_message(device.device, "in time", {})
    box = Inbox(hub, device)
    assert box.receive().body == b"in time"
    assert box.receive() is None


def test_a_device_that_is_made_again_gets_nothing_of_the_old_one(hub, service, registry, device):
    service.send_c2d_message(device.device, "for the old one", {})
    registry.delete(device.device)
    again = registry.create(device.device)
    assert Inbox(hub, again).receive() is None
    service.send_c2d_message(device.device, "for the new one", {})
    assert Inbox(hub, again).receive().body == b"for the new one"


def test_what_was_sent_outlives_a_crash_and_what_was_completed_does_not_come_back(tmp_path, monkeypatch):
    hub = Hub(data=tmp_path / "data")
    hub.start()
    try:
        device = Registry(hub).create("survivor")
        service = sender_of(hub, monkeypatch)
        for number in range(10):
            service.send_c2d_message("survivor", f"{number}", {})
        service.amqp_svc_client.amqp_client.close()
        box = Inbox(hub, device)
        for _ in range(3):
            assert box.settle(box.receive()) == 204
        with by_hand(hub, device) as stream:
            read_publish(stream)
            hub.kill()
        hub.start()
        client = devices.by_key(hub, device)
        messages = received(client)
        with devices.connected(client):
            assert [messages.get(timeout=10).data for _ in range(7)] == [b"%d" % number for number in range(3, 10)]
    finally:
        hub.stop()


def by_hand(hub: Hub, identity):
    """A connection that subscribed and acknowledges nothing."""
    stream = tls_stream(hub)
    stream.sendall(connect_packet(hub, identity.device, identity.token()))
    assert stream.recv(4)[3] == 0, "CONNACK"
    topic = f"devices/{identity.device}/messages/devicebound/#".encode()
    body = b"\x00\x01" + len(topic).to_bytes(2, "big") + topic + b"\x01"
    stream.sendall(b"\x82" + bytes([len(body)]) + body)
    return stream


def read_publish(stream) -> bytes:
    """The bytes that came up to and with the first PUBLISH of QoS 1."""
    stream.settimeout(10)
    read = b""
    while b"devicebound" not in read:
        some = stream.recv(4096)
        assert some, "the hub closed the connection"
        read += some
    return read

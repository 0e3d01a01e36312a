"""`holdfast why` on what devices do over MQTT, and on the ends of connections that were admitted."""

import paho.mqtt.client as paho
import pytest

from harness import devices
from harness.hub import Hub
from harness.raw_amqp import to_the_end
from harness.raw_mqtt import RawDevice, connect_packet, tls_stream
from harness.rest import Registry
from harness.why import Refusals, the_refusal


def test_another_version_of_mqtt(hub):
    with Refusals(hub) as refusals:
        with tls_stream(hub) as stream:
            stream.sendall(connect_packet(hub, "x", level=6))
            assert to_the_end(stream) == b"\x20\x02\x00\x01"
        assert "3.1.1" in refusals.of("mqtt-version")["expected"]


def test_the_version_before_by_paho(hub, registry, name):
    with Refusals(hub) as refusals:
        with RawDevice(hub, name, registry.create(name).token(), protocol=paho.MQTTv31):
            pass
        refusals.of("mqtt-version")


def test_qos_two(hub, registry, name):
    with RawDevice(hub, name, registry.create(name).token()) as device:
        assert not device.publish(f"devices/{name}/messages/events/", b"x", qos=2)
    assert the_refusal(hub, name)["cause"] == "qos-two"


def test_a_topic_of_another_device(hub, registry, name):
    with RawDevice(hub, name, registry.create(name).token()) as device:
        assert not device.publish("devices/somebody/messages/events/", b"x")
    entry = the_refusal(hub, name)
    assert entry["cause"] == "topic"
    assert "somebody" in entry["presented"]
    assert f"devices/{name}/messages/events/" in entry["expected"]


def test_a_subscription_to_another_devices_messages(hub, registry, name):
    with RawDevice(hub, name, registry.create(name).token()) as device:
        assert device.subscribe("devices/somebody/messages/devicebound/#") is None
    entry = the_refusal(hub, name)
    assert entry["cause"] == "topic-filter"
    assert "somebody" in entry["presented"]


def test_a_message_over_the_limit(hub, registry, name):
    with RawDevice(hub, name, registry.create(name).token()) as device:
        assert not device.publish(f"devices/{name}/messages/events/", bytes(256 * 1024 + 1))
    entry = the_refusal(hub, name)
    assert entry["cause"] == "message-too-large"
    assert "262145" in entry["presented"]


def test_a_packet_that_is_refused_before_its_bytes_come(hub, registry, name):
    with tls_stream(hub) as stream:
        stream.sendall(connect_packet(hub, name, registry.create(name).token()))
        # The head of a PUBLISH that announces 2 MiB.
        stream.sendall(b"\x30\x80\x80\x80\x01")
        assert to_the_end(stream) == b"\x20\x02\x00\x00"
    assert the_refusal(hub, name)["cause"] == "message-too-large"


def test_a_second_connect(hub, registry, name):
    with RawDevice(hub, name, registry.create(name).token()) as device:
        device.connect_again()
        assert device.closed.wait(5)
    entry = the_refusal(hub, name)
    assert entry["cause"] == "protocol"
    assert "second CONNECT" in entry["explanation"]


def test_a_keep_alive_that_was_missed(hub, registry, name):
    identity = registry.create(name)
    with tls_stream(hub) as stream:
        stream.sendall(connect_packet(hub, name, identity.token(), keep_alive_seconds=1))
        assert to_the_end(stream) == b"\x20\x02\x00\x00"
    assert the_refusal(hub, name)["cause"] == "keep-alive-missed"


def test_taken_over_by_whom(hub, registry, name):
    identity = registry.create(name)
    with RawDevice(hub, name, identity.token()) as first:
        client = devices.by_key(hub, identity, product_info="line-3")
        with devices.connected(client):
            assert first.closed.wait(5)
            entry = the_refusal(hub, name)
    assert entry["cause"] == "taken-over"
    assert "127.0.0.1" in entry["presented"] and "azure-iot-device-iothub-py" in entry["presented"]
    assert "line-3" in entry["presented"]


def test_a_right_that_ended_by_what_and_by_whom(hub, registry, name):
    identity = registry.create(name)
    with RawDevice(hub, name, identity.token()) as device:
        hub.cli("device", "update", name, "--status", "disabled", "--status-reason", "lost")
        assert device.closed.wait(5)
    entry = the_refusal(hub, name)
    assert entry["cause"] == "right-ended"
    assert f"update device `{name}`, by policy iothubowner" in entry["explanation"]
    assert "`disabled`" in entry["explanation"]
    hub.cli(*entry["fix"].split()[1:])
    with RawDevice(hub, name, identity.token()) as device:
        assert device.connack == 0


def test_a_token_that_ended(hub, registry, name):
    with RawDevice(hub, name, registry.create(name).token(seconds=2)) as device:
        assert device.connack == 0
        assert device.closed.wait(10)
    assert the_refusal(hub, name)["cause"] == "token-ended"


def test_good_byes_and_stops_need_no_explanation(registry, hub, name, tmp_path):
    identity = registry.create(name)
    with devices.connected(devices.by_key(hub, identity)):
        pass
    assert hub.why(name) == []
    other = Hub(data=tmp_path).start()
    try:
        identity = Registry(other).create(name)
        with RawDevice(other, name, identity.token()) as device:
            other.restart()
            assert device.closed.wait(5)
        assert other.why(name) == []
    finally:
        other.stop()


@pytest.mark.slow
def test_no_connect_in_time(hub):
    with Refusals(hub) as refusals:
        with tls_stream(hub) as stream:
            stream.settimeout(40)
            assert stream.recv(10) == b""
        refusals.of("connect-timeout")


def test_a_model_id_that_is_too_long_is_refused_and_one_of_full_length_is_taken(hub, registry, name):
    identity = registry.create(name)
    user = f"{hub.hostname}/{name}/?api-version=2021-04-12&model-id=dtmi:a:"
    with RawDevice(hub, name, identity.token(), user + "b" * (2_048 - len("dtmi:a:"))) as device:
        assert device.connack == 0
    with RawDevice(hub, name, identity.token(), user + "b" * 3_000) as device:
        assert device.connack == 5
    entry = the_refusal(hub, name)
    assert entry["cause"] == "user-name" and "2048" in entry["explanation"]

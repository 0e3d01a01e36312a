"""A message may have 256 KiB, bodies, system values and application names and values together."""

import os

import pytest
from azure.iot.device import Message

from harness import devices
from harness.events import body_of, properties_of
from harness.raw_mqtt import RawDevice
from harness.rest import Rest

LIMIT = 256 * 1024


def test_a_body_of_exactly_the_limit_arrives(hub, registry, reader, name):
    body = os.urandom(LIMIT)
    with RawDevice(hub, name, registry.create(name).token()) as device:
        assert device.publish(f"devices/{name}/messages/events/", body)

    [event] = reader.from_device(name)
    assert body_of(event) == body


def test_one_byte_over_the_limit_closes_the_connection(hub, registry, name):
    with RawDevice(hub, name, registry.create(name).token()) as device:
        assert not device.publish(f"devices/{name}/messages/events/", bytes(LIMIT + 1))
        assert device.closed.wait(5)


@pytest.mark.parametrize("over", [0, 1], ids=["exactly", "one over"])
def test_properties_count_towards_the_limit(over, hub, registry, reader, name):
    # "m-1" is 3 bytes, "colour" and "red" are 9: the names and values count, their escapes do not.
    body = os.urandom(LIMIT - 3 - 9 + over)
    with RawDevice(hub, name, registry.create(name).token()) as device:
        taken = device.publish(f"devices/{name}/messages/events/%24.mid=m-1&colour=%72ed", body)
    assert taken == (over == 0)
    if taken:
        [event] = reader.from_device(name)
        assert body_of(event) == body
        assert properties_of(event) == {"colour": "red"}


def test_the_largest_message_that_the_sdk_lets_through_arrives(hub, registry, reader, name):
    message = Message(b"")
    message.data = os.urandom(LIMIT - message.get_size())
    assert message.get_size() == LIMIT
    with devices.connected(devices.by_key(hub, registry.create(name), websockets=True)) as client:
        client.send_message(message)

    [event] = reader.from_device(name)
    assert body_of(event) == message.data


@pytest.mark.parametrize("over", [0, 1], ids=["exactly", "one over"])
def test_over_https_the_limit_is_the_same_and_answered_with_413(over, hub, registry, reader, name):
    identity = registry.create(name)
    body = os.urandom(LIMIT + over)
    answer = Rest(hub, authorization=identity.token()).call(
        "POST", f"/devices/{name}/messages/events", data=body, headers={"Content-Type": "application/octet-stream"}
    )
    if over:
        assert (answer.status, answer.error) == (413, "MessageTooLarge")
    else:
        assert answer.status == 204
        [event] = reader.from_device(name)
        assert body_of(event) == body


def test_a_property_bag_of_the_longest_topic_arrives(hub, registry, reader, name):
    topic = f"devices/{name}/messages/events/"
    value = "v" * (65535 - len(topic) - len("key="))
    with RawDevice(hub, name, registry.create(name).token()) as device:
        assert device.publish(f"{topic}key={value}", b"x")

    [event] = reader.from_device(name)
    assert properties_of(event) == {"key": value}

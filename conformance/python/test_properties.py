"""Every property of a message by every pair of doors: what a sender writes at one door is what a reader finds at the other, under
the name that it has there.

Each row of a table is sent as one message through each door in. A row says how the door spells it; where a door has no spelling,
the pair does not exist. All rows of a door travel over one connection, and a last message says that they are all there.
"""

import pytest

from harness.doors import DOORS_IN, DOORS_OUT, to_device
from harness.events import Reader, body_of, device_of, text
from harness.hub import Hub
from harness.properties import END, TO_DEVICES, TO_THE_CLOUD
from harness.rest import Registry


class Sent:
    """What one door took of all rows, and the events that came of them."""

    def __init__(self, hub: Hub, registry: Registry, reader: Reader, door: str):
        identity = registry.create(f"by-{door}")
        kind = DOORS_IN[door]
        rows = [row for row in TO_THE_CLOUD if kind.spells(row)]
        opened = kind(hub, identity)
        self.taken = {row.name: opened.send(row, row.name) for row in rows}
        assert opened.send(TO_THE_CLOUD[0], END)
        opened.close()
        # The order of one device is kept: what came before the last one is all there is.
        reader.first(lambda event: device_of(event) == identity.device and body_of(event) == END.encode())
        events = reader.from_device(identity.device, sum(self.taken.values()) + 1)
        self.events = {body_of(event).decode(): event for event in events}


@pytest.fixture(scope="module")
def sent(hub, registry, reader):
    """What was sent by each door, sent when the first test asks for it."""
    kept: dict[str, Sent] = {}

    def by(door: str) -> Sent:
        if door not in kept:
            kept[door] = Sent(hub, registry, reader, door)
        return kept[door]

    return by


PAIRS = [(door, row) for door, kind in DOORS_IN.items() for row in TO_THE_CLOUD if kind.spells(row)]


@pytest.mark.parametrize("door, row", PAIRS, ids=[f"{door}-{row.name}" for door, row in PAIRS])
def test_what_a_device_says_of_a_message_is_what_a_reader_of_the_stream_finds(door, row, sent):
    seen = sent(door)
    assert seen.taken[row.name] is (door not in row.refused)
    if door in row.refused:
        return
    event = seen.events[row.name]
    assert applications_of(event) == row.application
    assert systems_of(event) == row.system


@pytest.mark.parametrize("door", DOORS_IN)
def test_a_section_without_members_is_left_out(door, sent):
    """azure-eventhub shows `None` where there is no section, and an object of nulls where there is one of nulls."""
    message = sent(door).events["nothing"].raw_amqp_message
    assert (message.header, message.properties) == (None, None)
    assert not (message.delivery_annotations or message.application_properties or message.footer)


STAMPS = {
    "x-opt-sequence-number",
    "x-opt-offset",
    "x-opt-enqueued-time",
    "iothub-connection-device-id",
    "iothub-connection-auth-method",
    "iothub-connection-auth-generation-id",
    "iothub-enqueuedtime",
    "iothub-message-source",
}


def systems_of(event) -> dict:
    """The system properties but for the hub's own stamps, which every event has."""
    found = {text(name): text(value) for name, value in event.system_properties.items() if value is not None}
    assert STAMPS <= found.keys()
    assert found["iothub-connection-device-id"].startswith("by-")
    return {name: value for name, value in found.items() if name not in STAMPS}


def applications_of(event) -> dict:
    return {text(name): readable(value) for name, value in (event.properties or {}).items()}


class Received:
    """What a service sent to a device, and what the device found of it at one door."""

    def __init__(self, hub: Hub, registry: Registry, door: str):
        self.identity = registry.create(f"at-{door}")
        self.taken = to_device(hub, self.identity, TO_DEVICES)
        self.found = DOORS_OUT[door][0](hub, self.identity)


@pytest.fixture(scope="module")
def received(hub, registry):
    """What came to a device at each door, received when the first test asks for it."""
    kept: dict[str, Received] = {}

    def at(door: str) -> Received:
        if door not in kept:
            kept[door] = Received(hub, registry, door)
        return kept[door]

    return at


@pytest.mark.parametrize("command", TO_DEVICES, ids=[command.name for command in TO_DEVICES])
@pytest.mark.parametrize("door", DOORS_OUT)
def test_what_a_service_says_of_a_message_is_what_the_device_finds(door, command, received):
    seen = received(door)
    assert seen.taken[command.name]
    DOORS_OUT[door][1](seen.identity, command, seen.found[command.name])


def readable(value):
    """azure-eventhub gives texts as bytes; what is no text stays bytes."""
    try:
        return text(value)
    except UnicodeDecodeError:
        return value

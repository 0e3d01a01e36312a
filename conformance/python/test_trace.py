"""What became of one message, and that the counts of all balance: `holdfast trace`, `consumer-group list`, `/metrics`."""

import threading
import time

import pytest
import requests
from azure.iot.device import Message

from harness import devices
from harness.events import Reader, consumer, device_of
from harness.hub import Hub
from harness.inbox import Inbox
from harness.raw_mqtt import RawDevice
from harness.rest import Registry
from harness.wait import until

FATES = ("completed", "rejected", "expired", "deliveryCountExceeded", "purged")


def trace(hub, message_id: str, *options: str) -> dict:
    return hub.cli("trace", message_id, *options, accepted=(0, 1))


def test_telemetry_is_followed_from_the_device_to_each_consumer_group(hub, registry, reader, name):
    hub.cli("events", "consumer-group", "create", name)
    with devices.connected(devices.by_key(hub, registry.create(name))) as client:
        message = Message("x")
        message.message_id = f"m of {name}"
        client.send_message(message)
    read = reader.first(lambda event: device_of(event) == name)
    [event] = until(lambda: trace(hub, message.message_id)["events"], what="the event")
    assert event["identity"] == {"device": name}
    assert (event["sequence"], event["offset"]) == (read.sequence_number, int(read.offset))
    assert event["source"] == "Telemetry" and '"type":"sas"' in event["authMethod"].replace(" ", "")
    assert event["readers"]["$Default"]["state"] == "delivered"
    assert event["readers"][name]["state"] == "waiting"
    assert event["readers"][name]["ahead"] == event["sequence"], "nobody has read there yet"
    assert trace(hub, message.message_id, "--device", name)["events"] == [event]
    assert trace(hub, message.message_id, "--device", f"other-{name}")["events"] == []


def test_a_reader_that_begins_at_the_end_passes_over_what_lies_before(hub, registry, reader, name):
    hub.cli("events", "consumer-group", "create", name)
    token = registry.create(name).token()

    def send(number: int) -> dict:
        with RawDevice(hub, name, token) as device:
            assert device.publish(f"devices/{name}/messages/events/%24.mid={name}-{number}", b"x")
        [event] = trace(hub, f"{name}-{number}", "--device", name)["events"]
        return event

    before = send(1)
    with consumer(hub, group=name) as client:
        arrived = threading.Event()
        thread = threading.Thread(
            target=client.receive_batch,
            kwargs={
                "on_event_batch": lambda *_: arrived.set(),
                "partition_id": str(before["partition"]),
                "starting_position": before["sequence"],
            },
            daemon=True,
        )
        thread.start()
        # Sent again and again until the reader is there. It hands nothing over while events come in quick succession.
        numbers = iter(range(2, 1000))
        until(lambda: send(next(numbers)) and arrived.wait(1), 30, "an event behind the position")
    state = lambda number: trace(hub, f"{name}-{number}", "--device", name)["events"][0]["readers"][name]["state"]
    assert state(1) == "beforeItsReaders"
    assert state(2) == "delivered"


def test_a_device_bound_message_is_followed_from_its_sender_to_its_end(hub, service, registry, name):
    identity = registry.create(name)
    inbox = Inbox(hub, identity)

    def send(message_id: str, **properties) -> None:
        service.send_c2d_message(name, message_id, {"messageId": message_id, **properties})

    def found(message_id: str) -> dict:
        [message] = trace(hub, message_id)["messages"]
        return message

    send("m1")
    waiting = found("m1")
    assert (waiting["state"], waiting["deliveries"], waiting["sender"]) == ("waiting", 0, "iothubowner")
    assert waiting["identity"] == {"device": name}
    lock = inbox.receive()
    locked = found("m1")
    assert (locked["state"], locked["deliveries"], locked["by"]) == ("locked", 1, "requests")
    inbox.settle(lock, "abandon")
    assert (found("m1")["state"], found("m1")["deliveries"]) == ("waiting", 1)
    inbox.settle(inbox.receive(), "reject")
    rejected = found("m1")
    assert (rejected["state"], rejected["deliveries"], rejected["by"]) == ("rejected", 2, "requests")
    assert rejected["received"] == waiting["received"] <= rejected["delivered"] <= rejected["at"]

    send("m2", expiryTimeUtc=int((time.time() - 1) * 1000))
    assert (found("m2")["state"], found("m2")["deliveries"]) == ("expired", 0)

    with devices.connected(devices.by_key(hub, identity)) as client:
        client.on_message_received = lambda message: None
        send("m3")
        until(lambda: found("m3")["state"] == "completed", what="the acknowledgement")
        assert found("m3")["by"] == "connection"

    hub.cli("c2d", "send", name, "x", "--message-id", "m4")
    hub.cli("c2d", "purge", name)
    assert (found("m4")["state"], found("m4")["sender"]) == ("purged", "operator")


def test_what_is_unknown_is_said_and_ends_with_1(hub):
    assert trace(hub, "no such message") == {"events": [], "messages": []}


def test_the_counts_balance_and_outlive_a_restart(tmp_path):
    hub = Hub(data=tmp_path / "data").start()
    try:
        registry = Registry(hub)
        identity = registry.create("d1")
        with RawDevice(hub, "d1", identity.token()) as device:
            for number in range(50):
                assert device.publish("devices/d1/messages/events/", b"%d" % number)
        reader = Reader(hub)
        reader.from_device("d1", 50)
        reader.close()
        hub.cli("events", "consumer-group", "create", "late")
        until(lambda: stream(hub)["$Default"]["delivered"] == 50, what="the position of the readers")
        hub.restart()
        with RawDevice(hub, "d1", identity.token()) as device:
            for number in range(7):
                assert device.publish("devices/d1/messages/events/", b"%d" % number)
        assert stream(hub) == {
            "$Default": {"stored": 57, "delivered": 50, "waiting": 7, "expired": 0, "passedOver": 0},
            "late": {"stored": 57, "delivered": 0, "waiting": 57, "expired": 0, "passedOver": 0},
        }
        inbox = Inbox(hub, identity)
        for number in range(5):
            hub.cli("c2d", "send", "d1", "x", "--message-id", f"m{number}")
        inbox.settle(inbox.receive(), "complete")
        inbox.settle(inbox.receive(), "reject")
        view = hub.cli("c2d", "list", "d1")
        assert view["sent"] == sum(view[fate] for fate in FATES) + len(view["waiting"]) == 5
        metrics = scraped(hub)
        assert metrics["holdfast_events_stored"] == 57
        assert metrics['holdfast_events{consumer_group="$Default",state="delivered"}'] == 50
        assert metrics['holdfast_events{consumer_group="$Default",state="waiting"}'] == 7
        assert sum(value for key, value in metrics.items() if 'consumer_group="late"' in key) == 57
        assert metrics["holdfast_device_bound_messages_sent"] == 5
        states = {key: value for key, value in metrics.items() if key.startswith("holdfast_device_bound_messages{")}
        assert sum(states.values()) == 5 and states['holdfast_device_bound_messages{state="waiting"}'] == 3
    finally:
        hub.stop()


def stream(hub) -> dict:
    return {row.pop("name"): row for row in hub.cli("events", "consumer-group", "list")}


def scraped(hub) -> dict[str, float]:
    """The samples of a scrape; the label `hub`, which all have, is left out."""
    text = requests.get(f"https://{hub.hostname}/metrics", verify=hub.ca_file, timeout=10).text
    samples = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            key, value = line.rsplit(" ", 1)
            name, _, labels = key.partition("{")
            rest = [label for label in labels.rstrip("}").split(",") if label and not label.startswith("hub=")]
            samples[name + ("{" + ",".join(rest) + "}" if rest else "")] = float(value)
    return samples

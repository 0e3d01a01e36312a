"""The built-in endpoint through the unmodified azure-eventhub: properties, positions, owners, size, number."""

import threading
import time
from contextlib import contextmanager
from datetime import datetime, timezone

import pytest
from azure.eventhub import EventHubConsumerClient, EventHubProducerClient, EventData
from azure.eventhub.exceptions import AuthenticationError, ConnectError, ConnectionLostError, EventHubError

from harness import sas
from harness.events import BATCH, body_of, consumer
from harness.hub import connection_string_parts
from harness.raw_mqtt import RawDevice
from harness.wait import until

TRANSPORTS = {"AMQP": False, "AMQP over WebSocket": True}


@pytest.fixture(params=TRANSPORTS)
def websocket(request):
    return TRANSPORTS[request.param]


@pytest.fixture
def sent(hub, registry, name):
    """Five messages of one device, and where they went."""
    return Sent(hub, registry.create(name).token(), name, [f"{name} {number}".encode() for number in range(5)])


class Sent:
    def __init__(self, hub, token: str, name: str, bodies: list[bytes]):
        self.name, self.bodies = name, bodies
        with RawDevice(hub, name, token) as device:
            for body in bodies:
                assert device.publish(f"devices/{name}/messages/events/", body)
        with reading(hub, starting_position="-1") as events:
            self.events = until(lambda: len(found := mine(events, name)) == len(bodies) and found, 15)
        self.partition = next(context.partition_id for context, event in events if event in self.events)


def test_the_hub_describes_itself(websocket, hub):
    with consumer(hub, websocket) as client:
        described = client.get_eventhub_properties()
        entity = connection_string_parts(hub.eventhub_connection_string)["EntityPath"]
        assert described["eventhub_name"] == entity
        assert described["partition_ids"] == client.get_partition_ids()
        assert described["partition_ids"] == [str(number) for number in range(len(described["partition_ids"]))]
        assert abs(described["created_at"].timestamp() - time.time()) < 3600


def test_a_partition_describes_itself(websocket, hub, sent):
    with consumer(hub, websocket) as client:
        described = client.get_partition_properties(sent.partition)
    last = sent.events[-1]
    assert described["id"] == sent.partition
    assert described["is_empty"] is False
    assert described["beginning_sequence_number"] == 0
    assert described["last_enqueued_sequence_number"] == last.sequence_number
    assert described["last_enqueued_offset"] == last.offset
    assert described["last_enqueued_time_utc"] == last.enqueued_time


def test_an_empty_partition_describes_itself(tmp_path):
    from harness.hub import Hub

    fresh = Hub(data=tmp_path).start()
    try:
        with consumer(fresh) as client:
            described = client.get_partition_properties("0")
        assert described["is_empty"] is True
        assert described["last_enqueued_sequence_number"] == -1
        assert described["last_enqueued_offset"] == "-1"
    finally:
        fresh.stop()


@pytest.mark.parametrize("inclusive", [True, False], ids=["inclusive", "exclusive"])
@pytest.mark.parametrize("by", ["offset", "sequence number"])
def test_reading_starts_at_an_event_or_after_it(by, inclusive, websocket, hub, sent):
    third = sent.events[2]
    start = third.offset if by == "offset" else third.sequence_number
    expected = sent.bodies[2:] if inclusive else sent.bodies[3:]
    with reading(
        hub, websocket, sent.partition, starting_position=start, starting_position_inclusive=inclusive
    ) as events:
        until(lambda: len(events) >= len(expected), 10)
        assert [body_of(event) for _, event in events] == expected


def test_reading_starts_at_a_time(websocket, hub, sent, registry):
    until(lambda: time.time() > sent.events[-1].enqueued_time.timestamp() + 0.05, 2)
    moment = datetime.fromtimestamp(sent.events[-1].enqueued_time.timestamp() + 0.01, timezone.utc)
    token = sas.token(hub.hostname, hub.policy_key("device"), "device")
    with RawDevice(hub, sent.name, token) as device:
        device.publish(f"devices/{sent.name}/messages/events/", b"later")
    with reading(hub, websocket, sent.partition, starting_position=moment) as events:
        until(lambda: events, 10)
        assert body_of(events[0][1]) == b"later"


def test_reading_from_latest_gets_new_events_only(websocket, hub, sent):
    ready = threading.Event()
    with reading(hub, websocket, sent.partition, on_initialize=ready.set, starting_position="@latest") as events:
        assert ready.wait(10)
        token = sas.token(hub.hostname, hub.policy_key("device"), "device")
        with RawDevice(hub, sent.name, token) as device:
            number = 0
            # The link may still be opening when the SDK calls the partition initialised, so keep sending; with
            # pauses, because the SDK hands over no batch before the stream is quiet for a moment.
            while not events and number < 30:
                device.publish(f"devices/{sent.name}/messages/events/", b"new %d" % number)
                number += 1
                time.sleep(0.3)
        until(lambda: events, 10)
        assert body_of(events[0][1]).startswith(b"new")


def test_an_offset_beyond_the_end_is_refused(hub, sent):
    with failing_read(hub, sent.partition, starting_position="999999999999") as error:
        assert isinstance(until(lambda: error and error[0], 10), EventHubError)


def test_the_runtime_metric_comes_with_events(websocket, hub, sent):
    with reading(
        hub, websocket, sent.partition, starting_position=sent.events[0].offset, track_last_enqueued_event_properties=True
    ) as events:
        until(lambda: len(events) >= 4, 10)
        seen = events[-1][0].last_enqueued_event_properties
    assert seen["sequence_number"] == sent.events[-1].sequence_number
    assert seen["offset"] == sent.events[-1].offset
    assert seen["enqueued_time"] == sent.events[-1].enqueued_time
    assert seen["retrieval_time"] is not None


@pytest.mark.parametrize("second", [5, 7], ids=["equal", "higher"])
def test_an_owner_of_the_same_or_a_higher_level_takes_the_partition(second, hub, sent):
    with failing_read(hub, sent.partition, owner_level=5, starting_position="-1") as error:
        until(lambda: error.events, 10)
        with reading(hub, False, sent.partition, owner_level=second, starting_position="-1") as events:
            until(lambda: events, 10)
            stolen = until(lambda: error and error[0], 10, "the loss of the first owner")
    assert isinstance(stolen, ConnectionLostError)
    assert "stolen" in str(stolen)


def test_an_owner_of_a_lower_level_is_refused(hub, sent):
    with reading(hub, False, sent.partition, owner_level=5, starting_position="-1") as events:
        until(lambda: events, 10)
        with failing_read(hub, sent.partition, owner_level=3, starting_position="-1") as error:
            assert "stolen" in str(until(lambda: error and error[0], 10))


def test_a_reader_without_a_level_is_refused_while_there_is_an_owner(hub, sent):
    with reading(hub, False, sent.partition, owner_level=0, starting_position="-1") as events:
        until(lambda: events, 10)
        with failing_read(hub, sent.partition, starting_position="-1") as error:
            assert "epoch" in str(until(lambda: error and error[0], 10))


def test_the_partition_is_free_again_when_its_owner_leaves(hub, sent):
    with reading(hub, False, sent.partition, owner_level=5, starting_position="-1") as events:
        until(lambda: events, 10)
    with reading(hub, False, sent.partition, starting_position="-1") as events:
        until(lambda: events, 10)


def test_an_unknown_consumer_group_is_refused(hub):
    with failing_read(hub, "0", group="nobody", starting_position="-1") as error:
        assert isinstance(until(lambda: error and error[0], 15), EventHubError)


def test_the_name_of_the_group_is_read_without_case(hub, sent):
    with reading(hub, False, sent.partition, group="$default", starting_position="-1") as events:
        until(lambda: events, 10)


def test_a_wrong_key_is_an_authentication_error(hub):
    parts = connection_string_parts(hub.eventhub_connection_string) | {"SharedAccessKey": sas.new_key()}
    text = ";".join(f"{key}={value}" for key, value in parts.items())
    client = EventHubConsumerClient.from_connection_string(
        text, "$Default", connection_verify=hub.ca_file, retry_total=0
    )
    with client, pytest.raises(AuthenticationError):
        client.get_partition_ids()


def test_a_ready_made_token_reads_too(hub):
    parts = connection_string_parts(hub.eventhub_connection_string)
    host = parts["Endpoint"].removeprefix("sb://").strip("/")
    token = event_hubs_token(f"sb://{host}/{parts['EntityPath']}", parts["SharedAccessKeyName"], parts["SharedAccessKey"])
    text = f"Endpoint={parts['Endpoint']};SharedAccessSignature={token};EntityPath={parts['EntityPath']}"
    client = EventHubConsumerClient.from_connection_string(
        text, "$Default", connection_verify=hub.ca_file, retry_total=0
    )
    with client:
        assert client.get_partition_ids()


def test_the_endpoint_takes_no_events(hub):
    client = EventHubProducerClient.from_connection_string(
        hub.eventhub_connection_string, connection_verify=hub.ca_file, retry_total=0
    )
    with client, pytest.raises((AuthenticationError, ConnectError, EventHubError)):
        client.send_event(EventData("from outside"))


def test_a_burst_of_3000_events_arrives_complete_and_in_order(hub, registry, name):
    token = registry.create(name).token()
    with RawDevice(hub, name, token) as device:
        for number in range(2999):
            device.send(f"devices/{name}/messages/events/", str(number).encode())
        assert device.publish(f"devices/{name}/messages/events/", b"2999")
    with reading(hub, starting_position="-1") as events:
        found = until(lambda: len(found := mine(events, name)) >= 3000 and found, 60)
    assert [body_of(event) for event in found] == [str(number).encode() for number in range(3000)]


def test_an_event_of_200_kilobytes_arrives_in_one_piece(websocket, hub, registry, name):
    body = bytes(range(256)) * 800
    with RawDevice(hub, name, registry.create(name).token()) as device:
        assert device.publish(f"devices/{name}/messages/events/", body)
    with reading(hub, websocket, starting_position="-1") as events:
        # pyamqp takes a second for every 25 kilobytes over WebSocket when the machine is busy.
        [event] = until(lambda: mine(events, name), 45)
    assert body_of(event) == body


@contextmanager
def reading(
    hub,
    websocket: bool = False,
    partition: str | None = None,
    group: str = "$Default",
    on_initialize=None,
    **options,
):
    events: list = []  # pairs of partition context and event, as they arrive

    def keep(context, batch):
        events.extend((context, event) for event in batch)

    client = consumer(hub, websocket, group)
    settings = {"partition_id": partition, "on_event_batch": keep, "max_batch_size": BATCH, **options}
    if on_initialize:
        settings["on_partition_initialize"] = lambda _context: on_initialize()
    thread = threading.Thread(target=lambda: client.receive_batch(**settings), daemon=True)
    thread.start()
    try:
        yield events
    finally:
        client.close()
        thread.join(10)


class Errors(list):
    """What a reader that must fail was told, and what it had read by then."""

    def __init__(self):
        self.events: list = []


@contextmanager
def failing_read(hub, partition: str, group: str = "$Default", **options):
    errors = Errors()

    def run():
        try:
            client.receive(
                partition_id=partition,
                on_event=lambda _context, event: errors.events.append(event),
                on_error=lambda _context, error: errors.append(error),
                **options,
            )
        except Exception as error:
            errors.append(error)

    client = consumer(hub, False, group, retry_total=0)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield errors
    finally:
        client.close()
        thread.join(10)


def mine(events: list, name: str) -> list:
    return [event for _, event in events if event.system_properties[b"iothub-connection-device-id"].decode() == name]


def event_hubs_token(resource: str, policy: str, key: str) -> str:
    """A token as Event Hubs clients make it: signed with the text of the key, not with its bytes."""
    import base64

    return sas.token(resource, base64.b64encode(key.encode()).decode(), policy)

"""Reading telemetry with the unmodified azure-eventhub, all partitions from the start."""

import threading
import time

from azure.eventhub import EventHubConsumerClient, TransportType

from harness.hub import Hub


def consumer(hub: Hub, websocket: bool = False, group: str = "$Default", **options) -> EventHubConsumerClient:
    return EventHubConsumerClient.from_connection_string(
        hub.eventhub_connection_string,
        group,
        connection_verify=hub.ca_file,
        transport_type=TransportType.AmqpOverWebsocket if websocket else TransportType.Amqp,
        **{"retry_total": 1, **options},
    )


# `receive` hands over one event per round through all partitions, and a round waits a little on each empty one;
# only `receive_batch` keeps up with a burst.
BATCH = 2000


class Reader:
    """A consumer with a thread per partition that keeps every event, as a dashboard would."""

    def __init__(self, hub: Hub, websocket: bool = False):
        self._client = consumer(hub, websocket)
        self._arrived = threading.Condition()
        self._events: list = []
        self._failure: Exception | None = None
        self._threads = [
            threading.Thread(target=self._run, args=[partition], daemon=True)
            for partition in self._client.get_partition_ids()
        ]
        for thread in self._threads:
            thread.start()

    def first(self, matches, seconds: float = 15):
        """The first event, past or to come, for which `matches` holds."""
        return self.several(matches, 1, seconds)[0]

    def several(self, matches, count: int, seconds: float = 15) -> list:
        deadline = time.monotonic() + seconds
        with self._arrived:
            while True:
                found = [event for event in self._events if matches(event)]
                if len(found) >= count:
                    return found[:count]
                left = deadline - time.monotonic()
                if left <= 0:
                    seen = [(device_of(event), len(body_of(event))) for event in self._events[-5:]]
                    raise AssertionError(f"{len(found)} of {count} events after {seconds} s; last seen: {seen}; {self._failure!r}")
                self._arrived.wait(left)

    def from_device(self, device: str, count: int = 1, seconds: float = 15) -> list:
        return self.several(lambda event: device_of(event) == device, count, seconds)

    def whole(self, seconds: float = 60) -> list:
        """All events that the stream holds now, from its beginning."""
        ends = [self._client.get_partition_properties(id) for id in self._client.get_partition_ids()]
        count = sum(end["last_enqueued_sequence_number"] + 1 for end in ends)
        return self.several(lambda _: True, count, seconds)

    @property
    def failure(self) -> Exception | None:
        """What the SDK last complained of."""
        return self._failure

    def close(self) -> None:
        self._client.close()
        for thread in self._threads:
            thread.join(10)

    def _run(self, partition: str) -> None:
        try:
            self._client.receive_batch(
                on_event_batch=self._keep,
                on_error=self._fail,
                partition_id=partition,
                starting_position="-1",
                max_batch_size=BATCH,
            )
        except Exception as error:  # reported by the waiting test
            self._fail(None, error)

    def _keep(self, _partition, events) -> None:
        with self._arrived:
            self._events.extend(events)
            self._arrived.notify_all()

    def _fail(self, _partition, error) -> None:
        self._failure = error


def body_of(event) -> bytes:
    return b"".join(event.body)


def device_of(event) -> str:
    return event.system_properties.get(b"iothub-connection-device-id", b"").decode()


def properties_of(event) -> dict[str, str]:
    return {text(key): text(value) for key, value in (event.properties or {}).items()}


def text(value):
    return value.decode() if isinstance(value, bytes) else value

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


class Reader:
    """A consumer on a thread of its own that keeps every event, as a dashboard would."""

    def __init__(self, hub: Hub, websocket: bool = False):
        self._client = consumer(hub, websocket)
        self._arrived = threading.Condition()
        self._events: list = []
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

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

    def close(self) -> None:
        self._client.close()
        self._thread.join(10)

    def _run(self) -> None:
        try:
            self._client.receive(
                on_event=self._keep, on_error=self._fail, starting_position="-1", max_wait_time=None
            )
        except Exception as error:  # reported by the waiting test
            self._fail(None, error)

    def _keep(self, _partition, event) -> None:
        if event is not None:
            with self._arrived:
                self._events.append(event)
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

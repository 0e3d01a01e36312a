"""`holdfast why` on readers of the built-in endpoint, by the unmodified azure-eventhub."""

import threading
import time
from contextlib import suppress

import pytest
from azure.core.credentials import AccessToken
from azure.eventhub import EventData, EventHubConsumerClient, EventHubProducerClient

from harness import sas
from harness.events import consumer
from harness.raw_amqp import put_token, sign_in
from harness.why import Refusals


def read(hub, group: str = "$Default", partition: str = "0", text: str | None = None, **options) -> None:
    """Reads until the SDK complains."""
    client = EventHubConsumerClient.from_connection_string(
        text or hub.eventhub_connection_string, group, connection_verify=hub.ca_file, retry_total=0
    )
    receive(client, partition, **options)


def receive(client, partition: str = "0", **options) -> None:
    def stop(*_) -> None:
        client.close()

    with suppress(Exception):
        client.receive(stop, on_error=stop, partition_id=partition, starting_position="-1", **options)
    client.close()


def changed(hub, name: str, value: str) -> str:
    """The connection string with another value for one part."""
    parts = [part.split("=", 1) for part in hub.eventhub_connection_string.split(";")]
    return ";".join(f"{have}={value if have == name else old}" for have, old in parts)


def test_a_consumer_group_that_nobody_made_is_made_by_the_command_that_is_named(hub):
    with Refusals(hub) as refusals:
        read(hub, group="dashboards")
        entry = refusals.of("unknown-consumer-group")
    assert "dashboards" in entry["presented"] and "$Default" in entry["expected"]
    hub.cli(*entry["fix"].split()[1:])
    with consumer(hub, group="dashboards") as client:
        assert client.get_partition_ids()


def test_a_partition_that_is_not_there(hub):
    with Refusals(hub) as refusals:
        with consumer(hub, retry_total=0) as client, pytest.raises(Exception, match="404"):
            client.get_partition_properties("99")
        entry = refusals.of("unknown-partition")
    assert "99" in entry["presented"]


def test_an_event_hub_of_another_name(hub):
    with Refusals(hub) as refusals:
        read(hub, text=changed(hub, "EntityPath", "iothub-ehub-plant"))
        assert "iothub-ehub-plant" in refusals.of("unknown-event-hub")["presented"]


def test_a_link_that_leads_nowhere(hub):
    with Refusals(hub) as refusals:
        read(hub, text=changed(hub, "EntityPath", "devices/d1/messages"))
        assert "devices/d1/messages" in refusals.top()["presented"]


def test_a_back_end_that_sends_into_the_stream(hub):
    with Refusals(hub) as refusals:
        client = EventHubProducerClient.from_connection_string(
            hub.eventhub_connection_string, connection_verify=hub.ca_file, retry_total=0
        )
        with pytest.raises(Exception, match="Send"), client:
            client.send_event(EventData("x"))
        refusals.of("send-to-events")


@pytest.mark.parametrize(
    "part, value, cause",
    [
        ("SharedAccessKey", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "wrong-key"),
        ("SharedAccessKeyName", "nobody", "unknown-policy"),
        ("SharedAccessKeyName", "service", "key-of-another"),
    ],
)
def test_a_connection_string_that_is_not_right(part, value, cause, hub):
    with Refusals(hub) as refusals:
        read(hub, text=changed(hub, part, value))
        assert value not in str(refusals.of(cause)) or part == "SharedAccessKeyName"


def test_a_policy_that_may_not_read(hub):
    text = changed(hub, "SharedAccessKeyName", "device").split(";")
    key = hub.policy_key("device")
    text = ";".join(f"SharedAccessKey={key}" if part.startswith("SharedAccessKey=") else part for part in text)
    with Refusals(hub) as refusals:
        read(hub, text=text)
        assert "ServiceConnect" in refusals.of("missing-right")["expected"]


def test_a_token_for_another_host(hub):
    with Refusals(hub) as refusals:
        put_token(hub, sas.token("sb://plant.servicebus.windows.net/x", hub.policy_key("service"), "service"))
        assert "plant.servicebus.windows.net" in refusals.of("token-host")["presented"]


class Entra:
    """What azure-identity's DefaultAzureCredential is to the SDK."""

    def get_token(self, *_, **__) -> AccessToken:
        return AccessToken("eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJ4In0.c2ln", int(time.time()) + 3600)


def test_a_token_of_entra_id(hub):
    with Refusals(hub) as refusals:
        receive(
            EventHubConsumerClient(
                hub.hostname, "holdfast", "$Default", Entra(), connection_verify=hub.ca_file, retry_total=0
            )
        )
        assert "jwt" in refusals.of("cbs-token-type")["presented"]


def test_a_mechanism_that_is_not_served(hub):
    with Refusals(hub) as refusals:
        sign_in(hub, "SCRAM-SHA-256", b"n,,n=x")
        assert "SCRAM-SHA-256" in refusals.of("sasl-mechanism")["presented"]


class Reader:
    """A consumer that stays until it loses its place."""

    def __init__(self, hub, **options):
        self.client = consumer(hub, retry_total=0)
        self.lost = threading.Event()
        self.here = threading.Event()
        self._thread = threading.Thread(target=self._run, kwargs=options, daemon=True)
        self._thread.start()

    def _run(self, **options) -> None:
        def came(*_) -> None:
            self.here.set()

        def lost(*_) -> None:
            self.lost.set()
            self.client.close()

        with suppress(Exception):
            self.client.receive(
                came, on_error=lost, partition_id="1", starting_position="-1", max_wait_time=1, **options
            )

    def close(self) -> None:
        self.client.close()
        self._thread.join(10)


def test_an_owner_level_and_who_lost_by_it(hub):
    with Refusals(hub) as refusals:
        first = Reader(hub, owner_level=1)
        assert first.here.wait(10)
        second = Reader(hub, owner_level=7)
        assert first.lost.wait(10)
        assert "epoch of '7'" in refusals.of("reader-displaced")["explanation"]
        assert second.here.wait(10)
        late = Reader(hub, owner_level=3)
        assert late.lost.wait(10)
        assert "'7'" in refusals.of("reader-outranked")["explanation"]
        for reader in (first, second, late):
            reader.close()


def test_a_sixth_reader(hub):
    readers = [Reader(hub) for _ in range(5)]
    try:
        assert all(reader.here.wait(10) for reader in readers)
        with Refusals(hub) as refusals:
            sixth = Reader(hub)
            assert sixth.lost.wait(10)
            refusals.of("readers-full")
            sixth.close()
    finally:
        for reader in readers:
            reader.close()


def test_a_policy_that_changed_under_a_reader(hub):
    hub.cli("policy", "create", "board", "--rights", "ServiceConnect")
    key = hub.cli("policy", "show", "board", "--keys")["primaryKey"]
    text = f"Endpoint=sb://{hub.hostname}/;SharedAccessKeyName=board;SharedAccessKey={key};EntityPath=holdfast"
    client = EventHubConsumerClient.from_connection_string(text, "$Default", connection_verify=hub.ca_file, retry_total=0)
    here, lost = threading.Event(), threading.Event()
    options = {"partition_id": "2", "starting_position": "-1", "max_wait_time": 1}
    with Refusals(hub) as refusals:
        run = lambda: client.receive(lambda *_: here.set(), on_error=lambda *_: lost.set(), **options)  # noqa: E731
        threading.Thread(target=run, daemon=True).start()
        assert here.wait(10)
        hub.cli("policy", "delete", "board")
        entry = refusals.of("right-ended")
        client.close()
    assert "delete policy `board`, by operator" in entry["explanation"]

"""What became of device-bound messages: over HTTPS, over restarts and crashes (over AMQP: conformance/node)."""

import time

import pytest
from azure.iot.hub import IoTHubHttpRuntimeManager, IoTHubRegistryManager

from harness.hub import Hub
from harness.inbox import Inbox
from harness.rest import Registry, Rest

FEEDBACK = "/messages/serviceBound/feedback"
MEDIA_TYPE = "application/vnd.microsoft.iothub.feedback.json"
# Fewer than 64 records wait for 15 s after the last batch.
BATCH_SECONDS = 15


@pytest.fixture
def send(hub, monkeypatch):
    yield from sender(hub, monkeypatch)


def sender(hub: Hub, monkeypatch):
    # The one way to hand a CA to uamqp through azure-iot-hub, which offers none.
    monkeypatch.setenv("SSL_CERT_FILE", hub.ca_file)
    service = IoTHubRegistryManager.from_connection_string(hub.service_connection_string)

    def send(identity, message_id: str, ack: str = "full"):
        service.send_c2d_message(identity.device, message_id, {"messageId": message_id, "iothub-ack": ack})

    yield send
    service.amqp_svc_client.amqp_client.close()


def settle(hub: Hub, identity, *how: str) -> None:
    """Takes and settles the messages of a device one after the other."""
    inbox = Inbox(hub, identity)
    for step in how:
        assert inbox.settle(inbox.receive(), step) == 204


def batch(rest: Rest):
    """The next batch and its lock."""
    deadline = time.monotonic() + BATCH_SECONDS + 10
    while time.monotonic() < deadline:
        answer = rest.call("GET", FEEDBACK)
        if answer.status == 200:
            assert answer.headers["Content-Type"] == MEDIA_TYPE
            return answer.body, answer.headers["ETag"].strip('"')
        assert answer.status == 204, answer
        time.sleep(0.2)
    raise AssertionError("no feedback came")


def hear(rest: Rest, count: int) -> list[tuple]:
    """Takes so many records, batch by batch."""
    heard = []
    while len(heard) < count:
        records, lock = batch(rest)
        heard += [(r["deviceId"], r["originalMessageId"], r["statusCode"]) for r in records]
        assert rest.call("DELETE", f"{FEEDBACK}/{lock}").status == 204
    return heard


def test_a_service_hears_over_https_what_became_of_its_messages(hub, send, registry, name):
    rest = Rest(hub, policy="service")
    # The SDK settles; of what it receives it hands out neither body nor lock.
    service = IoTHubHttpRuntimeManager.from_connection_string(hub.service_connection_string)
    device = registry.create(name)
    send(device, "rejected", "negative")
    settle(hub, device, "reject")
    records, lock = batch(rest)
    assert rest.call("GET", FEEDBACK).status == 204, "somebody has it"
    service.abandon_feedback_notification(lock)
    again, lock_of_again = batch(rest)
    assert again == records and lock_of_again != lock
    assert rest.call("DELETE", f"{FEEDBACK}/{lock}").status == 412, "the lock of the first delivery"
    service.complete_feedback_notification(lock_of_again)
    assert rest.call("DELETE", f"{FEEDBACK}/{lock_of_again}").status == 412, "settled twice"
    (record,) = records
    assert record.pop("enqueuedTimeUtc").endswith("Z")
    assert record == {
        "originalMessageId": "rejected",
        "statusCode": "Rejected",
        "description": "Rejected",
        "deviceId": device.device,
        "deviceGenerationId": device.record["generationId"],
    }

    gone = registry.create(f"{name}-gone")
    send(gone, "of a device that is deleted")
    settle(hub, gone, "complete")
    registry.delete(gone.device)
    send(device, "abandoned")
    settle(hub, device, *["abandon"] * 10)
    assert hear(rest, 1) == [(device.device, "abandoned", "DeliveryCountExceeded")]
    assert rest.call("GET", FEEDBACK).status == 204


def test_sixty_four_records_are_told_at_once_and_fewer_wait(hub, send, registry, name):
    rest = Rest(hub, policy="service")
    first, second = registry.create(f"{name}-1"), registry.create(f"{name}-2")
    for number in range(33):
        send(first, f"{number}")
    for number in range(32):
        send(second, f"{number}")
    settle(hub, first, "complete")
    assert len(hear(rest, 1)) == 1
    begun = time.monotonic()
    settle(hub, first, *["complete"] * 32)
    assert rest.call("GET", FEEDBACK).status == 204, "thirty-two wait"
    settle(hub, second, *["complete"] * 32)
    records, lock = batch(rest)
    assert (len(records), time.monotonic() - begun < BATCH_SECONDS) == (64, True)
    assert rest.call("DELETE", f"{FEEDBACK}/{lock}").status == 204


def test_feedback_is_for_those_who_may_use_the_service_side(hub):
    for policy in ("registryReadWrite", "device"):
        for method, path in [("GET", FEEDBACK), ("DELETE", f"{FEEDBACK}/x"), ("POST", f"{FEEDBACK}/x/abandon")]:
            assert Rest(hub, policy=policy).call(method, path).status == 401, (policy, method)
    service = Rest(hub, policy="service")
    for lock in ("6a5b0c3e-0000-4000-8000-000000000000", "no-lock"):
        answer = service.call("DELETE", f"{FEEDBACK}/{lock}")
        assert (answer.status, answer.error) == (412, "DeviceMessageLockLost")


def test_a_lock_lapses_after_a_minute_and_a_batch_expires_after_an_hour(tmp_path, monkeypatch):
    hub = Hub(data=tmp_path / "data", moves_clock=True)
    hub.start()
    try:
        device = Registry(hub).create("one")
        for send in sender(hub, monkeypatch):
            send(device, "m")
        settle(hub, device, "complete")
        records, lock = batch(Rest(hub, policy="service"))
        hub.clock.advance(61)
        rest = Rest(hub, policy="service")
        assert rest.call("DELETE", f"{FEEDBACK}/{lock}").status == 412, "the lock has lapsed"
        again, _ = batch(rest)
        assert again == records
        hub.clock.advance(3600)
        assert Rest(hub, policy="service").call("GET", FEEDBACK).status == 204
    finally:
        hub.stop()


def test_what_became_of_a_message_is_heard_once_whenever_the_hub_crashes(tmp_path, monkeypatch):
    hub = Hub(data=tmp_path / "data")
    hub.start()
    try:
        device = Registry(hub).create("survivor")
        for send in sender(hub, monkeypatch):
            for number in range(3):
                send(device, f"m-{number}")
        # A first batch may be made already; what follows it waits.
        settle(hub, device, "complete")
        settle(hub, device, "complete", "complete")
        hub.kill()
        hub.start()
        rest = Rest(hub, policy="service")
        heard = hear(rest, 3)
        assert sorted(heard) == [("survivor", f"m-{number}", "Success") for number in range(3)]
        # What was completed does not come back.
        hub.kill()
        hub.start()
        assert Rest(hub, policy="service").call("GET", FEEDBACK).status == 204
    finally:
        hub.stop()

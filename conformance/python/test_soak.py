"""A Node device over AMQP and a Python device over MQTT, traffic both ways, tokens of one minute, five restarts of the hub.

`HOLDFAST_SOAK_SECONDS` says for how long: three minutes in `cargo xtask test`, two hours in `cargo xtask prove`. In less than
two minutes no token comes to be renewed between two restarts, and the test says so by failing.
"""

import os
import time

import pytest

from harness.events import body_of, device_of
from harness.soak import BackEnd, Judge, all_delivered, over_amqp, over_mqtt

SECONDS = float(os.environ.get("HOLDFAST_SOAK_SECONDS", "180"))
RESTARTS = 5


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 600)
def test_no_message_is_lost_or_doubled_and_no_subscription_forgotten(hub, registry, reader, name, monkeypatch, record_property):
    monkeypatch.setenv("SSL_CERT_FILE", hub.ca_file)
    devices = [over_mqtt(hub, registry.create(f"{name}-mqtt")), over_amqp(hub, registry.create(f"{name}-amqp"))]
    try:
        judge, back_end = Judge(devices), BackEnd(hub, devices)
        for number in range(RESTARTS):
            time.sleep(SECONDS / (RESTARTS + 1))
            judge.restarted(*restarted(hub, killed=number % 2 == 1, pause=2.5 * number))
        time.sleep(SECONDS / (RESTARTS + 1))
        back_end.end()
        for device in devices:
            all_delivered(device, back_end.done)
            device.end()
    finally:
        for device in devices:
            device.kill()
    judge.service(back_end.done)
    events = reader.whole()
    for device in devices:
        sent = judge.telemetry(device, stream_of(events, device))
        judge.each_phase(device, back_end.done)
        figures = {
            "telemetry": sent,
            "messages to it": judge.messages(device, back_end.done),
            "calls answered": judge.calls(device, back_end.done),
            "changes pushed": judge.desired(device, back_end.done),
            "tokens": 1 + len(device.said("renewed")),
        }
        assert figures["tokens"] > 1, f"{device.name} never renewed its token"
        balanced(hub, device)
        record_property("figure", f"soak of {SECONDS:.0f} s, {RESTARTS} restarts, {device.name}: {figures}")


def restarted(hub, killed: bool, pause: float) -> tuple[float, float]:
    """Ends the hub, by SIGKILL or as an operator does, and starts it again; when it went and when it was back."""
    away = time.time()
    hub.kill() if killed else hub.stop()
    time.sleep(pause)
    hub.start()
    return away, time.time()


def stream_of(events, device) -> list[str]:
    return [body_of(event).decode() for event in events if device_of(event) == device.name]


def balanced(hub, device) -> None:
    """Of the messages to a device that the hub took, each is accounted for, and none waits."""
    view = hub.cli("c2d", "list", device.name)
    gone = ("completed", "rejected", "expired", "deliveryCountExceeded", "purged")
    assert (view["waiting"], view["sent"]) == ([], sum(view[how] for how in gone)), view
    assert view["sent"] == view["completed"], view

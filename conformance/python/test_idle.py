"""A reader that hears nothing for minutes: heartbeats must hold its connection, and the next event must reach it."""

import time

import pytest

from harness.events import Reader, body_of
from harness.raw_mqtt import RawDevice

# The hub asks for a sign of life every 240 s and gives one every 120 s at least.
SILENCE_SECONDS = 300


@pytest.mark.slow
@pytest.mark.timeout(SILENCE_SECONDS + 90)
def test_readers_hear_the_first_event_after_five_minutes_of_silence(hub, registry, name):
    token = registry.create(name).token()
    readers = [Reader(hub, websocket=websocket) for websocket in (False, True)]
    try:
        for body in (b"before", b"after"):
            with RawDevice(hub, name, token) as device:
                assert device.publish(f"devices/{name}/messages/events/", body)
            for reader in readers:
                reader.first(lambda event: body_of(event) == body, 5)
            if body == b"before":
                time.sleep(SILENCE_SECONDS)
        assert [reader.failure for reader in readers] == [None, None]
    finally:
        for reader in readers:
            reader.close()

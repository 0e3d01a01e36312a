"""What MQTT 3.1.1 forbids and demands, by bytes that no library sends."""

import pytest

from harness.raw_mqtt import RawDevice, connect_packet, tls_stream
from test_inbox import device, sender_of, service  # noqa: F401 (fixtures)
from test_mqtt_wire import ends


def field(value: bytes) -> bytes:
    return len(value).to_bytes(2) + value


def packet(first: int, body: bytes) -> bytes:
    assert len(body) < 128
    return bytes([first, len(body)]) + body


def opened(hub, identity):
    stream = tls_stream(hub)
    stream.sendall(connect_packet(hub, identity.device, identity.token()))
    connack = stream.recv(4)
    assert connack[3] == 0
    return stream, bool(connack[2])


@pytest.mark.parametrize("text", [b"time=10:00+01:00", b"a=#1", b"a=b\0c"], ids=["plus", "hash", "nul"])
@pytest.mark.parametrize("qos", [0, 1])
def test_a_topic_with_a_character_of_filters_closes_the_connection_and_is_named(qos, text, hub, device):
    stream, _ = opened(hub, device)
    with stream:
        topic = f"devices/{device.device}/messages/events/".encode() + text
        stream.sendall(packet(0x30 | qos << 1, field(topic) + b"\0\7" * qos + b"x"))
        assert ends(stream)
    [entry] = hub.why(device.device)
    wrong = next(letter for letter in ("+", "#", "U+0000") if letter.replace("U+0000", "\0").encode() in text)
    assert entry["cause"] == "protocol" and wrong in str(entry)


@pytest.mark.parametrize(
    "sent",
    [
        packet(0xC0, b"x"),
        packet(0xE0, b"x"),
        packet(0x82, b"\0\1" + field(b"$iothub/twin/res/#") + b"\x81"),
        packet(0x82, b"\0\1" + field(b"$iothub/twin/res/\0") + b"\1"),
        packet(0xA2, b"\0\1" + field(b"$iothub/twin/res/\0")),
        packet(0x38, field(b"devices/x/messages/events/") + b"x"),
    ],
    ids=["pingreq-body", "disconnect-body", "reserved-bits", "nul-in-filter", "nul-in-unsubscribe", "dup-of-qos-0"],
)
def test_what_the_standard_reserves_closes_the_connection(sent, hub, device):
    stream, _ = opened(hub, device)
    with stream:
        stream.sendall(sent)
        assert ends(stream)


def test_a_client_without_an_id_that_wants_a_session_is_refused_with_code_2(hub):
    with tls_stream(hub) as stream:
        stream.sendall(packet(0x10, field(b"MQTT") + b"\x04\0\0\x3c" + field(b"")))
        assert stream.recv(4) == b"\x20\x02\x00\x02"
        assert ends(stream)


@pytest.mark.parametrize(
    "connect",
    [
        field(b"MQTT") + b"\x04\x42\0\x3c" + field(b"d") + field(b"p"),
        field(b"MQTT") + b"\x04\x06\0\x3c" + field(b"d") + field(b"devices/d/messages/events/#") + field(b"w"),
        field(b"MQTT") + b"\x04\x02\0\x3c" + field(b"d") + b"more",
        field(b"MQTT") + b"\x04\x02\0\x3c" + field(b"d\0"),
    ],
    ids=["password-without-user-name", "will-with-wildcard", "bytes-behind", "nul-in-client-id"],
)
def test_a_connect_that_breaks_the_standard_is_closed_without_an_answer(connect, hub):
    with tls_stream(hub) as stream:
        stream.sendall(packet(0x10, connect))
        assert ends(stream)


def publishes(stream, count: int) -> list[tuple[bool, int, bytes]]:
    """So many messages that came next: DUP, packet identifier, payload; answers in between are passed over."""
    found, read = [], b""
    stream.settimeout(10)
    while len(found) < count:
        some = stream.recv(4096)
        assert some, "the hub closed the connection"
        read += some
        while len(read) > 2 and (length := read[1] & 127 | (read[2] << 7 if read[1] & 128 else 0)) is not None:
            begin = 3 if read[1] & 128 else 2
            if len(read) < begin + length:
                break
            body, first, read = read[begin : begin + length], read[0], read[begin + length :]
            if first >> 4 == 3:
                topic = int.from_bytes(body[:2]) + 2
                found.append((bool(first & 8), int.from_bytes(body[topic : topic + 2]), body[topic + 2 :]))
    return found


def test_what_was_not_acknowledged_comes_again_as_what_it_was_and_to_a_new_session_as_new(hub, service, device):
    subscribe = packet(0x82, b"\0\1" + field(f"devices/{device.device}/messages/devicebound/#".encode()) + b"\1")
    stream, _ = opened(hub, device)
    with stream:
        stream.sendall(subscribe)
        for body in ("one", "two", "three"):
            service.send_c2d_message(device.device, body, {})
        (_, first, _), (_, second, _), (_, third, _) = sent = publishes(stream, 3)
        assert not any(dup for dup, _, _ in sent)
        stream.sendall(b"\x40\x02" + first.to_bytes(2) + b"\xc0\0")
        stream.recv(2)
    for _ in range(2):
        stream, present = opened(hub, device)
        with stream:
            assert present
            assert publishes(stream, 2) == [(True, second, b"two"), (True, third, b"three")]
    with RawDevice(hub, device.device, device.token(), clean_session=True):
        pass
    stream, present = opened(hub, device)
    with stream:
        assert not present
        stream.sendall(subscribe)
        assert [dup for dup, _, _ in publishes(stream, 2)] == [False, False]

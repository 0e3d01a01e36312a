"""MQTT 5 by hand, and what Azure's preview signs, made as an outsider makes it from the documents: no client library shows
the reason codes and properties of every packet, or sends what is wrong."""

import base64
import hashlib
import hmac
import itertools
import ssl
import time
from dataclasses import dataclass, field

from harness.hub import Hub
from harness.raw_mqtt import tls_stream

API_VERSION = "2020-10-01-preview"
CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK = 1, 2, 3, 4, 8, 9, 10, 11
PINGREQ, PINGRESP, DISCONNECT, AUTH = 12, 13, 14, 15

# The properties that these tests use, by the names of the standard.
NUMBERS = {
    "payload-format-indicator": (0x01, 1),
    "message-expiry-interval": (0x02, 4),
    "session-expiry-interval": (0x11, 4),
    "server-keep-alive": (0x13, 2),
    "request-problem-information": (0x17, 1),
    "will-delay-interval": (0x18, 4),
    "receive-maximum": (0x21, 2),
    "topic-alias-maximum": (0x22, 2),
    "topic-alias": (0x23, 2),
    "maximum-qos": (0x24, 1),
    "retain-available": (0x25, 1),
    "maximum-packet-size": (0x27, 4),
    "wildcard-subscription-available": (0x28, 1),
    "subscription-identifiers-available": (0x29, 1),
    "shared-subscription-available": (0x2A, 1),
}
TEXTS = {
    "content-type": 0x03,
    "response-topic": 0x08,
    "correlation-data": 0x09,
    "authentication-method": 0x15,
    "authentication-data": 0x16,
    "reason-string": 0x1F,
}
USER = 0x26
NAMES = {code: name for name, (code, _) in NUMBERS.items()} | {code: name for name, code in TEXTS.items()}


def signature(key: str, host: str, client_id: str, policy: str = "", at: str = "", expiry: str = "") -> bytes:
    return tag(key, f"{host}\n{client_id}\n{policy}\n{at}\n{expiry}\n")


def tag(key: str, signed: str) -> bytes:
    return hmac.new(base64.b64decode(key), signed.encode(), hashlib.sha256).digest()


def sas(
    hub: Hub, client_id: str, key: str, policy: str = "", seconds: float = 3600, host: str | None = None
) -> tuple[dict, list]:
    """The properties and user properties by which a client authenticates with a key."""
    host = hub.hostname if host is None else host
    at, expiry = str(int(time.time() * 1000)), str(int((time.time() + seconds) * 1000))
    user = [("api-version", API_VERSION), ("host", host), ("sas-at", at), ("sas-expiry", expiry)]
    if policy:
        user.append(("sas-policy", policy))
    signed = signature(key, host, client_id, policy, at, expiry)
    return {"authentication-method": "SAS", "authentication-data": signed}, user


def again(hub: Hub, client_id: str, key: str, policy: str = "", seconds: float = 3600) -> tuple[dict, list]:
    """The same for AUTH, which says nothing of the host, the version and the policy."""
    properties, user = sas(hub, client_id, key, policy, seconds)
    return properties, [pair for pair in user if pair[0] in ("sas-at", "sas-expiry")]


def x509(hub: Hub) -> tuple[dict, list]:
    return {"authentication-method": "X509"}, [("api-version", API_VERSION), ("host", hub.hostname)]


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return len(data).to_bytes(2) + data


def variable(number: int) -> bytes:
    digits = bytearray()
    while number > 127:
        digits.append(number % 128 | 128)
        number //= 128
    return bytes([*digits, number])


def encoded(properties: dict | None = None, user=()) -> bytes:
    out = b""
    for name, value in (properties or {}).items():
        if name in NUMBERS:
            code, size = NUMBERS[name]
            out += bytes([code]) + value.to_bytes(size)
        else:
            out += bytes([TEXTS[name]]) + text(value)
    for name, value in user:
        out += bytes([USER]) + text(name) + text(value)
    return variable(len(out)) + out


def packet(kind: int, body: bytes, flags: int = 0) -> bytes:
    return bytes([kind << 4 | flags]) + variable(len(body)) + body


def connect(
    client_id: str,
    properties: dict,
    user,
    clean_start: bool = False,
    keep_alive: int = 60,
    will: bytes = b"",
    will_flags: int = 0x0C,
) -> bytes:
    flags = (2 if clean_start else 0) | (will_flags if will else 0)
    body = text("MQTT") + bytes([5, flags]) + keep_alive.to_bytes(2) + encoded(properties, user)
    return packet(CONNECT, body + text(client_id) + will)


def will(topic: str, payload: bytes, properties: dict | None = None, user=()) -> bytes:
    return encoded(properties, user) + text(topic) + text(payload)


def publish(topic: str, payload: bytes = b"", packet_id: int = 0, properties=None, user=(), flags: int = 0) -> bytes:
    number = packet_id.to_bytes(2) if packet_id else b""
    body = text(topic) + number + encoded(properties, user) + payload
    return packet(PUBLISH, body, flags | (2 if packet_id else 0))


@dataclass
class Packet:
    """A packet that the hub sent."""

    kind: int
    flags: int
    code: int | None = None
    codes: list = field(default_factory=list)
    packet_id: int = 0
    topic: str = ""
    payload: bytes = b""
    session_present: bool = False
    properties: dict = field(default_factory=dict)
    user: list = field(default_factory=list)

    def of(self, name: str) -> str | None:
        return dict(self.user).get(name)


class Bytes:
    def __init__(self, data: bytes):
        self.data = data

    def take(self, count: int) -> bytes:
        assert len(self.data) >= count, "a packet of the hub ends early"
        taken, self.data = self.data[:count], self.data[count:]
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def text(self) -> bytes:
        return self.take(self.number(2))

    def variable(self) -> int:
        value = shift = 0
        while True:
            digit = self.number(1)
            value |= (digit & 127) << shift
            if digit < 128:
                return value
            shift += 7


def decoded(kind: int, flags: int, body: bytes) -> Packet:
    found, rest = Packet(kind, flags), Bytes(body)
    if kind == CONNACK:
        found.session_present, found.code = bool(rest.number(1)), rest.number(1)
    elif kind == PUBLISH:
        found.topic = rest.text().decode()
        found.packet_id = rest.number(2) if flags & 6 else 0
    elif kind in (PUBACK, SUBACK, UNSUBACK):
        found.packet_id = rest.number(2)
        if kind == PUBACK:
            found.code = rest.number(1) if rest.data else 0
    elif kind in (DISCONNECT, AUTH):
        found.code = rest.number(1) if rest.data else 0
    if rest.data:
        properties = Bytes(rest.take(rest.variable()))
        while properties.data:
            code = properties.number(1)
            if code == USER:
                found.user.append((properties.text().decode(), properties.text().decode()))
                continue
            name = NAMES[code]
            value = properties.number(NUMBERS[name][1]) if name in NUMBERS else properties.text()
            assert name not in found.properties, f"{name} comes twice"
            found.properties[name] = value
    found.codes, found.payload = list(rest.data), rest.data
    return found


class Device5:
    """One connection of MQTT 5. What the hub sends is kept in its order until a test asks for it."""

    def __init__(self, hub: Hub, port: str = "mqtt", **tls):
        self._stream: ssl.SSLSocket = tls_stream(hub, port, **tls)
        self._stream.settimeout(10)
        self._buffer = b""
        self._kept: list[Packet] = []
        self._ids = itertools.cycle(range(1, 65_536))
        self.connack: Packet | None = None

    def __enter__(self) -> "Device5":
        return self

    def __exit__(self, *_) -> None:
        self._stream.close()

    def send(self, data: bytes) -> None:
        self._stream.sendall(data)

    def open(self, client_id: str, authentication: tuple[dict, list], **options) -> Packet:
        """Sends CONNECT and gives the CONNACK, whatever it says."""
        properties, user = authentication
        extra = options.pop("properties", {})
        self.send(connect(client_id, {**properties, **extra}, user, **options))
        self.connack = self.receive(CONNACK)
        return self.connack

    def publish(self, topic: str, payload: bytes = b"", properties=None, user=(), flags: int = 0) -> Packet:
        """Publishes with QoS 1 and gives the PUBACK."""
        number = next(self._ids)
        self.send(publish(topic, payload, number, properties, user, flags))
        ack = self.receive(PUBACK)
        assert ack.packet_id == number
        return ack

    def request(self, topic: str, payload: bytes = b"", user=(), correlation: bytes = b"\x01\xfa") -> Packet:
        """Asks, and gives the response."""
        self.send(publish(topic, payload, properties={"correlation-data": correlation}, user=user))
        response = self.receive(PUBLISH)
        assert (response.topic, response.flags) == ("$iothub/responses", 0)
        assert response.properties["correlation-data"] == correlation
        return response

    def subscribe(self, *filters: str, qos: int = 1) -> list[int]:
        """The reason code for each filter."""
        number = next(self._ids)
        body = number.to_bytes(2) + encoded() + b"".join(text(name) + bytes([qos]) for name in filters)
        self.send(packet(SUBSCRIBE, body, 2))
        ack = self.receive(SUBACK)
        assert ack.packet_id == number
        return ack.codes

    def unsubscribe(self, *filters: str) -> list[int]:
        body = next(self._ids).to_bytes(2) + encoded() + b"".join(text(name) for name in filters)
        self.send(packet(UNSUBSCRIBE, body, 2))
        return self.receive(UNSUBACK).codes

    def acknowledge(self, message: Packet, code: int = 0, status: str | None = None) -> None:
        body = message.packet_id.to_bytes(2)
        if code:
            body += bytes([code]) + encoded(user=[("status", status)] if status else ())
        self.send(packet(PUBACK, body))

    def authenticate(self, authentication: tuple[dict, list], code: int = 0x19) -> None:
        self.send(packet(AUTH, bytes([code]) + encoded(*authentication)))

    def disconnect(self, code: int = 0, properties=None) -> None:
        self.send(packet(DISCONNECT, bytes([code]) + encoded(properties)))

    def receive(self, kind: int) -> Packet:
        """The next packet of a kind; others that come before it are kept."""
        for at, kept in enumerate(self._kept):
            if kept.kind == kind:
                return self._kept.pop(at)
        while True:
            found = self.next_packet()
            assert found, f"the hub closed; it had sent {self._kept}"
            if found.kind == kind:
                return found
            self._kept.append(found)

    def ended(self) -> Packet | None:
        """The DISCONNECT by which the hub ends the connection, which it then closes."""
        last = None
        while found := self.next_packet():
            last = found
            self._kept.append(found)
        return last if last and last.kind == DISCONNECT else None

    def quiet(self, *kinds: int) -> bool:
        """Whether nothing of these kinds came before the answer to a ping."""
        self.send(packet(PINGREQ, b""))
        self.receive(PINGRESP)
        return not any(kept.kind in kinds for kept in self._kept)

    def next_packet(self) -> Packet | None:
        while True:
            if whole := self._whole():
                return whole
            try:
                chunk = self._stream.recv(65_536)
            except ConnectionResetError:
                chunk = b""
            if not chunk:
                assert not self._buffer, f"the hub closed within a packet: {self._buffer!r}"
                return None
            self._buffer += chunk

    def _whole(self) -> Packet | None:
        rest = Bytes(self._buffer)
        try:
            head = rest.number(1)
            body = rest.take(rest.variable())
        except AssertionError:
            return None
        self._buffer = rest.data
        return decoded(head >> 4, head & 15, body)

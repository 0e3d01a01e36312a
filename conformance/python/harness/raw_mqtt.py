"""MQTT 3.1.1 by hand with the SDK's own paho, for what an SDK would not send or would hide."""

import socket
import ssl
import threading

import paho.mqtt.client as paho

from harness.certificates import Credential
from harness.hub import Hub
from harness.wait import until


class RawDevice:
    """One connection. It never reconnects; `closed` is set when the hub ended it."""

    def __init__(
        self,
        hub: Hub,
        client_id: str,
        password: str | None = None,
        user_name: str | None = None,
        credential: Credential | None = None,
        tls: ssl.TLSVersion | None = None,
        security_level: int | None = None,
        will: tuple[str, bytes] | None = None,
        clean_session: bool = False,
        protocol: int = paho.MQTTv311,
        keep_alive: int = 60,
    ):
        self.connack: int | None = None
        self.session_present: bool | None = None
        self.closed = threading.Event()
        self.messages: list = []
        self._acknowledged: set[int] = set()
        self._granted: dict[int, tuple] = {}
        self._hub = hub
        self._keep_alive = keep_alive
        self._client = paho.Client(client_id=client_id, clean_session=clean_session, protocol=protocol)
        self._client.tls_set_context(client_context(hub, credential, tls, security_level))
        user_name = user_name or f"{hub.hostname}/{client_id}/?api-version=2021-04-12"
        self._client.username_pw_set(user_name, password)
        if will:
            self._client.will_set(*will, qos=1)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = lambda _c, _u, mid: self._acknowledged.add(mid)
        self._client.on_subscribe = lambda _c, _u, mid, granted: self._granted.update({mid: tuple(granted)})
        self._client.on_message = lambda _c, _u, message: self.messages.append(message)

    def open(self) -> "RawDevice":
        """Sends CONNECT and waits for the answer, whatever it is."""
        self._client.connect(self._hub.hostname, self._hub.ports["mqtt"], keepalive=self._keep_alive)
        self._client.loop_start()
        until(lambda: self.connack is not None or self.closed.is_set(), 10, "CONNACK")
        return self

    def send(self, topic: str, payload: bytes = b"") -> None:
        """Publishes with QoS 0: no answer is awaited."""
        self._client.publish(topic, payload, qos=0)

    def connect_again(self) -> None:
        """Sends a second CONNECT on the same connection, which no SDK does."""
        self._client._send_connect(60)

    def publish(self, topic: str, payload: bytes = b"", qos: int = 1, retain: bool = False) -> bool:
        """Whether the hub acknowledged the message; false when it closed the connection instead."""
        info = self._client.publish(topic, payload, qos=qos, retain=retain)
        until(lambda: info.mid in self._acknowledged or self.closed.is_set(), 10, "PUBACK or the end")
        return info.mid in self._acknowledged

    def subscribe(self, topic: str, qos: int = 1) -> tuple | None:
        """The granted codes; none when the hub closed the connection instead."""
        _result, mid = self._client.subscribe(topic, qos)
        until(lambda: mid in self._granted or self.closed.is_set(), 10, "SUBACK or the end")
        return self._granted.get(mid)

    def close(self) -> None:
        self._client.disconnect()

    def __enter__(self) -> "RawDevice":
        return self.open()

    def __exit__(self, *_) -> None:
        self.close()
        self._client.loop_stop()

    def _on_disconnect(self, *_) -> None:
        self._client.disconnect()  # or paho's thread would connect again
        self.closed.set()

    def _on_connect(self, _client, _userdata, flags, result) -> None:
        self.session_present = bool(flags.get("session present"))
        self.connack = result


def connect_packet(
    hub: Hub,
    client_id: str,
    password: str = "",
    keep_alive_seconds: int = 60,
    user_name: str | None = None,
    level: int = 4,
) -> bytes:
    """A CONNECT as bytes, for tests that want no client between them and the hub."""

    def field(text: str) -> bytes:
        return len(text.encode()).to_bytes(2) + text.encode()

    user_name = user_name or f"{hub.hostname}/{client_id}/?api-version=2021-04-12"
    body = field("MQTT") + bytes([level]) + b"\xc0" + keep_alive_seconds.to_bytes(2)
    body += field(client_id) + field(user_name) + field(password)
    length, digits = len(body), bytearray()
    while length > 127:
        digits.append(length % 128 | 128)
        length //= 128
    return b"\x10" + bytes(digits) + bytes([length]) + body


def tls_stream(hub: Hub, port: str = "mqtt", source: str = "", **options) -> ssl.SSLSocket:
    """A bare TLS connection to one of the hub's ports, from an address of this machine where one is named."""
    plain = socket.create_connection((hub.address, hub.ports[port]), 5, (source, 0) if source else None)
    try:
        return client_context(hub, **options).wrap_socket(plain, server_hostname=hub.hostname)
    except BaseException:
        plain.close()
        raise


def client_context(
    hub: Hub,
    credential: Credential | None = None,
    tls: ssl.TLSVersion | None = None,
    security_level: int | None = None,
) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=hub.ca_file)
    if tls:
        context.minimum_version = context.maximum_version = tls
    if security_level is not None:
        context.set_ciphers(f"DEFAULT@SECLEVEL={security_level}")
    if credential:
        context.load_cert_chain(credential.chain_file, credential.key_file)
    return context

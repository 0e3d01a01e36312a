"""The doors by which messages come in and go out, each spelling the properties of a message in its own way."""

import base64
import http.client
import itertools
from collections.abc import Callable

import uamqp
from uamqp import authentication
from uamqp.message import BatchMessage, MessageProperties

from harness import mqtt5, sas
from harness.events import text
from harness.hub import Hub
from harness.mqtt5 import Device5
from harness.properties import END, Command, Row
from harness.raw_mqtt import RawDevice, tls_stream
from harness.rest import Identity, Rest, device_path
from harness.wait import until

# Doors in: each opens once, sends rows, and says whether they were taken.


class OverMqtt:
    spells = staticmethod(lambda row: row.bag is not None)

    def __init__(self, hub: Hub, identity: Identity):
        self._device = RawDevice(hub, identity.device, identity.token()).open()
        self._topic = f"devices/{identity.device}/messages/events/"

    def send(self, row: Row, body: str) -> bool:
        return self._device.publish(self._topic + row.bag, body.encode())

    def close(self) -> None:
        self._device.__exit__()


class OverMqtt5:
    spells = staticmethod(lambda row: row.five is not None)

    def __init__(self, hub: Hub, identity: Identity):
        self._device = Device5(hub)
        connack = self._device.open(identity.device, mqtt5.sas(hub, identity.device, identity.key))
        assert connack.code == 0

    def send(self, row: Row, body: str) -> bool:
        return self._device.publish("$iothub/telemetry", body.encode(), *row.five).code == 0

    def close(self) -> None:
        self._device.__exit__()


class OverHttps:
    spells = staticmethod(lambda row: row.headers is not None)

    def __init__(self, hub: Hub, identity: Identity):
        self._path = f"{device_path(identity.device)}/messages/events?api-version=2021-04-12"
        self._stream = tls_stream(hub, "https")
        self._head = f"Host: {hub.hostname}\r\nAuthorization: {identity.token()}\r\n".encode()

    def send(self, row: Row, body: str) -> bool:
        return self.post(row.headers, body.encode()) == 204

    def post(self, headers, body: bytes) -> int:
        """By hand, for `requests` takes no header twice and none that is no Latin-1."""
        lines = b"".join(name.encode() + b": " + octets(value) + b"\r\n" for name, value in headers)
        length = f"Content-Length: {len(body)}\r\n\r\n".encode()
        self._stream.sendall(f"POST {self._path} HTTP/1.1\r\n".encode() + self._head + lines + length + body)
        response = http.client.HTTPResponse(self._stream)
        response.begin()
        response.read()
        return response.status

    def close(self) -> None:
        self._stream.close()


class OverBatch(OverHttps):
    spells = staticmethod(lambda row: row.batch is not None)
    TYPE = [("Content-Type", "application/vnd.microsoft.iothub.json")]

    def send(self, row: Row, body: str) -> bool:
        encoded = base64.b64encode(body.encode()).decode()
        return self.post(self.TYPE, f'[{{"body": "{encoded}", "properties": {row.batch}}}]'.encode()) == 204


class OverAmqp:
    spells = staticmethod(lambda row: row.amqp is not None)

    def __init__(self, hub: Hub, identity: Identity):
        address = f"amqps://{hub.hostname}/devices/{identity.device}/messages/events"
        self._client = uamqp.SendClient(uamqp.address.Target(address), auth=plain(hub, identity))

    def send(self, row: Row, body: str) -> bool:
        self._client.queue_message(self.message(row, body.encode()))
        return self._client.send_all_messages(close_on_done=False) == [uamqp.constants.MessageState.SendComplete]

    def message(self, row: Row, body: bytes):
        return encoded(body, *row.amqp)

    def close(self) -> None:
        self._client.close()


class OverAmqpBatch(OverAmqp):
    def message(self, row: Row, body: bytes):
        return BatchMessage([encoded(body, *row.amqp)])


DOORS_IN = {
    "mqtt": OverMqtt,
    "mqtt5": OverMqtt5,
    "https": OverHttps,
    "batch": OverBatch,
    "amqp": OverAmqp,
    "amqp-batch": OverAmqpBatch,
}


# Doors out: each opens once and reads to the last message.


def read_mqtt(hub: Hub, identity: Identity) -> dict:
    with RawDevice(hub, identity.device, identity.token()) as device:
        device.subscribe(f"devices/{identity.device}/messages/devicebound/#")
        until(lambda: device.closed.is_set() or any(message.payload == END.encode() for message in device.messages), 15, "the last message")
        return {message.payload.decode(): message.topic for message in device.messages}


def judge_mqtt(identity: Identity, command: Command, topic: str) -> None:
    root = f"devices/{identity.device}/messages/devicebound/"
    assert topic.startswith(root)
    to, *rest = topic[len(root) :].split("&")
    assert to == f"%24.to=%2Fdevices%2F{identity.device}%2Fmessages%2FdeviceBound"
    assert sorted(rest) == sorted(command.bag)


def read_mqtt5(hub: Hub, identity: Identity) -> dict:
    found = {}
    with Device5(hub) as device:
        device.open(identity.device, mqtt5.sas(hub, identity.device, identity.key))
        device.subscribe("$iothub/commands")
        while END not in found:
            message = device.receive(mqtt5.PUBLISH)
            device.acknowledge(message)
            found[message.payload.decode()] = message
    return found


def judge_mqtt5(_identity: Identity, command: Command, message) -> None:
    own = {"sequence-no", "enqueued-time", "delivery-count"}
    properties, user = command.five
    left = dict(message.properties)
    if properties.get("message-expiry-interval") is True:
        assert 0 < left.pop("message-expiry-interval") <= 3600
        properties = {}
    assert left == properties
    assert [pair for pair in message.user if pair[0] not in own] == user


def read_https(hub: Hub, identity: Identity) -> dict:
    found, path = {}, f"{device_path(identity.device)}/messages/devicebound"
    rest = Rest(hub, authorization=identity.token())
    while END not in found:
        answer = rest.call("GET", path)
        assert answer.status == 200, answer
        lock = answer.headers["etag"].strip('"')
        assert rest.call("DELETE", f"{path}/{lock}").status == 204
        found[answer.body.decode()] = list(answer.headers.items())
    return found


def judge_https(_identity: Identity, command: Command, headers) -> None:
    own = {"etag", "iothub-to", "iothub-enqueuedtime", "iothub-deliverycount", "iothub-sequencenumber"}
    of_http = {"content-length", "date", "x-ms-request-id", "connection", "content-type"}
    left = [(name, value) for name, value in headers if name.lower() not in own | of_http]
    # Names are compared in the case in which they came: C's SDK does.
    assert sorted(left) == sorted(command.headers)


def read_amqp(hub: Hub, identity: Identity) -> dict:
    address = f"amqps://{hub.hostname}/devices/{identity.device}/messages/devicebound"
    client = uamqp.ReceiveClient(uamqp.address.Source(address), auth=plain(hub, identity), prefetch=50)
    found = {}
    try:
        while END not in found:
            batch = client.receive_message_batch(timeout=10_000)
            assert batch, f"nothing came after {list(found)}"
            for message in batch:
                found[b"".join(message.get_data()).decode()] = message
    finally:
        client.close()
    return found


def judge_amqp(identity: Identity, command: Command, message) -> None:
    fields = ("message_id", "correlation_id", "user_id", "content_type", "content_encoding", "subject", "reply_to", "group_id")
    found = {name: text(getattr(message.properties, name)) for name in fields}
    properties, application, annotations = command.out
    assert text(message.properties.to) == f"/devices/{identity.device}/messages/deviceBound"
    expires = properties.get("absolute_expiry_time")
    assert expires in (None, message.properties.absolute_expiry_time)
    assert {name: value for name, value in found.items() if value} == {name: value for name, value in properties.items() if name in fields}
    assert {text(name): text(value) for name, value in (message.application_properties or {}).items()} == application
    own = {"x-opt-sequence-number", "iothub-enqueuedtime", "iothub-deliverycount"}
    assert {text(name): text(value) for name, value in message.annotations.items() if text(name) not in own} == annotations


DOORS_OUT: dict[str, tuple[Callable, Callable]] = {
    "mqtt": (read_mqtt, judge_mqtt),
    "mqtt5": (read_mqtt5, judge_mqtt5),
    "https": (read_https, judge_https),
    "amqp": (read_amqp, judge_amqp),
}


def to_device(hub: Hub, identity: Identity, commands: list[Command]) -> dict[str, bool]:
    """Sends messages as a service does; says which were taken."""
    policy = authentication.SASLPlain(
        hub.hostname,
        f"service@sas.root.{hub.hostname.split('.')[0]}",
        sas.token(hub.hostname, hub.policy_key("service"), "service"),
        verify=hub.ca_file,
    )
    client = uamqp.SendClient(uamqp.address.Target(f"amqps://{hub.hostname}/messages/devicebound"), auth=policy)
    to = f"/devices/{identity.device}/messages/devicebound"
    taken = {}
    try:
        for command in itertools.chain(commands, [Command(END, ({}, {}, {}))]):
            properties, application, annotations = command.amqp
            message = encoded(command.name.encode(), {"to": to, **properties}, application, annotations)
            client.queue_message(message)
            taken[command.name] = client.send_all_messages(close_on_done=False) == [uamqp.constants.MessageState.SendComplete]
    finally:
        client.close()
    return taken


def encoded(body: bytes, properties: dict, application: dict, annotations: dict):
    return uamqp.Message(
        body,
        properties=MessageProperties(**properties) if properties else None,
        application_properties=application or None,
        annotations=annotations or None,
    )


def plain(hub: Hub, identity: Identity):
    """A device that signs in by SASL PLAIN."""
    user = f"{identity.device}@sas.{hub.hostname.split('.')[0]}"
    return authentication.SASLPlain(hub.hostname, user, identity.token(), verify=hub.ca_file)


def octets(value: str | bytes) -> bytes:
    return value.encode("ascii") if isinstance(value, str) else value

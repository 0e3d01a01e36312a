"""AMQP 1.0 by hand, for what no SDK sends and for the very bytes that come back."""

import socket

from harness.hub import Hub
from harness.raw_mqtt import tls_stream

SASL_HEADER, AMQP_HEADER = b"AMQP\x03\x01\x00\x00", b"AMQP\x00\x01\x00\x00"
NULL, FALSE, TRUE = b"\x40", b"\x42", b"\x41"


def text(value: str) -> bytes:
    return b"\xb1" + len(value.encode()).to_bytes(4) + value.encode()


def number(value: int) -> bytes:
    return b"\x70" + value.to_bytes(4)


def described(code: int, *fields: bytes) -> bytes:
    body = b"".join(fields)
    return b"\x00\x53" + bytes([code]) + b"\xd0" + (len(body) + 4).to_bytes(4) + len(fields).to_bytes(4) + body


def frame(body: bytes, sasl: bool = False) -> bytes:
    return (len(body) + 8).to_bytes(4) + b"\x02" + bytes([sasl]) + b"\x00\x00" + body


def sasl_init(mechanism: str, response: bytes | None = None) -> bytes:
    """The frame by which a client chooses a mechanism."""
    symbol = b"\xa3" + bytes([len(mechanism)]) + mechanism.encode()
    answer = NULL if response is None else b"\xb0" + len(response).to_bytes(4) + response
    return frame(described(0x41, symbol, answer), sasl=True)


def sign_in(hub: Hub, mechanism: str, response: bytes | None = None) -> bytes:
    """Everything that the hub sends to a client that signs in and then waits."""
    with tls_stream(hub, "amqp") as stream:
        stream.sendall(SASL_HEADER + sasl_init(mechanism, response))
        return to_the_end(stream)


def put_token(
    hub: Hub,
    token: str,
    kind: str = "servicebus.windows.net:sastoken",
    name: str = "x",
    origin: str = "",
    seconds: float = 10,
) -> bytes:
    """The bytes of the answer to a token that is put, from the disposition on."""
    with tls_stream(hub, "amqp", origin) as stream:
        stream.settimeout(seconds)
        return put_token_on(stream, hub, token, kind, name)


def put_token_on(stream: socket.socket, hub: Hub, token: str, kind: str, name: str = "x") -> bytes:
    """Opens a connection and a session, and puts a token on it; the bytes of the answer."""
    source, target = described(0x28, text("$cbs")), described(0x29, text("$cbs"))
    private = [described(0x28, text("client")), described(0x29, text("client"))]
    attach = [
        described(0x12, text("in"), number(0), FALSE, NULL, NULL, private[0], target, NULL, NULL, number(0)),
        described(0x12, text("out"), number(1), TRUE, NULL, NULL, source, private[1]),
    ]
    flow = described(0x13, number(0), number(100), number(0), number(100), number(1), number(0), number(10))
    pairs = [("operation", "put-token"), ("type", kind), ("name", name)]
    properties = b"".join(text(key) + text(value) for key, value in pairs)
    size = (len(properties) + 4).to_bytes(4) + (2 * len(pairs)).to_bytes(4)
    message = described(0x73, text("1")) + b"\x00\x53\x74\xd1" + size + properties + b"\x00\x53\x77" + text(token)
    transfer = described(0x14, number(0), number(0), b"\xa0\x01\x00", number(0), FALSE) + message
    stream.sendall(AMQP_HEADER + frame(described(0x10, text("client"), text(hub.hostname))))
    stream.sendall(frame(described(0x11, NULL, number(0), number(100), number(100))))
    for performative in [*attach, flow]:
        stream.sendall(frame(performative))
    read(stream, until=b"out")
    stream.sendall(frame(transfer))
    return read(stream, until=b"status-description")


def open_link(hub: Hub, token: str, address: str, sends: bool) -> bytes:
    """Puts a token and attaches a link; the bytes of the answer to the link."""

    def attach(name: str, handle: int, address: str, sends: bool) -> bytes:
        private, there = text("client"), text(address)
        source, target = (private, there) if sends else (there, private)
        fields = [text(name), number(handle), FALSE if sends else TRUE, NULL, NULL]
        fields += [described(0x28, source), described(0x29, target), NULL, NULL, number(0)]
        return frame(described(0x12, *fields))

    with tls_stream(hub, "amqp") as stream:
        stream.settimeout(10)
        put_token_on(stream, hub, token, "servicebus.windows.net:sastoken")
        # Links are answered in their order, and the second leads nowhere.
        stream.sendall(attach("link", 2, address, sends) + attach("fence", 3, "nowhere", sends=True))
        return read(stream, until=b"amqp:not-allowed").split(b"fence")[0]


def attach_sender(hub: Hub, device: str, credential=None) -> bytes:
    """The bytes of the answer to a device that attaches its telemetry link by its certificate alone."""
    target = described(0x29, text(f"/devices/{device}/messages/events"))
    source = described(0x28, text("client"))
    attach = described(0x12, text("in"), number(0), FALSE, NULL, NULL, source, target, NULL, NULL, number(0))
    with tls_stream(hub, "amqp", credential=credential) as stream:
        stream.settimeout(10)
        stream.sendall(AMQP_HEADER + frame(described(0x10, text("client"), text(hub.hostname))))
        stream.sendall(frame(described(0x11, NULL, number(0), number(100), number(100))))
        stream.sendall(frame(attach))
        return read(stream, until=b"amqp:unauthorized-access")


def read(stream: socket.socket, until: bytes) -> bytes:
    """What comes until a text of it has come, and its frame is whole."""
    received = b""
    while until not in received or not whole(received):
        chunk = stream.recv(4096)
        assert chunk, f"the hub closed after {received!r}"
        received += chunk
    return received


def whole(received: bytes) -> bool:
    """Whether the bytes are whole frames, but for the protocol header that may stand before them."""
    at = 8 if received[:4] == b"AMQP" else 0
    while at + 4 <= len(received):
        at += int.from_bytes(received[at : at + 4])
    return at == len(received)


def to_the_end(stream: socket.socket) -> bytes:
    """Everything until the hub closes."""
    stream.settimeout(10)
    received = b""
    try:
        while chunk := stream.recv(4096):
            received += chunk
    except ConnectionResetError:
        pass
    return received

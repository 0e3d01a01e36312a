"""HTTP by bytes: how the names of headers are written, transfer codings, and the upgrade to a WebSocket."""

import http.client
import json

import pytest

from harness import sas
from harness.raw_mqtt import tls_stream
from harness.rest import API_VERSION, device_path


@pytest.fixture
def device(registry, name):
    return registry.create(name)


def owner(hub) -> str:
    return sas.token(hub.hostname, hub.policy_key("iothubowner"), "iothubowner")


def head_of(stream) -> bytes:
    """The head of the next answer; what follows it stays in the stream."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = stream.recv(1)
        assert byte, f"the connection ended after {head}"
        head += byte
    return head


class Caller:
    """One connection, whose answers keep the case of their header names."""

    def __init__(self, hub, authorization: str):
        self._authorization = authorization
        self._connection = http.client.HTTPSConnection(hub.hostname)
        self._connection.sock = tls_stream(hub, "https")

    def names(self, method: str, path: str, body=None, status: int = 200, **headers) -> list[str]:
        joiner = "&" if "?" in path else "?"
        body = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        self._connection.request(
            method,
            f"{path}{joiner}api-version={API_VERSION}",
            body,
            {"Authorization": self._authorization, **headers},
        )
        answer = self._connection.getresponse()
        answer.read()
        assert answer.status == status, (method, path, answer.status)
        self.headers = dict(answer.getheaders())
        return list(self.headers)


def test_names_of_headers_are_written_as_azure_writes_them(hub, device):
    path, twin = device_path(device.device), f"/twins/{device.device}"
    caller = Caller(hub, owner(hub))
    read = ["Content-Type", "x-ms-request-id", "ETag", "Content-Length", "Date"]
    refused = ["Content-Type", "x-ms-request-id", "iothub-errorcode", "Content-Length", "Date"]
    for _ in range(2):
        assert sorted(caller.names("GET", path)) == sorted(read)
        assert sorted(caller.names("GET", twin)) == sorted(read)
        assert sorted(caller.names("GET", f"{path}-none", status=404)) == sorted(refused)
        # A body that looks like a head is none.
        tags = {"tags": {"a": "HTTP/1.1 200 OK\r\netag: x\r\n\r\n"}}
        assert sorted(caller.names("PATCH", twin, tags)) == sorted(read)
        assert sorted(caller.names("HEAD", path, status=405)) == sorted(refused)
        assert sorted(caller.names("GET", "/devices?top=1")) == sorted(set(read) - {"ETag"})
    other = Caller(hub, device.token())
    assert sorted(other.names("POST", f"{path}/messages/events", b"x", status=204)) == ["Date", "x-ms-request-id"]


def test_an_uploaded_file_and_its_links_have_headers_as_storage_writes_them(hub, device):
    caller = Caller(hub, device.token())
    caller._connection.request(
        "POST",
        f"{device_path(device.device)}/files?api-version={API_VERSION}",
        b'{"BlobName":"f"}',
        {"Authorization": device.token()},
    )
    info = json.loads(caller._connection.getresponse().read())
    path = f"/{info['containerName']}/{info['blobName']}{info['sasToken']}"
    caller._connection.request("PUT", path, b"x" * 100_000, {"x-ms-blob-type": "BlockBlob"})
    answer = caller._connection.getresponse()
    answer.read()
    assert answer.status == 201
    names = [name for name, _ in answer.getheaders()]
    assert "ETag" in names and "Last-Modified" in names and "x-ms-request-id" in names, names
    assert not [name for name in names if name == name.lower() and not name.startswith("x-ms-")], names


def test_application_properties_keep_the_case_that_their_sender_gave(hub, service, device):
    service.send_c2d_message(
        device.device, "HTTP/1.1 200 OK\r\netag: x\r\n\r\n", {"Room": "7", "camelCase": "a", "low": "b", "contentType": "text/plain"}
    )
    caller = Caller(hub, device.token())
    names = caller.names("GET", f"{device_path(device.device)}/messages/deviceBound")
    assert {"ETag", "iothub-app-Room", "iothub-app-camelCase", "iothub-app-low", "ContentType", "iothub-contenttype"} <= set(names)
    assert caller.headers["iothub-app-Room"] == "7"
    lock = caller.headers["ETag"].strip('"')
    caller.names("DELETE", f"{device_path(device.device)}/messages/deviceBound/{lock}", status=204)


def test_answers_to_requests_that_were_sent_ahead_are_spelled_too(hub, device):
    stream = tls_stream(hub, "https")
    path = device_path(device.device)
    request = lambda method, path: (
        f"{method} {path}?api-version={API_VERSION} HTTP/1.1\r\nHost: {hub.hostname}\r\nAuthorization: {owner(hub)}\r\n\r\n"
    )
    asked = [("GET", path), ("HEAD", path), ("GET", f"{path}-none"), ("GET", path)]
    stream.sendall("".join(request(*one) for one in asked).encode())
    for method, path in asked:
        head = head_of(stream).decode()
        names = [line.partition(":")[0] for line in head.split("\r\n")[1:-2]]
        wanted = "ETag" if method == "GET" and not path.endswith("none") else "iothub-errorcode"
        assert wanted in names and "Content-Length" in names and "Content-Type" in names, head
        length = int(dict(line.split(": ", 1) for line in head.split("\r\n")[1:-2])["Content-Length"])
        left = length if method == "GET" else 0
        while left:
            left -= len(stream.recv(left))


@pytest.mark.parametrize("coding", ["gzip, chunked", "deflate, chunked", "identity, chunked"])
def test_a_transfer_coding_that_nobody_decodes_is_501(hub, device, coding):
    stream = tls_stream(hub, "https")
    head = (
        f"POST {device_path(device.device)}/messages/events?api-version={API_VERSION} HTTP/1.1\r\nHost: {hub.hostname}\r\n"
        f"Authorization: {device.token()}\r\nTransfer-Encoding: {coding}\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    )
    stream.sendall(head.encode())
    answer = head_of(stream)
    assert answer.startswith(b"HTTP/1.1 501 ") and b"\r\nConnection: close\r\n" in answer, answer


PROTOCOLS = [
    (["mqtt"], "mqtt"),
    (["mqttv3.1", "mqtt"], "mqtt"),
    (["nothing", "else, MQTT"], "MQTT"),
    (["nothing", "AMQPWSB10", "mqtt"], "AMQPWSB10"),
    (["", "mqtt"], "mqtt"),
]


@pytest.mark.parametrize("lines, chosen", PROTOCOLS)
def test_sub_protocols_of_a_websocket_may_come_in_several_lines(hub, lines, chosen):
    answer = upgraded(hub, lines)
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert f"\r\nSec-WebSocket-Protocol: {chosen}\r\n".encode() in answer
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer


def test_a_websocket_without_a_protocol_that_is_served_is_refused(hub):
    assert upgraded(hub, ["mqttv3.1", "soap"]).startswith(b"HTTP/1.1 400 ")
    [entry, *_] = hub.why()
    assert entry["presented"] and "mqttv3.1, soap" in entry["presented"]


def upgraded(hub, lines: list[str]) -> bytes:
    stream = tls_stream(hub, "https")
    offered = "".join(f"Sec-WebSocket-Protocol: {line}\r\n" for line in lines)
    stream.sendall(
        f"GET /$iothub/websocket HTTP/1.1\r\nHost: {hub.hostname}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{offered}\r\n".encode()
    )
    return head_of(stream)

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

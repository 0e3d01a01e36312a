"""Sending over HTTPS, by plain requests: what the Node SDK and curl users put on the wire."""

import base64
import json

import pytest
import requests

from harness import sas
from harness.certificates import self_signed
from harness.events import body_of, properties_of, text
from harness.hub import Hub
from harness.rest import API_VERSION, Rest, device_path


@pytest.fixture
def device(hub, registry, name):
    return Sender(hub, name, registry.create(name).token())


class Sender:
    def __init__(self, hub: Hub, name: str, token: str):
        self.path = f"{device_path(name)}/messages/events"
        self.rest = Rest(hub, authorization=token)

    def send(self, data, headers: dict | None = None, path: str | None = None):
        return self.rest.call("POST", path or self.path, data=data, headers=headers)


def test_a_message_with_every_kind_of_header_arrives_with_its_properties(device, reader, name):
    headers = {
        "IoTHub-MessageId": "m-1",
        "iothub-correlationid": "c-1",
        "iothub-userid": "u-1",
        "iothub-contenttype": "application/json",
        "iothub-contentencoding": "utf-8",
        "iothub-to": f"/devices/{name}/messages/events",
        "iothub-app-colour": "red",
        "iothub-app-Mixed-Case": "kept",
        "iothub-app-empty": "",
        "iothub-app-odd": "!#$%&'*+-.^_`|~",
        "Content-Type": "text/plain",
    }
    answer = device.send(b'{"a":1}', headers)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["x-ms-request-id"]

    [event] = reader.from_device(name)
    assert body_of(event) == b'{"a":1}'
    assert properties_of(event) == {
        "colour": "red",
        "Mixed-Case": "kept",
        "empty": "",
        "odd": "!#$%&'*+-.^_`|~",
    }
    system = {text(key): text(value) for key, value in event.system_properties.items()}
    expected = {"message-id": "m-1", "correlation-id": "c-1", "user-id": "u-1"}
    expected |= {"content-type": "application/json", "content-encoding": "utf-8"}
    assert {key: system.get(key) for key in expected} == expected


def test_an_empty_body_arrives_empty(device, reader, name):
    assert device.send(b"").status == 204
    [event] = reader.from_device(name)
    assert body_of(event) == b""


def test_a_chunked_body_arrives_whole(device, reader, name):
    assert device.send(iter([b"one ", b"two ", b"three"])).status == 204
    [event] = reader.from_device(name)
    assert body_of(event) == b"one two three"


def test_a_chunked_body_over_the_limit_is_refused(device):
    answer = device.send(bytes(64 * 1024) for _ in range(5))
    assert (answer.status, answer.error) == (413, "MessageTooLarge")


def test_a_batch_becomes_one_event_per_message(device, reader, name):
    batch = [
        {"body": base64.b64encode(b"\x00\xff").decode(), "properties": {"iothub-app-n": "1"}},
        {"body": "plain ✓", "base64Encoded": False, "properties": {"iothub-messageid": "m-2", "dt-subject": "part"}},
        {"body": "", "base64Encoded": True},
    ]
    headers = {"Content-Type": "application/vnd.microsoft.iothub.json; charset=utf-8"}
    assert device.send(json.dumps(batch).encode(), headers).status == 204

    first, second, third = reader.from_device(name, 3)
    assert (body_of(first), body_of(second), body_of(third)) == (b"\x00\xff", "plain ✓".encode(), b"")
    assert properties_of(first) == {"n": "1"}
    assert second.message_id == "m-2"
    assert second.system_properties[b"dt-subject"] == b"part"
    assert len({event.system_properties[b"iothub-enqueuedtime"] for event in (first, second, third)}) == 1


@pytest.mark.parametrize(
    "batch",
    [b"[", b"{}", b'[{"body": "?"}]', b'[{"body": 1}]', b'[{"properties": {}}]', b'[{"body":"","properties":{"a":1}}]'],
    ids=["no JSON", "no array", "no base64", "body no text", "no body", "value no text"],
)
def test_a_malformed_batch_is_refused_as_a_whole(batch, device):
    answer = device.send(batch, {"Content-Type": "application/vnd.microsoft.iothub.json"})
    assert answer.status == 400
    assert answer.body["Message"].startswith("ErrorCode:")


@pytest.mark.parametrize(
    "path",
    [
        "/DEVICES/{name}/Messages/Events",
        "/devices/{name}/messages/events/",
        "/devices/{escaped}/messages/events",
    ],
)
def test_the_path_is_read_without_case_and_once_decoded(path, device, reader, name):
    escaped = "".join(f"%{ord(letter):02x}" for letter in name)
    assert device.send(b"x", path=path.format(name=name, escaped=escaped)).status == 204
    assert reader.from_device(name)


@pytest.mark.parametrize("device_id", ["plus+plus", "hash#mark"])
def test_ids_that_mqtt_topics_cannot_carry_send_over_https(device_id, hub, registry, reader):
    identity = registry.create(device_id)
    assert Sender(hub, device_id, identity.token()).send(b"x").status == 204
    assert reader.from_device(device_id)


def test_a_module_sends_under_its_own_name(hub, registry, reader, name):
    registry.create(name)
    module = registry.create_module(name, "m1")
    path = f"/devices/{name}/modules/m1/messages/events"
    assert Rest(hub, authorization=module.token()).call("POST", path, data=b"x").status == 204
    [event] = reader.from_device(name)
    assert event.system_properties[b"iothub-connection-module-id"] == b"m1"


def test_a_certificate_signs_in_without_a_header(hub, registry, reader, name, tmp_path):
    own = self_signed(tmp_path, name)
    registry.create(name, {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": own.sha1}})
    answer = requests.post(
        f"https://{hub.hostname}/devices/{name}/messages/events?api-version={API_VERSION}",
        data=b"by certificate",
        cert=(own.chain_file, own.key_file),
        verify=hub.ca_file,
        timeout=10,
    )
    assert answer.status_code == 204
    [event] = reader.from_device(name)
    assert body_of(event) == b"by certificate"


def test_the_token_of_one_device_does_not_open_another(hub, registry, name):
    registry.create(name)
    other = registry.create(f"{name}-other")
    answer = Sender(hub, name, other.token()).send(b"x")
    assert answer.status == 401


def test_a_device_that_does_not_exist_cannot_be_told_from_a_wrong_key(hub, registry, name):
    registry.create(name)
    wrong_key = sas.token(f"{hub.hostname}/devices/{name}", sas.new_key())
    unknown = sas.token(f"{hub.hostname}/devices/{name}-no", sas.new_key())
    answers = [Sender(hub, name, wrong_key).send(b"x"), Sender(hub, f"{name}-no", unknown).send(b"x")]
    assert [answer.status for answer in answers] == [401, 401]
    assert answers[0].error == answers[1].error
    messages = [answer.body["Message"].replace(f"{name}-no", name) for answer in answers]
    assert messages[0] == messages[1]


def test_a_policy_token_learns_that_a_device_does_not_exist(hub, name):
    token = sas.token(hub.hostname, hub.policy_key("device"), "device")
    answer = Sender(hub, name, token).send(b"x")
    assert (answer.status, answer.error) == (404, "DeviceNotFound")


def test_a_disabled_device_is_answered_with_401(hub, registry, name):
    identity = registry.create(name)
    registry.update(name, status="disabled")
    assert Sender(hub, name, identity.token()).send(b"x").status == 401


def test_no_credential_is_answered_with_401(hub, registry, name):
    registry.create(name)
    url = f"https://{hub.hostname}/devices/{name}/messages/events?api-version={API_VERSION}"
    assert requests.post(url, data=b"x", verify=hub.ca_file, timeout=10).status_code == 401


def test_unknown_paths_and_verbs_have_their_own_answers(hub, registry, name):
    token = registry.create(name).token()
    rest = Rest(hub, authorization=token)
    assert rest.call("POST", f"/devices/{name}/messages/elsewhere", data=b"x").status == 404
    assert rest.call("PUT", f"/devices/{name}/messages/events", data=b"x").status == 405

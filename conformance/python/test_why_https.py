"""`holdfast why` on HTTPS and WebSockets."""

import pytest
import requests

from harness.rest import Rest
from harness.sas import new_key
from harness.why import Refusals, the_refusal

UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def get(hub, path: str, headers: dict) -> int:
    return requests.get(f"https://{hub.hostname}{path}", headers=headers, verify=hub.ca_file, timeout=10).status_code


@pytest.mark.parametrize("query, shown", [("", "no api-version"), ("?api-version=v2", "v2")])
def test_an_api_version_that_is_missing_or_unknown(query, shown, hub):
    authorization = Rest(hub)._authorization
    with Refusals(hub) as refusals:
        assert get(hub, f"/devices{query}", {"Authorization": authorization}) == 400
        assert shown in refusals.of("api-version")["presented"]


def test_a_path_that_is_not_there(hub, registry, name):
    identity = registry.create(name)
    with Refusals(hub) as refusals:
        rest = Rest(hub, authorization=identity.token())
        assert rest.call("POST", f"/device/{name}/messages/events", data=b"x").status == 404
        assert f"POST /device/{name}/messages/events" in refusals.of("unknown-path")["presented"]


def test_a_message_over_the_limit(hub, registry, name):
    rest = Rest(hub, authorization=registry.create(name).token())
    assert rest.call("POST", f"/devices/{name}/messages/events", data=bytes(300_000)).status == 413
    entry = the_refusal(hub, name)
    assert entry["cause"] == "message-too-large"
    assert "300000" in entry["presented"]


@pytest.mark.parametrize("path", ["/mqtt", "/websocket", "/$iothub/websockets"])
def test_a_websocket_at_another_path(path, hub):
    with Refusals(hub) as refusals:
        assert get(hub, path, {**UPGRADE, "Sec-WebSocket-Protocol": "mqtt"}) == 404
        entry = refusals.of("websocket-path")
    assert entry["presented"] == path and "/$iothub/websocket" in entry["expected"]


@pytest.mark.parametrize("offered", [None, "mqttv3.1", "amqp"])
def test_a_websocket_of_another_protocol(offered, hub):
    headers = {**UPGRADE, **({"Sec-WebSocket-Protocol": offered} if offered else {})}
    with Refusals(hub) as refusals:
        assert get(hub, "/$iothub/websocket", headers) == 400
        entry = refusals.of("websocket-protocol")
    assert (offered or "no Sec-WebSocket-Protocol") in entry["presented"]


@pytest.mark.parametrize(
    "method, path, operation",
    [
        ("POST", "messages/events", "send telemetry"),
        ("GET", "messages/devicebound", "receive cloud-to-device messages"),
        ("DELETE", "messages/devicebound/00000000-0000-0000-0000-000000000000", "settle a cloud-to-device message"),
        ("POST", "files", "begin an upload"),
        ("POST", "files/notifications", "end an upload"),
    ],
)
def test_a_refused_request_is_recorded_as_what_it_was(method, path, operation, hub, registry, name):
    identity = registry.create(name)
    rest = Rest(hub, authorization=identity.token(key=new_key()))
    assert rest.call(method, f"/devices/{name}/{path}", data=b"{}").status == 401
    the_refusal(hub, name)
    [record] = hub.cli("audit", "list", "--device", name, "--kind", "refusal")
    assert record["act"] == {"kind": "operation", "name": operation}

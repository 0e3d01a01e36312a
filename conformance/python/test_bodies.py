"""Bodies of the service API: which members are read, in which case, and that no number becomes another."""

import base64
import json
import os

import pytest
import requests

from harness import sas
from harness.raw_mqtt import RawDevice
from harness.rest import Rest, device_path
from harness.wait import until


def twin_path(name: str) -> str:
    return f"/twins/{name}"


def reported(device: RawDevice, body: str):
    """The answer to a change of the reported properties."""
    device.send("$iothub/twin/PATCH/properties/reported/?$rid=1", body.encode())
    until(lambda: device.messages or device.closed.is_set(), 10, "an answer about the twin")
    return device.messages[-1]


def key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


def spelled(document, change):
    """The document with all its names changed."""
    if isinstance(document, dict):
        return {change(name): spelled(value, change) for name, value in document.items()}
    return [spelled(value, change) for value in document] if isinstance(document, list) else document


def content(registry, name: str):
    """What a twin holds."""
    twin = registry.rest.expect(200, "GET", twin_path(name))
    return twin["tags"], twin["properties"], twin["version"]


CASES = {"pascal": lambda name: name[0].upper() + name[1:], "upper": str.upper, "lower": str.lower}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_members_of_identities_are_read_in_any_case(case, registry, name):
    keys = {"primaryKey": key(), "secondaryKey": key()}
    authentication = {"type": "sas", "symmetricKey": keys}
    body = {"deviceId": name, "status": "disabled", "statusReason": "why", "authentication": authentication}
    made = registry.rest.expect(200, "PUT", device_path(name), spelled(body, case))
    assert made["authentication"]["symmetricKey"] == keys
    assert (made["status"], made["statusReason"]) == ("disabled", "why")
    body = {"deviceId": name, "moduleId": "m1", "managedBy": "x", "authentication": authentication}
    made = registry.rest.expect(200, "PUT", f"{device_path(name)}/modules/m1", spelled(body, case))
    assert (made["authentication"]["symmetricKey"], made["managedBy"]) == (keys, "x")
    edge = spelled({"deviceId": f"{name}-e", "capabilities": {"iotEdge": True}}, case)
    assert registry.rest.expect(200, "PUT", device_path(f"{name}-e"), edge)["capabilities"] == {"iotEdge": True}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_members_of_twins_and_bulk_requests_are_read_in_any_case(case, registry, name):
    entry = {"id": name, "importMode": "create", "status": "disabled"}
    registry.rest.expect(200, "POST", "/devices", spelled([entry], case))
    assert registry.rest.expect(200, "GET", device_path(name))["status"] == "disabled"
    # Names below `desired` and `tags` are the user's.
    body = {case("properties"): {case("desired"): {"Rate": 5, "rate": 6}}, case("tags"): {"Site": "n"}}
    twin = registry.rest.expect(200, "PATCH", twin_path(name), body)
    assert (twin["properties"]["desired"]["Rate"], twin["properties"]["desired"]["rate"]) == (5, 6)
    assert twin["tags"] == {"Site": "n"}
    rotate = spelled({"policyKey": "both", "devices": [{"id": name}]}, case)
    assert len(registry.rest.expect(200, "POST", "/devices/keys/regenerate", rotate)["rotatedKeys"]) == 1
    registry.rest.expect(200, "POST", "/devices", spelled([{"id": name, "importMode": "delete"}], case))
    assert registry.rest.call("GET", device_path(name)).status == 404


def test_a_member_that_nobody_reads_is_refused_by_its_name(hub, registry, name):
    device = {"deviceId": name}
    registry.create(f"{name}-there")
    twin, there = twin_path(f"{name}-there"), device_path(f"{name}-there")
    before = registry.rest.expect(200, "GET", twin)
    cases = [
        ("PUT", device_path(name), {**device, "state": "disabled"}, "state"),
        ("PUT", device_path(name), {**device, "authentication": {"symmetrickeys": {}}}, "authentication.symmetrickeys"),
        ("PUT", device_path(name), {**device, "authentication": {"symmetricKey": {"key": ""}}}, "authentication.symmetricKey.key"),
        ("PUT", device_path(name), {**device, "capabilities": {"edge": True}}, "capabilities.edge"),
        ("PUT", f"{there}/modules/m", {"moduleId": "m", "tags": {}}, "tags"),
        ("PATCH", twin, {"desiredProperties": {"rate": 5}}, "desiredProperties"),
        ("PUT", twin, {"desired": {"rate": 5}}, "desired"),
        ("PATCH", twin, {"tags": {"a": 1}, "properties": {"wanted": {}}}, "properties.wanted"),
        ("POST", "/devices", [{"id": name, "mode": "create"}], "mode"),
        ("POST", "/devices/keys/regenerate", {"policyKey": "both", "device": [{"id": name}]}, "device"),
        ("POST", f"{twin}/methods", {"methodName": "m", "payloads": 1}, "payloads"),
        ("POST", f"{there}/applyConfigurationContent", {"content": {}}, "content"),
    ]
    for method, path, body, member in cases:
        refused = registry.rest.call(method, path, body)
        assert (refused.status, refused.error) == (400, "ArgumentInvalid"), (method, path, body)
        assert refused.body["Message"].startswith(f"ErrorCode:ArgumentInvalid;`{member}` is no member"), refused.body
    assert registry.rest.call("GET", device_path(name)).status == 404
    assert registry.rest.expect(200, "GET", twin) == before


@pytest.mark.parametrize("twice", [b'"status":"enabled","Status":"disabled"', b'"status":"enabled","status":"disabled"'])
def test_a_member_that_comes_twice_is_refused(twice, registry, name):
    json_type = {"Content-Type": "application/json"}
    answer = registry.rest.call("PUT", device_path(name), data=b"{" + twice + b"}", headers=json_type)
    assert (answer.status, answer.error) == (400, "ArgumentInvalid")
    assert "`status` comes twice" in answer.body["Message"]


def test_members_of_the_wrong_type_are_refused(registry, name):
    registry.create(name)
    for method, path, body in [
        ("PUT", device_path(f"{name}-e"), {"capabilities": {"iotEdge": 1}}),
        ("PUT", device_path(f"{name}-e"), {"capabilities": True}),
        ("PATCH", twin_path(name), {"properties": 5}),
        ("POST", "/devices", [{"id": name, "importMode": 3}]),
        ("POST", "/devices", [{"id": name, "moduleId": 3}]),
        ("POST", "/devices", [{"id": name, "importMode": "updateIfMatchETag", "eTag": 3}]),
    ]:
        assert registry.rest.call(method, path, body).status == 400, body
    edge = registry.rest.expect(200, "PUT", device_path(f"{name}-e"), {"capabilities": {"iotEdge": "true"}})
    assert edge["capabilities"] == {"iotEdge": True}


def test_documents_that_were_read_are_taken_back_whole(registry, name):
    registry.create(name, capabilities={"iotEdge": True})
    registry.create_module(name, "m1")
    star = {"If-Match": "*"}
    for path, twin in [(device_path(name), twin_path(name)), (f"{device_path(name)}/modules/m1", f"{twin_path(name)}/modules/m1")]:
        registry.rest.expect(200, "PUT", path, registry.rest.expect(200, "GET", path), star)
        for method in ("PATCH", "PUT"):
            registry.rest.expect(200, method, twin, registry.rest.expect(200, "GET", twin), star)
    # The Node SDK makes an entry of a bulk request of a device that it read.
    device = registry.rest.expect(200, "GET", device_path(name))
    entry = {**device, "id": device.pop("deviceId"), "importMode": "UpdateIfMatchETag"}
    entry.pop("deviceId")
    registry.rest.expect(200, "POST", "/devices", [entry])


NUMBERS = ["18446744073709551616", "9223372036854775808", "-9223372036854775809", "4503599627370496", "1e400", "1e-400"]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_that_would_be_changed_is_refused_at_every_door(number, hub, registry, name):
    device = registry.create(name)
    before = content(registry, name)
    properties = f'{{"a":[{{"n":{number}}}]}}'
    json_type = {"Content-Type": "application/json"}
    for method, path, body, member in [
        ("PATCH", twin_path(name), f'{{"tags":{properties}}}', "tags.a"),
        ("PUT", twin_path(name), f'{{"tags":{properties}}}', "tags.a"),
        ("PATCH", twin_path(name), f'{{"properties":{{"desired":{properties}}}}}', "properties.desired.a"),
        ("PUT", twin_path(name), f'{{"properties":{{"desired":{properties}}}}}', "properties.desired.a"),
    ]:
        answer = registry.rest.call(method, path, data=body.encode(), headers=json_type)
        assert (answer.status, answer.error) == (400, "ArgumentInvalid"), (method, body)
        assert answer.body["Message"].startswith(f"ErrorCode:ArgumentInvalid;`{member}"), answer.body
        assert f" is {number}," in answer.body["Message"]
    bulk = f'[{{"id":"{name}","importMode":"updateTwin","tags":{properties}}}]'
    answer = registry.rest.call("POST", "/devices", data=bulk.encode(), headers=json_type)
    assert answer.status == 400 and f" is {number}," in json.dumps(answer.body)
    with RawDevice(hub, name, device.token()) as raw:
        raw.subscribe("$iothub/twin/res/#")
        said = reported(raw, properties)
    assert said.topic.startswith("$iothub/twin/res/400/")
    assert json.loads(said.payload)["errorCode"] == 400004
    assert json.loads(said.payload)["message"].startswith("`properties.reported.a")
    assert content(registry, name) == before


@pytest.mark.parametrize("part", [[None], [1, [None]], [{"b": None}]])
def test_null_in_an_array_is_refused_at_every_door(part, hub, registry, name):
    device = registry.create(name)
    before = content(registry, name)
    for method, body in [
        (method, body)
        for method in ("PATCH", "PUT")
        for body in ({"tags": {"a": part}}, {"properties": {"desired": {"x": {"a": part}}}})
    ]:
        answer = registry.rest.call(method, twin_path(name), body)
        assert (answer.status, answer.error) == (400, "ArgumentInvalid"), (method, body)
    bulk = registry.rest.call("POST", "/devices", [{"id": name, "importMode": "updateTwin", "tags": {"a": part}}])
    assert bulk.body["errors"][0]["errorCode"] == 400004
    with RawDevice(hub, name, device.token()) as raw:
        raw.subscribe("$iothub/twin/res/#")
        assert reported(raw, json.dumps({"a": part})).topic.startswith("$iothub/twin/res/400/")
    assert content(registry, name) == before


@pytest.mark.parametrize("version", ["2016-02-03", "2016-11-14", "2017-06-30", "2017-11-08-preview", "2018-06-30", "2031-01-01"])
def test_every_version_of_the_service_api_is_served(version, hub, registry, name):
    registry.create(name)
    token = sas.token(hub.hostname, hub.policy_key("iothubowner"), "iothubowner")
    for path in (device_path(name), twin_path(name), "/devices", "/statistics/devices"):
        url = f"https://{hub.hostname}{path}?api-version={version}"
        answer = requests.get(url, headers={"Authorization": token}, verify=hub.ca_file, timeout=10)
        assert answer.status_code == 200, (version, path, answer.text)


@pytest.mark.parametrize("dots", [".", ".."])
def test_an_id_that_no_path_carries_is_not_registered(dots, registry, name):
    answer = registry.rest.call("POST", "/devices", [{"id": dots, "importMode": "create"}])
    assert (answer.status, answer.body["errors"][0]["errorCode"]) == (400, 400004)
    registry.create(name)
    answer = registry.rest.call("POST", "/devices", [{"id": name, "moduleId": dots, "importMode": "create"}])
    assert (answer.status, answer.body["errors"][0]["errorCode"]) == (400, 400004)


def test_settings_are_read_in_any_case_and_by_their_names(hub):
    operator = Rest(hub, authorization=f"Bearer {(hub.data / 'management.credential').read_text().strip()}")
    path = "/holdfast/v1/settings"
    before = operator.expect(200, "GET", path)
    changed = spelled({**before, "uploadLinkLifetime": 120}, CASES["pascal"])
    assert operator.expect(200, "PUT", path, changed)["uploadLinkLifetime"] == 120
    refused = operator.call("PUT", path, {**before, "uploadLifetime": 120})
    assert refused.status == 400 and "`uploadLifetime` is no member" in refused.body["Message"]
    operator.expect(200, "PUT", path, before)

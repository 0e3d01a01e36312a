"""A device manages its own modules, as IoT Edge's identity service and the suite of azure-iot-sdk-c do."""

import pytest
import requests

from harness import devices, sas
from harness.certificates import self_signed
from harness.rest import API_VERSION, Identity, Rest, device_path


def own(hub, identity, **options) -> Rest:
    """The service API with the token of a device or module."""
    return Rest(hub, authorization=identity.token(**options))


def test_a_device_makes_reads_changes_and_deletes_its_modules(hub, registry, name):
    # The way of azure-iot-sdk-c: without a credential first, with keys then, by the device's connection string.
    device = own(hub, registry.create(name))
    path = f"{device_path(name)}/modules/m1"
    body = {"deviceId": name, "moduleId": "m1", "managedBy": "testManagedBy1", "status": "enabled", "authentication": {"type": "none"}}
    made = device.expect(200, "PUT", path, body)
    assert made["authentication"]["type"] == "none"
    assert device.call("PUT", path, body).error == "ModuleAlreadyExistsOnDevice"
    keys = {"type": "sas", "symmetricKey": {"primaryKey": "", "secondaryKey": ""}}
    assert device.call("PUT", path, {**body, "authentication": keys}, {"If-Match": '"old"'}).status == 412
    changed = device.expect(200, "PUT", path, {**body, "authentication": keys}, {"If-Match": "*"})
    assert changed["authentication"]["symmetricKey"]["primaryKey"]
    assert device.expect(200, "GET", path) == changed
    assert device.expect(200, "GET", f"{device_path(name)}/modules") == [changed]
    assert registry.rest.expect(200, "GET", path) == changed
    assert device.call("DELETE", path, headers={"If-Match": '"old"'}).status == 412
    device.expect(204, "DELETE", path, headers={"If-Match": f'"{changed["etag"]}"'})
    assert device.call("GET", path).error == "ModuleNotFound"
    changes = hub.cli("audit", "list", "--kind", "change", "--limit", "20")
    of_module = [change for change in changes if change["act"].get("target") == f"{name}/m1"]
    assert [change["actor"] for change in of_module] == [f"device {name}"] * 3


def test_a_device_manages_no_other_modules_and_nothing_else(hub, registry, name):
    device = registry.create(name)
    registry.create(f"{name}-other")
    module = registry.create_module(name, "m1")
    registry.create_module(f"{name}-other", "m1")
    for caller, method, path in [
        (device, "GET", f"{device_path(name)}-other/modules"),
        (device, "GET", f"{device_path(name)}-other/modules/m1"),
        (device, "PUT", f"{device_path(name)}-other/modules/m2"),
        (device, "DELETE", f"{device_path(name)}-other/modules/m1"),
        (device, "GET", f"{device_path(name)}-unknown/modules"),
        (device, "GET", device_path(name)),
        (device, "PUT", device_path(name)),
        (device, "DELETE", device_path(name)),
        (device, "GET", "/devices"),
        (device, "GET", f"/twins/{name}/modules/m1"),
        (module, "GET", f"{device_path(name)}/modules"),
        (module, "GET", f"{device_path(name)}/modules/m1"),
        (module, "PUT", f"{device_path(name)}/modules/m2"),
    ]:
        refused = own(hub, caller).call(method, path, {} if method == "PUT" else None)
        assert (refused.status, refused.error) == (401, "IotHubUnauthorizedAccess"), (caller.module, method, path)
    wrong = own(hub, device, key=module.key).call("GET", f"{device_path(name)}/modules")
    assert wrong.status == 401
    registry.update(name, status="disabled")
    assert own(hub, device).call("GET", f"{device_path(name)}/modules").status == 401


def test_a_device_manages_its_modules_by_its_certificate(hub, registry, name, tmp_path):
    credential = self_signed(tmp_path, name)
    registry.create(name, {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": credential.sha1}})
    url = f"https://{hub.hostname}{device_path(name)}/modules"
    ask = lambda method, path, **more: requests.request(
        method,
        f"{url}{path}?api-version={API_VERSION}",
        cert=(credential.chain_file, credential.key_file),
        verify=hub.ca_file,
        timeout=15,
        **more,
    )
    assert ask("PUT", "/m1", json={"deviceId": name, "moduleId": "m1"}).status_code == 200
    assert [module["moduleId"] for module in ask("GET", "").json()] == ["m1"]


@pytest.mark.parametrize("websockets", [False, True], ids=["mqtt", "mqtt-ws"])
def test_a_module_connects_with_the_key_of_its_device(hub, registry, reader, name, websockets):
    device, module = registry.create(name), registry.create_module(name, "m1")
    by_device = Identity(hub, {**module.record, "authentication": device.record["authentication"]})
    assert by_device.key == device.key != module.key
    with devices.connected(devices.by_key(hub, by_device, websockets)) as client:
        client.send_message("from the module")
        registry.rest.expect(200, "PATCH", f"/twins/{name}/modules/m1", {"properties": {"desired": {"a": 1}}})
        assert client.get_twin()["desired"]["a"] == 1


def test_a_module_without_keys_does_not_connect_with_that_of_its_device(hub, registry, name):
    device = registry.create(name)
    path = f"{device_path(name)}/modules/m1"
    registry.rest.expect(200, "PUT", path, {"moduleId": "m1", "authentication": {"type": "none"}})
    token = sas.token(f"{device.resource}/modules/m1", device.key)
    send = lambda token: Rest(hub, authorization=token).call("POST", f"{path}/messages/events", data=b"x").status
    assert send(token) == 401
    keys = {"type": "sas", "symmetricKey": {"primaryKey": "", "secondaryKey": ""}}
    registry.rest.expect(200, "PUT", path, {"authentication": keys}, {"If-Match": "*"})
    assert send(token) == 204
    # A token for another module does not open this one, and a new key of the device takes the old one's place.
    assert send(sas.token(f"{device.resource}/modules/m2", device.key)) == 401
    body = {"policyKey": "both", "devices": [{"id": name}]}
    registry.rest.expect(200, "POST", "/devices/keys/regenerate", body)
    assert send(token) == 401

"""The identity registry through the unmodified azure-iot-hub."""

import base64

import pytest
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import ExportImportDevice

from harness import sas
from harness.raw_mqtt import RawDevice
from harness.refusal import refusal
from harness.wait import until

THUMBPRINT = "A" * 40
OTHER_THUMBPRINT = "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def manager(hub):
    return IoTHubRegistryManager.from_connection_string(hub.service_connection_string)


def test_a_device_is_created_with_the_given_keys(manager, name):
    primary, secondary = sas.new_key(), sas.new_key()
    device = manager.create_device_with_sas(name, primary, secondary, "enabled")
    assert device.device_id == name
    assert device.authentication.type == "sas"
    assert device.authentication.symmetric_key.primary_key == primary
    assert device.authentication.symmetric_key.secondary_key == secondary
    assert (device.status, device.connection_state) == ("enabled", "Disconnected")
    assert device.etag and device.generation_id


def test_empty_keys_are_generated(manager, name):
    device = manager.create_device_with_sas(name, "", "", "enabled")
    keys = device.authentication.symmetric_key
    assert len(base64.b64decode(keys.primary_key)) == len(base64.b64decode(keys.secondary_key)) == 32
    assert keys.primary_key != keys.secondary_key


def test_a_device_is_created_with_thumbprints(manager, name):
    device = manager.create_device_with_x509(name, THUMBPRINT, OTHER_THUMBPRINT, "enabled")
    assert device.authentication.type == "selfSigned"
    read = manager.get_device(name).authentication.x509_thumbprint
    assert read.primary_thumbprint.upper() == THUMBPRINT
    assert read.secondary_thumbprint.upper() == OTHER_THUMBPRINT.upper()


def test_a_device_is_created_for_certificates_of_an_authority(manager, name):
    manager.create_device_with_certificate_authority(name, "enabled")
    device = manager.get_device(name)
    assert device.authentication.type == "certificateAuthority"
    assert device.authentication.symmetric_key.primary_key is None


def test_an_edge_device_gets_a_scope_and_its_system_modules(manager, name):
    device = manager.create_device_with_sas(name, "", "", "enabled", iot_edge=True)
    assert device.capabilities.iot_edge is True
    assert device.device_scope.startswith(f"ms-azure-iot-edge://{name}-")
    assert sorted(module.module_id for module in manager.get_modules(name)) == ["$edgeAgent", "$edgeHub"]
    leaf = manager.create_device_with_sas(f"{name}-leaf", "", "", "enabled", device_scope=device.device_scope)
    assert leaf.parent_scopes == [device.device_scope]


def test_what_was_created_is_read_back(manager, name):
    created = manager.create_device_with_sas(name, "", "", "disabled", status_reason="spare part ✓")
    read = manager.get_device(name)
    assert read.as_dict() == created.as_dict()
    assert (read.status, read.status_reason) == ("disabled", "spare part ✓")


def test_an_id_that_is_taken_is_refused(manager, name):
    manager.create_device_with_sas(name, "", "", "enabled")
    with refusal(409, "DeviceAlreadyExists"):
        manager.create_device_with_sas(name, "", "", "enabled")


@pytest.mark.parametrize("bad", ["a b", "a/b", "x" * 129, "a\\b", "a<b", "ä", "a&b"])
def test_an_id_against_the_rules_is_refused(bad, manager):
    with refusal(400, "ArgumentInvalid"):
        manager.create_device_with_sas(bad, "", "", "enabled")


@pytest.mark.parametrize("device", ["-._:%*?!(),=@$';", "plus+#", "50%25", "Z" * 128])
def test_an_id_of_odd_but_legal_characters_is_created_read_and_deleted(device, manager):
    manager.create_device_with_sas(device, "", "", "enabled")
    assert manager.get_device(device).device_id == device
    manager.delete_device(device)
    with refusal(404, "DeviceNotFound"):
        manager.get_device(device)


@pytest.mark.parametrize(
    "primary, secondary",
    [("not base64!", "not base64!"), ("c2hvcnQ=", "c2hvcnQ="), (base64.b64encode(bytes(65)).decode(),) * 2],
    ids=["no base64", "5 bytes", "65 bytes"],
)
def test_bad_keys_are_refused(primary, secondary, manager, name):
    with refusal(400, "ArgumentInvalid"):
        manager.create_device_with_sas(name, primary, secondary, "enabled")


def test_a_bad_thumbprint_is_refused(manager, name):
    with refusal(400, "ArgumentInvalid"):
        manager.create_device_with_x509(name, "not hex", None, "enabled")


def test_an_update_with_the_current_etag_changes_the_device(manager, name):
    device = manager.create_device_with_sas(name, "", "", "enabled")
    primary, secondary = sas.new_key(), sas.new_key()
    updated = manager.update_device_with_sas(name, device.etag, primary, secondary, "disabled", status_reason="why")
    assert updated.authentication.symmetric_key.primary_key == primary
    assert (updated.status, updated.status_reason) == ("disabled", "why")
    assert updated.etag != device.etag
    assert updated.generation_id == device.generation_id
    assert manager.get_device(name).as_dict() == updated.as_dict()


def test_an_update_changes_the_kind_of_credential(manager, name):
    device = manager.create_device_with_sas(name, "", "", "enabled")
    updated = manager.update_device_with_x509(name, device.etag, THUMBPRINT, OTHER_THUMBPRINT, "enabled")
    assert updated.authentication.type == "selfSigned"
    updated = manager.update_device_with_certificate_authority(name, updated.etag, "enabled")
    assert updated.authentication.type == "certificateAuthority"


def test_an_update_with_a_stale_etag_is_refused(manager, name):
    device = manager.create_device_with_sas(name, "", "", "enabled")
    keys = device.authentication.symmetric_key
    manager.update_device_with_sas(name, device.etag, keys.primary_key, keys.secondary_key, "disabled")
    with refusal(412, "PreconditionFailed"):
        manager.update_device_with_sas(name, device.etag, keys.primary_key, keys.secondary_key, "enabled")
    assert manager.get_device(name).status == "disabled"


def test_an_update_of_what_does_not_exist_is_refused(manager, name):
    with refusal(404, "DeviceNotFound"):
        manager.update_device_with_sas(name, "*", sas.new_key(), sas.new_key(), "enabled")


def test_a_delete_honours_the_etag(manager, name):
    device = manager.create_device_with_sas(name, "", "", "enabled")
    with refusal(412, "PreconditionFailed"):
        manager.delete_device(name, etag="c3RhbGU=")
    manager.delete_device(name, etag=device.etag)
    with refusal(404, "DeviceNotFound"):
        manager.get_device(name)
    with refusal(404, "DeviceNotFound"):
        manager.delete_device(name)


def test_a_device_made_again_has_another_generation(manager, name):
    first = manager.create_device_with_sas(name, "", "", "enabled")
    manager.delete_device(name)
    second = manager.create_device_with_sas(name, "", "", "enabled")
    assert first.generation_id != second.generation_id


def test_modules_are_created_read_updated_and_deleted(manager, name):
    manager.create_device_with_sas(name, "", "", "enabled")
    primary, secondary = sas.new_key(), sas.new_key()
    made = manager.create_module_with_sas(name, "m1", "me", primary, secondary)
    assert (made.device_id, made.module_id, made.managed_by) == (name, "m1", "me")
    manager.create_module_with_x509(name, "m2", None, THUMBPRINT, OTHER_THUMBPRINT)
    manager.create_module_with_certificate_authority(name, "m3", None)
    kinds = {module.module_id: module.authentication.type for module in manager.get_modules(name)}
    assert kinds == {"m1": "sas", "m2": "selfSigned", "m3": "certificateAuthority"}

    updated = manager.update_module_with_sas(name, "m1", "you", made.etag, secondary, primary)
    assert (updated.managed_by, updated.authentication.symmetric_key.primary_key) == ("you", secondary)
    with refusal(412, "PreconditionFailed"):
        manager.update_module_with_sas(name, "m1", "them", made.etag, primary, secondary)

    manager.delete_module(name, "m1", updated.etag)
    with refusal(404, "ModuleNotFound"):
        manager.get_module(name, "m1")
    assert len(manager.get_modules(name)) == 2


def test_modules_have_their_own_errors(manager, name):
    with refusal(404, "DeviceNotFound"):
        manager.create_module_with_sas(name, "m1", None, "", "")
    manager.create_device_with_sas(name, "", "", "enabled")
    assert manager.get_modules(name) == []
    manager.create_module_with_sas(name, "m1", None, "", "")
    with refusal(409, "ModuleAlreadyExistsOnDevice"):
        manager.create_module_with_sas(name, "m1", None, "", "")
    with refusal(401, "SystemModuleModifyUnauthorizedAccess"):
        manager.create_module_with_sas(name, "$edgeAgent", None, "", "")


def test_the_modules_go_with_their_device(manager, name):
    manager.create_device_with_sas(name, "", "", "enabled")
    manager.create_module_with_sas(name, "m1", None, "", "")
    manager.delete_device(name)
    manager.create_device_with_sas(name, "", "", "enabled")
    assert manager.get_modules(name) == []


def test_devices_are_listed_by_id_up_to_the_number_asked_for(manager, name):
    names = [f"0-{name}-{number}" for number in range(3)]
    for device in reversed(names):
        manager.create_device_with_sas(device, "", "", "enabled")
    manager.create_module_with_sas(names[0], "m1", None, "", "")
    listed = [device.device_id for device in manager.get_devices(1000)]
    assert [device for device in listed if device in names] == names
    assert listed == sorted(listed)
    assert len(manager.get_devices(2)) == 2


def test_the_statistics_count_what_is_there(manager, name):
    before = manager.get_device_registry_statistics()
    manager.create_device_with_sas(f"{name}-1", "", "", "enabled")
    manager.create_device_with_sas(f"{name}-2", "", "", "disabled")
    after = manager.get_device_registry_statistics()
    counts = [
        getattr(after, field) - getattr(before, field)
        for field in ("total_device_count", "enabled_device_count", "disabled_device_count")
    ]
    assert counts == [2, 1, 1]
    assert manager.get_service_statistics().connected_device_count >= 0


def test_devices_are_created_changed_and_deleted_in_bulk(manager, name):
    names = [f"{name}-{number}" for number in range(5)]

    def bulk(mode, **fields):
        return manager.bulk_create_or_update_devices(
            [ExportImportDevice(id=device, import_mode=mode, **fields) for device in names]
        )

    assert bulk("create", status="enabled").is_successful
    assert {manager.get_device(device).status for device in names} == {"enabled"}
    assert bulk("update", status="disabled").is_successful
    assert {manager.get_device(device).status for device in names} == {"disabled"}
    assert bulk("delete").is_successful
    for device in names:
        with refusal(404, "DeviceNotFound"):
            manager.get_device(device)


def test_bulk_reports_each_failure_and_keeps_the_rest(manager, name):
    manager.create_device_with_sas(f"{name}-there", "", "", "enabled")
    result = manager.bulk_create_or_update_devices(
        [
            ExportImportDevice(id=f"{name}-there", import_mode="create"),
            ExportImportDevice(id=f"{name}-new", import_mode="create"),
            ExportImportDevice(id=f"{name}-none", import_mode="delete"),
        ]
    )
    assert result.is_successful is False
    errors = {error.device_id: str(error.error_code) for error in result.errors}
    assert errors == {f"{name}-there": "409001", f"{name}-none": "404001"}
    assert manager.get_device(f"{name}-new").status == "enabled"


def test_bulk_if_match_compares_the_etag(manager, name):
    device = manager.create_device_with_sas(name, "", "", "enabled")
    stale = ExportImportDevice(id=name, e_tag="c3RhbGU=", import_mode="updateIfMatchETag", status="disabled")
    result = manager.bulk_create_or_update_devices([stale])
    assert [str(error.error_code) for error in result.errors] == ["412001"]
    fresh = ExportImportDevice(id=name, e_tag=device.etag, import_mode="deleteIfMatchETag")
    assert manager.bulk_create_or_update_devices([fresh]).is_successful


def test_bulk_refuses_an_id_that_comes_twice_and_more_than_100_entries(hub, registry, name):
    twice = [{"id": name, "importMode": "create"}] * 2
    answer = registry.rest.call("POST", "/devices", twice)
    assert (answer.status, answer.error) == (400, "DeviceDefinedMultipleTimes")
    many = [{"id": f"{name}-{number}", "importMode": "create"} for number in range(101)]
    answer = registry.rest.call("POST", "/devices", many)
    assert (answer.status, answer.error) == (413, "TooManyDevices")
    assert registry.rest.call("GET", f"/devices/{name}-0").status == 404


@pytest.mark.parametrize("spelling", ['"*"', "*", '"{etag}"', "{etag}", 'W/"{etag}"'])
def test_every_spelling_of_an_etag_in_use_is_understood(spelling, registry, name):
    record = registry.create(name).record
    header = {"If-Match": spelling.format(etag=record["etag"])}
    registry.rest.expect(200, "PUT", f"/devices/{name}", {**record, "status": "disabled"}, header)


def test_answers_carry_the_headers_that_clients_read(registry, name):
    etag = registry.create(name).record["etag"]
    answer = registry.rest.call("GET", f"/devices/{name}")
    assert answer.headers["Content-Type"].replace(" ", "").lower() == "application/json;charset=utf-8"
    assert answer.headers["ETag"] == f'"{etag}"'
    assert answer.headers["x-ms-request-id"]


@pytest.mark.parametrize("version", ["", "?api-version=", "?api-version=soon", "?api-version=2016-11-14-x"])
def test_a_missing_version_or_one_that_is_no_date_is_refused(version, hub, registry):
    import requests

    answer = requests.get(
        f"https://{hub.hostname}/devices{version}",
        headers={"Authorization": sas.token(hub.hostname, hub.policy_key("iothubowner"), "iothubowner")},
        verify=hub.ca_file,
        timeout=10,
    )
    assert (answer.status_code, answer.headers["iothub-errorcode"]) == (400, "InvalidProtocolVersion")


@pytest.mark.parametrize("path", ["/devices/", "/DEVICES"])
def test_the_list_answers_with_and_without_the_last_slash_and_in_any_case(path, registry):
    assert isinstance(registry.rest.expect(200, "GET", f"{path}?top=1"), list)


def test_an_escaped_slash_in_an_id_is_a_bad_id_and_no_other_route(registry):
    answer = registry.rest.call("GET", "/devices/a%2Fb")
    assert (answer.status, answer.error) == (400, "ArgumentInvalid")


def test_keys_are_rotated_in_bulk(registry, name):
    before = registry.create(name).record["authentication"]["symmetricKey"]
    registry.rest.expect(200, "POST", "/devices/keys/regenerate", {"policyKey": "primaryKey", "devices": [{"id": name}]})
    after = registry.rest.expect(200, "GET", f"/devices/{name}")["authentication"]["symmetricKey"]
    assert after["primaryKey"] != before["primaryKey"]
    assert after["secondaryKey"] == before["secondaryKey"]


def test_the_registry_survives_a_restart(hub, manager, name):
    device = manager.create_device_with_sas(name, "", "", "disabled", status_reason="kept")
    hub.restart()
    import os

    os.environ["REQUESTS_CA_BUNDLE"] = hub.ca_file
    again = IoTHubRegistryManager.from_connection_string(hub.service_connection_string)
    assert again.get_device(name).as_dict() == device.as_dict()


def test_the_last_activity_is_that_of_the_device(hub, registry, name):
    identity = registry.create(name)
    never = "0001-01-01T00:00:00Z"
    seen = lambda: registry.rest.expect(200, "GET", f"/devices/{name}")  # noqa: E731
    assert (seen()["lastActivityTime"], seen()["connectionStateUpdatedTime"]) == (never, never)
    with RawDevice(hub, name, identity.token()) as device:
        assert device.connack == 0
        hub.posture()  # writes down what was seen
        first = seen()
        assert first["connectionState"] == "Connected" and first["lastActivityTime"] > "2020"
    until(lambda: seen()["connectionState"] == "Disconnected", 5)
    hub.posture()
    assert seen()["connectionStateUpdatedTime"] > first["connectionStateUpdatedTime"]
    registry.delete(name)
    registry.create(name)
    assert seen()["lastActivityTime"] == never

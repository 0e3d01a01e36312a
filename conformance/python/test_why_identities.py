"""`holdfast why` on names: which device, module or host a client meant."""

from harness import devices, sas
from harness.raw_mqtt import RawDevice
from harness.rest import Identity, Rest
from harness.wait import until
from harness.why import Refusals, refused, the_refusal


def named(hub, device: str) -> Identity:
    keys = {"symmetricKey": {"primaryKey": sas.new_key()}}
    return Identity(hub, {"deviceId": device, "authentication": keys})


def test_an_unknown_device_with_one_of_nearly_its_name(hub, registry, name):
    registry.create(name)
    almost = name[:-1] + ("0" if name[-1] != "0" else "1")
    refused(devices.by_key(hub, named(hub, almost)))
    entry = the_refusal(hub, almost)
    assert entry["cause"] == "unknown-device"
    assert name in entry["expected"]


def test_an_unknown_device_that_differs_in_case_only(hub, registry, name):
    registry.create(name)
    refused(devices.by_key(hub, named(hub, name.upper())))
    assert name in the_refusal(hub, name.upper())["expected"]


def test_a_device_that_was_deleted_and_one_that_never_was(hub, registry, name):
    identity = registry.create(name)
    registry.delete(name)
    refused(devices.by_key(hub, identity))
    entry = the_refusal(hub, name)
    assert entry["cause"] == "deleted-device"
    assert "policy iothubowner" in entry["explanation"]
    refused(devices.by_key(hub, named(hub, f"{name}-never")))
    assert the_refusal(hub, f"{name}-never")["cause"] == "unknown-device"


def test_an_unknown_module(hub, registry, name):
    registry.create(name)
    registry.create_module(name, "thermostat")
    missing = Identity(hub, {"deviceId": name, "moduleId": "thermostad"})
    with RawDevice(hub, f"{name}/thermostad", sas.token(missing.resource, sas.new_key())) as device:
        assert device.connack == 5
    [entry] = [entry for entry in hub.why(name) if entry["cause"] == "unknown-module"]
    assert "thermostat" in entry["expected"]


def test_a_disabled_device_is_enabled_by_the_command_that_is_named(hub, registry, name):
    identity = registry.create(name, status="disabled", statusReason="returned to the maker")
    refused(devices.by_key(hub, identity))
    entry = the_refusal(hub, name)
    assert entry["cause"] == "disabled"
    assert "returned to the maker" in entry["explanation"]
    hub.cli(*entry["fix"].split()[1:])
    with devices.connected(devices.by_key(hub, identity)):
        pass


def test_a_user_name_for_another_host(hub, registry, name):
    identity = registry.create(name)
    user_name = f"plant.azure-devices.net/{name}/?api-version=2021-04-12"
    with RawDevice(hub, name, identity.token(), user_name) as device:
        assert device.connack == 5
    entry = the_refusal(hub, name)
    assert entry["cause"] == "unknown-host"
    assert entry["presented"] == "plant.azure-devices.net"


def test_a_client_id_that_is_not_the_user_names(hub, registry, name):
    identity = registry.create(name)
    user_name = f"{hub.hostname}/{name}/?api-version=2021-04-12"
    with RawDevice(hub, f"{name}-x", identity.token(), user_name) as device:
        assert device.connack == 5
    [entry] = until(lambda: [entry for entry in hub.why(name) if entry["cause"] == "client-id"], 3)
    assert f"{name}-x" in entry["presented"]


def test_a_user_name_of_another_form(hub, registry, name):
    identity = registry.create(name)
    with RawDevice(hub, name, identity.token(), name) as device:
        assert device.connack == 5
    entry = the_refusal(hub, name)
    assert entry["cause"] == "user-name"
    assert "api-version" in entry["expected"]


def test_an_illegal_id_over_https(hub):
    with Refusals(hub) as refusals:
        assert Rest(hub).call("POST", "/devices/pump%201/messages/events", data=b"x").status == 400
        refusals.of("illegal-id")


def test_an_admitted_device_has_nothing_to_explain(hub, registry, name):
    with RawDevice(hub, name, registry.create(name).token()) as device:
        assert device.connack == 0
    assert hub.why(name) == []


def test_the_newest_refusal_comes_first(hub, registry, name):
    identity = registry.create(name)
    with RawDevice(hub, name, identity.token(key=sas.new_key())) as device:
        assert device.connack == 5
    with RawDevice(hub, name, identity.token(seconds=-7200)) as device:
        assert device.connack == 5
    until(lambda: [entry["cause"] for entry in hub.why(name)] == ["token-expired", "wrong-key"], 3)

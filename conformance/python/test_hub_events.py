"""Events that the hub makes itself, as azure-eventhub reads them beside the messages of devices."""

import json

import pytest
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import Twin, TwinProperties

from harness import devices
from harness.events import Reader, body_of, device_of, properties_of, text
from harness.hub import Hub
from harness.raw_mqtt import RawDevice
from harness.rest import Registry


HUB_EVENTS = "all"


@pytest.fixture(scope="module")
def manager(hub):
    return IoTHubRegistryManager.from_connection_string(hub.service_connection_string)


def source_of(event) -> str:
    return annotation(event, "iothub-message-source")


def annotation(event, name: str) -> str | None:
    value = event.system_properties.get(name.encode())
    return None if value is None else text(value)


def operation_of(event) -> str:
    return properties_of(event)["opType"]


def body(event) -> dict:
    return json.loads(body_of(event))


def test_the_stream_tells_the_life_of_a_device_in_the_order_in_which_it_was_lived(hub, registry, manager, reader, name):
    identity = registry.create(name)
    with devices.connected(devices.by_key(hub, identity)) as client:
        client.patch_twin_reported_properties({"level": 3, "deep": {"a": 1}})
        twin = Twin(tags={"site": "east"}, properties=TwinProperties(desired={"rate": 6}))
        manager.update_twin(name, twin, None)
        client.send_message("hello")
    reader.first(lambda e: device_of(e) == name and operation_is(e, "deviceDisconnected"))
    manager.delete_device(name)

    told = reader.from_device(name, 7)
    assert [(source_of(event), properties_of(event).get("opType")) for event in told] == [
        ("deviceLifecycleEvents", "createDeviceIdentity"),
        ("deviceConnectionStateEvents", "deviceConnected"),
        ("twinChangeEvents", "updateTwin"),
        ("twinChangeEvents", "updateTwin"),
        ("Telemetry", None),
        ("deviceConnectionStateEvents", "deviceDisconnected"),
        ("deviceLifecycleEvents", "deleteDeviceIdentity"),
    ]
    made, connected, reported, updated, message, gone, removed = told
    for event in (made, connected, reported, updated, gone, removed):
        assert (event.content_type, event.raw_amqp_message.properties.content_encoding) in (
            ("application/json", "utf-8"),
            ("application/json", b"utf-8"),
        )
        assert properties_of(event)["deviceId"] == name
        assert properties_of(event)["operationTimestamp"].endswith("Z")
        assert annotation(event, "iothub-connection-auth-method") is None
        assert event.correlation_id
    assert annotation(message, "iothub-connection-auth-method"), "devices keep their stamps"

    assert body(made)["deviceId"] == body(removed)["deviceId"] == name
    assert body(made)["properties"]["desired"]["$version"] == 1
    assert body(removed)["properties"]["desired"]["rate"] == 6, "the twin as it was"
    assert body(removed)["tags"] == {"site": "east"}

    assert body(reported)["version"] == 3
    assert set(body(reported)["properties"]) == {"reported"}
    section = body(reported)["properties"]["reported"]
    assert (section["level"], section["deep"], section["$version"]) == (3, {"a": 1}, 2)
    assert set(section["$metadata"]) == {"$lastUpdated", "level", "deep"}

    assert body(updated)["tags"] == {"site": "east"}
    section = body(updated)["properties"]["desired"]
    assert (section["rate"], section["$version"]) == (6, 2)
    assert section["$metadata"]["rate"]["$lastUpdatedVersion"] == 2

    numbers = [body(event)["sequenceNumber"] for event in (connected, gone)]
    assert all(len(number) == 64 for number in numbers) and numbers[0] < numbers[1]


def operation_is(event, operation: str) -> bool:
    return properties_of(event).get("opType") == operation


def test_a_change_names_what_changed_and_null_for_what_was_removed(hub, registry, manager, reader, name):
    registry.create(name)
    manager.update_twin(name, Twin(properties=TwinProperties(desired={"a": {"b": 1, "c": 2}, "d": 3})), None)
    manager.update_twin(name, Twin(properties=TwinProperties(desired={"a": {"b": None}})), None)
    _, _, event = reader.from_device(name, 3)
    section = body(event)["properties"]["desired"]
    assert section["a"] == {"b": None}
    assert "d" not in section and "d" not in section["$metadata"]
    assert set(section["$metadata"]["a"]) == {"$lastUpdated", "$lastUpdatedVersion"}, "what is gone has none"


def test_a_replaced_twin_is_told_as_a_whole(hub, registry, manager, reader, name):
    registry.create(name)
    etag = manager.get_twin(name).etag
    manager.replace_twin(name, Twin(tags={"t": 1}, properties=TwinProperties(desired={"x": 1})), etag)
    event = reader.from_device(name, 2)[1]
    assert operation_of(event) == "replaceTwin"
    assert (body(event)["deviceId"], body(event)["tags"]) == (name, {"t": 1})
    assert set(body(event)["properties"]) == {"desired", "reported"}


def test_modules_are_named_in_their_events(hub, registry, manager, reader, name):
    registry.create(name)
    module = registry.create_module(name, "m1")
    with devices.connected(devices.by_key(hub, module)):
        pass
    _, made, connected, gone = reader.from_device(name, 4)
    assert operation_of(made) == "createDeviceIdentity"
    for event in (made, connected, gone):
        assert properties_of(event)["moduleId"] == "m1"
        assert annotation(event, "iothub-connection-module-id") == "m1"


def test_a_connection_that_is_taken_over_tells_no_end(hub, registry, manager, reader, name):
    identity = registry.create(name)
    with RawDevice(hub, name, identity.token()), devices.connected(devices.by_key(hub, identity)) as second:
        second.send_message("after")
    operations = [properties_of(event).get("opType") for event in reader.from_device(name, 5)]
    assert operations == [
        "createDeviceIdentity",
        "deviceConnected",
        "deviceConnected",
        None,
        "deviceDisconnected",
    ]


def test_a_hub_for_development_keeps_its_own_events_to_itself(name):
    hub = Hub().start()
    reader = Reader(hub)
    try:
        registry = Registry(hub)
        with devices.connected(devices.by_key(hub, registry.create(name))) as client:
            client.patch_twin_reported_properties({"on": True})
            client.send_message("first")
        [first] = reader.from_device(name, 1)
        assert (source_of(first), body_of(first)) == ("Telemetry", b"first")
    finally:
        reader.close()
        hub.stop()


def test_sources_are_chosen_by_name(name):
    hub = Hub(hub_events="TwinChangeEvents").start()
    reader = Reader(hub)
    try:
        with devices.connected(devices.by_key(hub, Registry(hub).create(name))) as client:
            client.patch_twin_reported_properties({"on": True})
            client.send_message("end")
        told = reader.from_device(name, 2)
        assert [source_of(event) for event in told] == ["twinChangeEvents", "Telemetry"]
    finally:
        reader.close()
        hub.stop()

"""Twins: the unmodified azure-iot-device on one side, the unmodified azure-iot-hub on the other."""

import json
import queue
import threading

import pytest
from azure.iot.device.exceptions import ClientError, ServiceError
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import Twin, TwinProperties

from harness import devices
from harness.audit import sql
from harness.hub import Hub
from harness.raw_mqtt import RawDevice, connect_packet, tls_stream
from harness.refusal import refusal
from harness.rest import Registry, device_path
from harness.wait import until

TRANSPORTS = {"mqtt": False, "mqtt-ws": True}


@pytest.fixture(scope="module")
def manager(hub):
    return IoTHubRegistryManager.from_connection_string(hub.service_connection_string)


@pytest.fixture(params=["device", "module"])
def owner(request, hub, registry, manager, name):
    """A device or a module, with what both sides do to its twin."""
    identity = registry.create(name)
    if request.param == "device":
        return Owner(hub, identity, manager, (name,))
    return Owner(hub, registry.create_module(name, "m1"), manager, (name, "m1"))


class Owner:
    def __init__(self, hub, identity, manager, ids):
        self._hub, self.identity, self._ids = hub, identity, ids
        kind = "module_twin" if len(ids) == 2 else "twin"
        self._get = getattr(manager, f"get_{kind}")
        self._update = getattr(manager, f"update_{kind}")
        self._replace = getattr(manager, f"replace_{kind}")

    def client(self, websockets=False):
        return devices.connected(devices.by_key(self._hub, self.identity, websockets))

    def get(self):
        return self._get(*self._ids)

    def update(self, twin, etag=None):
        return self._update(*self._ids, twin, etag)

    def replace(self, twin, etag=None):
        return self._replace(*self._ids, twin, etag)


def desired(**properties) -> Twin:
    return Twin(properties=TwinProperties(desired=properties))


def without_system(section: dict) -> dict:
    return {key: value for key, value in section.items() if not key.startswith("$")}


# What both SDKs do.


def test_a_new_twin_is_empty_and_says_who_it_is(owner):
    twin = owner.get()
    assert (twin.etag, twin.version) == ("AAAAAAAAAAE=", 2)
    assert (twin.status, twin.connection_state, twin.authentication_type) == ("enabled", "Disconnected", "sas")
    assert twin.properties.desired["$version"] == twin.properties.reported["$version"] == 1
    assert without_system(twin.properties.desired) == without_system(twin.properties.reported) == {}
    assert twin.device_id == owner.identity.device and twin.module_id == owner.identity.module
    assert twin.device_etag == owner.identity.record["etag"]
    assert twin.cloud_to_device_message_count == 0


@pytest.mark.parametrize("websockets", TRANSPORTS.values(), ids=TRANSPORTS)
def test_a_device_reads_its_twin_and_reports(owner, websockets):
    owner.update(Twin(tags={"secret": 1}, properties=TwinProperties(desired={"rate": 5})))
    with owner.client(websockets) as client:
        assert client.get_twin() == {"desired": {"rate": 5, "$version": 2}, "reported": {"$version": 1}}
        client.patch_twin_reported_properties({"rate": 5, "list": [1, True, {"a": "ü"}], "deep": {"x": 1.5}})
        client.patch_twin_reported_properties({"rate": None, "deep": {"y": True}})
        reported = client.get_twin()["reported"]
    assert reported == {"list": [1, True, {"a": "ü"}], "deep": {"x": 1.5, "y": True}, "$version": 3}
    twin = owner.get()
    assert without_system(twin.properties.reported) == without_system(reported)
    metadata = twin.properties.reported["$metadata"]
    assert set(metadata) == {"$lastUpdated", "list", "deep"}, "no versions: those stand at desired properties only"
    assert metadata["deep"]["x"]["$lastUpdated"] < metadata["deep"]["y"]["$lastUpdated"]
    assert metadata["deep"]["$lastUpdated"] == metadata["deep"]["y"]["$lastUpdated"]


@pytest.mark.parametrize("websockets", TRANSPORTS.values(), ids=TRANSPORTS)
def test_a_connected_device_is_told_of_desired_properties(owner, websockets):
    told = queue.Queue()
    with owner.client(websockets) as client:
        client.on_twin_desired_properties_patch_received = told.put
        owner.update(desired(rate=6, net={"mtu": 1400}))
        assert told.get(timeout=10) == {"rate": 6, "net": {"mtu": 1400}, "$version": 2}
        owner.update(desired(net={"mtu": None}))
        assert told.get(timeout=10) == {"net": {"mtu": None}, "$version": 3}
        owner.replace(desired(other=1))
        assert told.get(timeout=10) == {"other": 1, "$version": 4}
        assert owner.get().connection_state == "Connected"


def test_the_service_merges_and_replaces(owner):
    first = owner.update(Twin(tags={"site": "north", "line": {"a": 1}}, properties=TwinProperties(desired={"a": 1, "b": 2})))
    assert (first.tags, without_system(first.properties.desired)) == ({"site": "north", "line": {"a": 1}}, {"a": 1, "b": 2})
    second = owner.update(Twin(tags={"site": None, "line": {"b": 2}}))
    assert second.tags == {"line": {"a": 1, "b": 2}}
    assert second.properties.desired["$version"] == first.properties.desired["$version"]
    third = owner.replace(Twin(properties=TwinProperties(desired={"c": 3})))
    assert without_system(third.properties.desired) == {"c": 3}
    assert third.tags == second.tags, "a section that is absent stays"
    assert len({first.etag, second.etag, third.etag}) == 3


def test_a_stale_etag_changes_nothing(owner):
    stale = owner.get().etag
    fresh = owner.update(Twin(tags={"a": 1})).etag
    with refusal(412, "PreconditionFailed"):
        owner.update(Twin(tags={"a": 2}), stale)
    with refusal(412, "PreconditionFailed"):
        owner.replace(Twin(tags={"a": 2}), stale)
    assert owner.get().tags == {"a": 1}
    assert owner.update(Twin(tags={"a": 3}), fresh).tags == {"a": 3}


def test_an_illegal_report_is_refused_by_name_and_the_connection_goes_on(hub, registry, name):
    with RawDevice(hub, name, registry.create(name).token()) as device:
        device.subscribe("$iothub/twin/res/#")
        for patch, words in [
            (b'{"a.b": 1}', "`properties.reported.a.b` has '.' in its key"),
            (b'{"a": {"b": 4503599627370496}}', "`properties.reported.a.b` is 4503599627370496"),
            (json.dumps({"a": "x" * 4097}).encode(), "is a text of 4097 bytes, the limit is 4096"),
            (b"[]", "no JSON object"),
            (b"{", "not JSON"),
        ]:
            answer = ask(device, "PATCH/properties/reported/?$rid=7", patch)
            assert answer.topic == "$iothub/twin/res/400/?$rid=7"
            body = json.loads(answer.payload)
            assert body["errorCode"] == 400004 and words in body["message"], body
            assert set(body) == {"errorCode", "trackingId", "message", "timestampUtc", "info"}
        assert ask(device, "GET/?$rid=x").topic == "$iothub/twin/res/200/?$rid=x"
        assert not device.closed.is_set()


def test_an_illegal_report_is_an_error_of_the_sdk(hub, registry, name):
    with devices.connected(devices.by_key(hub, registry.create(name))) as client:
        # The synchronous client wraps what it does not expect.
        with pytest.raises(ClientError) as refused:
            client.patch_twin_reported_properties({"key with blank": 1})
        assert isinstance(refused.value.__cause__, ServiceError)
        client.patch_twin_reported_properties({"good": 1})


# What implementers miss.


def ask(device: RawDevice, what: str, body: bytes = b"", qos: int = 0):
    """Publishes a twin request and returns the answer."""
    before = len(device.messages)
    device.publish(f"$iothub/twin/{what}", body, qos) if qos else device.send(f"$iothub/twin/{what}", body)
    until(lambda: len(device.messages) > before or device.closed.is_set(), 10, "an answer about the twin")
    assert not device.closed.is_set()
    return device.messages[-1]


@pytest.fixture
def raw(hub, registry, name):
    with RawDevice(hub, name, registry.create(name).token()) as device:
        device.name = name
        device.subscribe("$iothub/twin/res/#")
        yield device


def test_the_request_id_is_echoed_as_it_came(raw):
    for request_id in ["5", "8d3c1b9e-0000-4000-8000-00000000000a", "a%2Fb"]:
        assert ask(raw, f"GET/?$rid={request_id}").topic == f"$iothub/twin/res/200/?$rid={request_id}"


def test_an_accepted_report_is_answered_without_a_body_and_with_the_new_version(raw):
    answer = ask(raw, "PATCH/properties/reported/?$rid=1", b'{"a": 1}')
    assert (answer.topic, answer.payload) == ("$iothub/twin/res/204/?$rid=1&$version=2", b"")


def test_a_report_that_changes_nothing_raises_the_version_all_the_same(raw):
    for version, body in [(2, b'{"a": 1}'), (3, b'{"a": 1}'), (4, b"{}")]:
        assert ask(raw, "PATCH/properties/reported/?$rid=1", body).topic.endswith(f"&$version={version}")


def test_a_report_for_another_version_is_412(raw):
    assert ask(raw, "PATCH/properties/reported/?$rid=1&$version=9", b'{"a": 1}').topic.startswith("$iothub/twin/res/412/")
    assert ask(raw, "PATCH/properties/reported/?$rid=1&$version=1", b'{"a": 1}').topic.endswith("204/?$rid=1&$version=2")


def test_a_report_at_qos_1_is_acknowledged_and_answered(raw):
    assert ask(raw, "PATCH/properties/reported/?$rid=q", b"{}", qos=1).topic.startswith("$iothub/twin/res/204/")


def test_a_report_without_request_id_is_made_and_not_answered(raw):
    assert raw.publish("$iothub/twin/PATCH/properties/reported/", b'{"a": 1}')
    answer = ask(raw, "GET/?$rid=after")
    assert len(raw.messages) == 1
    assert json.loads(answer.payload)["reported"] == {"a": 1, "$version": 2}


@pytest.mark.parametrize("topic", ["GET/", "GET/?$rid=", "DELETE/?$rid=1", "PATCH/properties/desired/?$rid=1", "PATCH/tags/?$rid=1"])
def test_a_twin_request_that_does_not_exist_ends_the_connection(raw, topic):
    raw.send(f"$iothub/twin/{topic}", b"{}")
    assert raw.closed.wait(5)


def test_a_request_id_that_no_topic_of_an_answer_could_carry_ends_the_connection(raw):
    raw.send(f"$iothub/twin/GET/?$rid={'x' * 65_500}")
    assert raw.closed.wait(5)


def test_a_report_is_made_even_when_the_answer_is_not_subscribed_to(hub, registry, manager, name):
    with RawDevice(hub, name, registry.create(name).token()) as device:
        assert device.publish("$iothub/twin/PATCH/properties/reported/?$rid=1", b'{"a": 1}')
    assert manager.get_twin(name).properties.reported["a"] == 1


def test_a_whole_twin_that_is_sent_back_is_taken_without_its_system_members(registry, manager, name):
    # .NET and Java send what they fetched, `$metadata` and read-only members included.
    registry.create(name)
    registry.rest.expect(200, "PATCH", twin_path(name), {"properties": {"desired": {"a": {"b": 1}}}})
    fetched = registry.rest.expect(200, "GET", twin_path(name))
    back = registry.rest.expect(200, "PATCH", twin_path(name), fetched, {"If-Match": f'"{fetched["etag"]}"'})
    assert without_system(back["properties"]["desired"]) == {"a": {"b": 1}}
    assert back["properties"]["desired"]["$version"] == 3
    assert back["properties"]["reported"]["$version"] == 1


def test_reported_properties_of_a_service_are_passed_over(registry, name):
    registry.create(name)
    body = {"properties": {"desired": {}, "reported": {"a": 1}}}
    twin = registry.rest.expect(200, "PATCH", twin_path(name), body)
    assert without_system(twin["properties"]["reported"]) == {}


def test_null_clears_desired_and_raises_its_version_by_one(registry, name):
    registry.create(name)
    registry.rest.expect(200, "PATCH", twin_path(name), {"properties": {"desired": {"a": 1, "b": 2}}})
    twin = registry.rest.expect(200, "PATCH", twin_path(name), {"properties": {"desired": None}})
    assert without_system(twin["properties"]["desired"]) == {} and twin["properties"]["desired"]["$version"] == 3


def test_an_empty_desired_patch_raises_the_version_and_tags_do_not(registry, name):
    registry.create(name)
    version = lambda body: registry.rest.expect(200, "PATCH", twin_path(name), body)["properties"]["desired"]["$version"]
    assert version({"properties": {"desired": {}}}) == 2
    assert version({"tags": {"a": 1}}) == 2


def test_metadata_mirrors_the_tree_with_versions_at_desired_only(registry, name):
    registry.create(name)
    registry.rest.expect(200, "PATCH", twin_path(name), {"properties": {"desired": {"net": {"mtu": 1, "ip": "x"}, "list": [{}]}}})
    twin = registry.rest.expect(200, "PATCH", twin_path(name), {"properties": {"desired": {"net": {"mtu": 2}}}})
    metadata = twin["properties"]["desired"]["$metadata"]
    versions = {path: node["$lastUpdatedVersion"] for path, node in tree(metadata)}
    assert versions == {"": 3, "net": 3, "net.mtu": 3, "net.ip": 2, "list": 2}
    assert "$lastUpdatedVersion" not in twin["properties"]["reported"]["$metadata"]
    assert metadata["$lastUpdated"].endswith("Z") and len(metadata["$lastUpdated"]) == len("2031-04-05T06:07:08.1234567Z")


def tree(node: dict, path: str = ""):
    yield path, node
    for key, value in node.items():
        if isinstance(value, dict):
            yield from tree(value, f"{path}.{key}".lstrip("."))


@pytest.mark.parametrize("form", ['"*"', "*", '"{etag}"', "{etag}", 'W/"{etag}"'])
def test_if_match_is_taken_in_every_form_that_clients_send(registry, name, form):
    registry.create(name)
    etag = registry.rest.call("GET", twin_path(name)).headers["ETag"]
    assert etag == '"AAAAAAAAAAE="'
    header = {"If-Match": form.format(etag=etag.strip('"'))}
    registry.rest.expect(200, "PATCH", twin_path(name), {"tags": {"a": 1}}, header)


def test_an_empty_etag_matches_nothing(registry, name):
    registry.create(name)
    registry.rest.expect(412, "PATCH", twin_path(name), {"tags": {"a": 1}}, {"If-Match": '""'})


def test_java_patches_by_post_and_a_header(registry, name):
    registry.create(name)
    header = {"X-HTTP-Method-Override": "PATCH"}
    assert registry.rest.expect(200, "POST", twin_path(name), {"tags": {"a": 1}}, header)["tags"] == {"a": 1}


def test_the_etag_of_a_twin_follows_services_and_not_reports(raw, registry):
    before = registry.rest.expect(200, "GET", twin_path(raw.name))
    ask(raw, "PATCH/properties/reported/?$rid=1", b'{"a": 1}')
    after = registry.rest.expect(200, "GET", twin_path(raw.name))
    assert after["etag"] == before["etag"] and after["deviceEtag"] == before["deviceEtag"]
    assert after["version"] == before["version"] + 1
    changed = registry.rest.expect(200, "PATCH", twin_path(raw.name), {"tags": {"a": 1}})
    assert changed["etag"] != before["etag"] and changed["deviceEtag"] == before["deviceEtag"]


def test_unknown_identities_and_illegal_content_have_their_codes(registry, name):
    call = lambda method, path, body=None: registry.rest.call(method, path, body)
    for method, body in [("GET", None), ("PATCH", {}), ("PUT", {})]:
        missing = call(method, twin_path(name), body)
        assert (missing.status, missing.error) == (404, "DeviceNotFound")
    registry.create(name)
    missing = call("GET", f"{twin_path(name)}/modules/none")
    assert (missing.status, missing.error) == (404, "ModuleNotFound")
    for body in [{"tags": []}, {"tags": {"a$": 1}}, {"properties": {"desired": {"a": "x" * 5000}}}, {"tags": {"a": {"b": 2**60}}}]:
        refused = call("PATCH", twin_path(name), body)
        assert (refused.status, refused.error) == (400, "ArgumentInvalid"), body
        assert refused.body["Message"].startswith("ErrorCode:ArgumentInvalid;`")
    illegal = call("GET", "/twins/a%2Fb")
    assert (illegal.status, illegal.error) == (400, "ArgumentInvalid")


def test_a_device_made_again_has_a_new_twin(registry, manager, name):
    registry.create(name)
    manager.update_twin(name, Twin(tags={"a": 1}))
    registry.delete(name)
    registry.create(name)
    assert manager.get_twin(name).tags in (None, {})
    assert manager.get_twin(name).etag == "AAAAAAAAAAE="


def test_a_module_goes_with_its_twin_when_its_device_goes(registry, manager, name):
    registry.create(name)
    registry.create_module(name, "m1")
    manager.update_module_twin(name, "m1", Twin(tags={"a": 1}))
    registry.delete(name)
    registry.create(name)
    registry.create_module(name, "m1")
    assert manager.get_module_twin(name, "m1").tags in (None, {})


def test_the_model_that_a_device_announces_stands_on_its_twin(hub, registry, manager, name):
    client = devices.by_key(hub, registry.create(name), product_info="dtmi:example:Pump;1")
    with devices.connected(client):
        assert registry.rest.expect(200, "GET", twin_path(name))["modelId"] == "dtmi:example:Pump;1"


def test_only_those_who_subscribed_are_told(hub, registry, manager, name):
    with RawDevice(hub, name, registry.create(name).token()) as device:
        manager.update_twin(name, desired(a=1))
        device.subscribe("$iothub/twin/PATCH/properties/desired/#")
        manager.update_twin(name, desired(a=2))
        until(lambda: device.messages, 10, "a notification")
        [message] = device.messages
    assert message.topic == "$iothub/twin/PATCH/properties/desired/?$version=3"
    assert json.loads(message.payload) == {"a": 2, "$version": 3}
    assert message.qos == 0 and not message.retain


def test_a_restored_session_is_told_without_subscribing_again(hub, registry, manager, name):
    # Python never subscribes again after a reconnect.
    identity = registry.create(name)
    with RawDevice(hub, name, identity.token()) as device:
        device.subscribe("$iothub/twin/PATCH/properties/desired/#")
    with RawDevice(hub, name, identity.token()) as device:
        assert device.session_present
        manager.update_twin(name, desired(a=1))
        until(lambda: device.messages, 10, "a notification")


def test_the_sdk_catches_up_with_what_it_missed_while_it_was_away(hub, registry, manager, name):
    told = queue.Queue()
    client = devices.by_key(hub, registry.create(name), ensure_desired_properties=True)
    with devices.connected(client):
        client.get_twin()
        client.on_twin_desired_properties_patch_received = told.put
        manager.update_twin(name, desired(a=1))
        # It may have asked for the twin by itself before that, and after.
        until(lambda: told.get(timeout=10).get("a") == 1)
        client.disconnect()
        manager.update_twin(name, desired(a=2))
        client.connect()
        until(lambda: told.get(timeout=10).get("a") == 2)


def test_notifications_come_in_the_order_of_their_versions(hub, registry, manager, name):
    with RawDevice(hub, name, registry.create(name).token()) as device:
        device.subscribe("$iothub/twin/PATCH/properties/desired/#")
        patches = [{"properties": {"desired": {f"k{n}": n}}} for n in range(40)]
        threads = [
            threading.Thread(target=lambda part: [Registry(hub).rest.expect(200, "PATCH", twin_path(name), body) for body in part], args=[patches[at::4]])
            for at in range(4)
        ]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        until(lambda: len(device.messages) == 40, 10, "all notifications")
        versions = [json.loads(message.payload)["$version"] for message in device.messages]
    assert versions == list(range(2, 42))


def test_a_device_that_does_not_read_its_notifications_is_ended_and_it_is_explained(hub, registry, name):
    identity = registry.create(name)
    with tls_stream(hub) as stream:
        stream.sendall(connect_packet(hub, name, identity.token()))
        assert stream.recv(4) == b"\x20\x02\x00\x00"
        filter = b"$iothub/twin/PATCH/properties/desired/#"
        body = b"\x00\x01" + len(filter).to_bytes(2) + filter + b"\x00"
        stream.sendall(b"\x82" + bytes([len(body)]) + body)
        assert stream.recv(5) == b"\x90\x03\x00\x01\x00"
        # It reads no more: the sockets fill, then the queue.
        large = {"properties": {"desired": {f"k{n}": "x" * 4000 for n in range(7)}}}
        for _ in range(1000):
            twin = registry.rest.expect(200, "PATCH", twin_path(name), large)
            if twin["connectionState"] == "Disconnected":
                break
        until(lambda: registry.rest.expect(200, "GET", twin_path(name))["connectionState"] == "Disconnected", 10)
    [entry] = [entry for entry in hub.why(name) if entry["cause"] == "not-reading"]
    assert hub.cli(*entry["fix"].split()[1:])["properties"]["desired"]["$version"] > 64


def test_many_twins_are_changed_in_one_request(registry, name):
    registry.create(name)
    entry = {"id": name, "importMode": "updateTwin", "tags": {"a": 1}, "properties": {"desired": {"rate": 5}}}
    new = {"id": f"{name}-new", "importMode": "create", "tags": {"b": 2}}
    registry.rest.expect(200, "POST", "/devices", [entry, new])
    twin = registry.rest.expect(200, "GET", twin_path(name))
    assert (twin["tags"], twin["properties"]["desired"]["rate"]) == ({"a": 1}, 5)
    assert registry.rest.expect(200, "GET", twin_path(f"{name}-new"))["tags"] == {"b": 2}
    stale = {**entry, "importMode": "updateTwinIfMatchETag", "twinETag": "AAAAAAAAAAE="}
    result = registry.rest.expect(400, "POST", "/devices", [stale])
    assert result["errors"][0]["errorCode"] == 412001
    registry.rest.expect(200, "POST", "/devices", [{**stale, "twinETag": twin["etag"], "tags": {"c": 3}}])
    assert registry.rest.expect(200, "GET", twin_path(name))["tags"] == {"c": 3}


def test_twins_are_in_the_export_by_the_name_of_their_owner(hub, registry, name):
    registry.create(name)
    registry.create_module(name, "m1")
    registry.rest.expect(200, "PATCH", twin_path(name), {"tags": {"sealed": 1}})
    exported = [twin for twin in hub.cli("export")["twins"] if twin["device"] == name]
    assert [(twin.get("module"), twin["tags"]) for twin in exported] == [(None, {"sealed": 1}), ("m1", {})]


def test_an_identity_of_an_older_data_directory_gets_its_twin_when_it_is_asked_for(tmp_path):
    hub = Hub(data=tmp_path / "data").start()
    try:
        identities = [Registry(hub).create(f"old-{n}") for n in range(3)]
        module = Registry(hub).create_module("old-2", "m1")
        hub.stop()
        sql(hub.data, "DELETE FROM records WHERE kind = 12")
        hub.start()
        with RawDevice(hub, "old-0", identities[0].token()) as device:
            device.subscribe("$iothub/twin/res/#")
            assert ask(device, "PATCH/properties/reported/?$rid=1", b'{"a": 1}').topic.endswith("&$version=2")
        rest = Registry(hub).rest
        assert rest.expect(200, "GET", "/twins/old-0")["properties"]["reported"]["a"] == 1
        assert rest.expect(200, "GET", "/twins/old-1")["etag"] == "AAAAAAAAAAE="
        assert rest.expect(200, "PATCH", "/twins/old-2/modules/m1", {"tags": {"a": 1}})["tags"] == {"a": 1}
        with RawDevice(hub, "old-2/m1", module.token()) as device:
            device.subscribe("$iothub/twin/res/#")
            assert json.loads(ask(device, "GET/?$rid=1").payload)["desired"] == {"$version": 1}
        Registry(hub).delete("old-2")
        assert sql(hub.data, "SELECT count(*) FROM records WHERE kind = 12") == [(2,)]
    finally:
        hub.stop()


def test_what_was_acknowledged_survives_a_kill_and_versions_never_go_back(tmp_path):
    hub = Hub(data=tmp_path / "data").start()
    try:
        registry = Registry(hub)
        identity = registry.create("survivor")
        acknowledged = {"reported": 0, "desired": 0}
        stop = threading.Event()

        def report():
            with RawDevice(hub, "survivor", identity.token()) as device:
                device.subscribe("$iothub/twin/res/#")
                for n in range(10_000):
                    try:
                        answer = ask(device, f"PATCH/properties/reported/?$rid={n}", json.dumps({"n": n}).encode())
                    except AssertionError:
                        return
                    acknowledged["reported"] = int(answer.topic.rpartition("=")[2])

        def desire():
            rest = Registry(hub).rest
            while not stop.is_set():
                try:
                    twin = rest.expect(200, "PATCH", twin_path("survivor"), {"properties": {"desired": {"n": 1}}})
                except Exception:
                    return
                acknowledged["desired"] = twin["properties"]["desired"]["$version"]

        threads = [threading.Thread(target=report, daemon=True), threading.Thread(target=desire, daemon=True)]
        [thread.start() for thread in threads]
        until(lambda: min(acknowledged.values()) > 30, 30, "acknowledged changes of both kinds")
        hub.kill()
        stop.set()
        [thread.join(15) for thread in threads]
        seen = dict(acknowledged)
        hub.start()
        twin = Registry(hub).rest.expect(200, "GET", twin_path("survivor"))
        for section in ("reported", "desired"):
            assert twin["properties"][section]["$version"] >= seen[section]
        assert twin["properties"]["reported"]["n"] == twin["properties"]["reported"]["$version"] - 2
    finally:
        hub.stop()


def twin_path(device: str) -> str:
    return device_path(device).replace("/devices/", "/twins/")

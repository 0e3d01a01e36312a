"""Edge devices: scopes and parents through the unmodified azure-iot-hub, `$edgeAgent`, `$edgeHub` and modules of an edge device
through the unmodified azure-iot-device, and by hand what a gateway sends that connects its children: no SDK for Python does
that."""

import time
from urllib.parse import quote

import pytest
from azure.iot.device import IoTHubModuleClient, Message, MethodResponse
from azure.iot.device.exceptions import ClientError
from azure.iot.hub import IoTHubConfigurationManager, IoTHubRegistryManager
from azure.iot.hub.models import ConfigurationContent, ExportImportDevice

from harness import devices, sas
from harness.events import body_of, text
from harness.raw_mqtt import RawDevice
from harness.refusal import refusal
from harness.rest import Identity, Registry, Rest, device_path
from harness.wait import until

LEVELS = 5


@pytest.fixture(scope="module")
def manager(hub):
    return IoTHubRegistryManager.from_connection_string(hub.service_connection_string)


@pytest.fixture
def family(hub, registry, name):
    return Family(hub, registry, name)


class Family:
    """Edge devices and leaves whose names begin alike."""

    def __init__(self, hub, registry: Registry, name: str):
        self.hub, self.registry, self.name = hub, registry, name

    def edge(self, title: str, parent: Identity | None = None) -> Identity:
        parents = {"parentScopes": [scope(parent)]} if parent else {}
        return self.registry.create(f"{self.name}-{title}", capabilities={"iotEdge": True}, **parents)

    def leaf(self, title: str, parent: Identity | None = None) -> Identity:
        parents = {"deviceScope": scope(parent)} if parent else {}
        return self.registry.create(f"{self.name}-{title}", **parents)

    def module(self, device: Identity, module: str) -> Identity:
        path = f"{device_path(device.device)}/modules/{quote(module, safe='')}"
        return Identity(self.hub, self.registry.rest.expect(200, "GET", path))

    def token(self, gateway: Identity, **options) -> str:
        """What a gateway signs for those whom it connects."""
        return self.module(gateway, "$edgeHub").token(**options)

    def behind(self, gateway: Identity, identity: str, *chain: str, token: str | None = None) -> RawDevice:
        """A connection that a gateway makes, with `auth-chain` as the .NET SDK writes it where a chain is named."""
        named = f"&auth-chain={quote(';'.join(chain), safe='')}" if chain else ""
        user_name = f"{self.hub.hostname}/{identity}/?api-version=2020-09-30&DeviceClientType=edgeHub{named}"
        return RawDevice(self.hub, identity, token or self.token(gateway), user_name)

    def why(self, identity: str) -> str:
        return self.hub.why(identity.split("/")[0])[0]["cause"]


def scope(device: Identity) -> str:
    return device.record["deviceScope"]


def test_a_leaf_moves_from_parent_to_parent_and_leaves(manager, family):
    first, second = family.edge("e1"), family.edge("e2")
    leaf = manager.create_device_with_sas(family.name, "", "", "enabled", device_scope=scope(first))
    assert (leaf.device_scope, leaf.parent_scopes) == (scope(first), [scope(first)])
    keys = leaf.authentication.symmetric_key
    given = (keys.primary_key, keys.secondary_key)
    moved = manager.update_device_with_sas(family.name, leaf.etag, *given, "enabled", device_scope=scope(second))
    assert (moved.device_scope, moved.parent_scopes) == (scope(second), [scope(second)])
    kept = manager.update_device_with_sas(family.name, moved.etag, *given, "disabled")
    assert (kept.device_scope, kept.status) == (scope(second), "disabled")
    alone = manager.update_device_with_sas(family.name, kept.etag, *given, "enabled", device_scope="")
    assert not alone.device_scope and not alone.parent_scopes
    assert not manager.get_device(family.name).parent_scopes


def test_an_edge_device_keeps_its_scope_and_has_its_parent_in_the_list(manager, family):
    top = family.edge("top")
    made = manager.create_device_with_sas(family.name, "", "", "enabled", iot_edge=True, parent_scopes=[scope(top)])
    own = made.device_scope
    assert own.startswith(f"ms-azure-iot-edge://{family.name}-") and made.parent_scopes == [scope(top)]
    keys = made.authentication.symmetric_key
    given = (keys.primary_key, keys.secondary_key)
    # What clients read they send back.
    same = manager.update_device_with_sas(
        family.name, made.etag, *given, "enabled", iot_edge=True, device_scope=own, parent_scopes=[scope(top)]
    )
    assert (same.device_scope, same.parent_scopes) == (own, [scope(top)])
    with refusal(400, "InvalidDeviceScope"):
        manager.update_device_with_sas(family.name, same.etag, *given, "enabled", True, device_scope=scope(top))
    alone = manager.update_device_with_sas(family.name, same.etag, *given, "enabled", True, parent_scopes=[])
    assert alone.device_scope == own and not alone.parent_scopes


def test_who_is_no_edge_device_is_nobodys_parent(manager, registry, family):
    top, leaf = family.edge("top"), family.leaf("leaf")
    gone = family.edge("gone")
    registry.delete(gone.device)
    again = registry.create(gone.device, capabilities={"iotEdge": True})
    assert scope(again) != scope(gone)
    # A device is an edge device from its making on, or never.
    assert registry.update(leaf.device, capabilities={"iotEdge": True})["capabilities"] == {"iotEdge": False}
    wrong = ["no scope", "ms-azure-iot-edge://nobody-1", f"ms-azure-iot-edge://{leaf.device}-1", scope(gone)]
    for scopes in wrong:
        with refusal(400, "InvalidDeviceScope"):
            manager.create_device_with_sas(family.name, "", "", "enabled", device_scope=scopes)
        with refusal(400, "InvalidDeviceScope"):
            manager.create_device_with_sas(family.name, "", "", "enabled", True, parent_scopes=[scopes])
    with refusal(400, "InvalidDeviceScope"):
        manager.create_device_with_sas(family.name, "", "", "enabled", True, parent_scopes=[scope(top), scope(again)])
    with refusal(404, "DeviceNotFound"):
        manager.get_device(family.name)


def test_gateways_stand_in_a_row_of_so_many_and_never_in_a_circle(registry, family):
    row = [family.edge("g0")]
    for level in range(1, LEVELS + 1):
        row.append(family.edge(f"g{level}", row[-1]))
    family.leaf("leaf", row[-1])
    rest = registry.rest
    body = {"deviceId": f"{family.name}-deep", "capabilities": {"iotEdge": True}, "parentScopes": [scope(row[-1])]}
    answer = rest.call("PUT", device_path(body["deviceId"]), body)
    assert (answer.status, answer.error) == (400, "InvalidDeviceScope"), answer.body
    # Put on top, it would push the lowest one too deep.
    above = family.edge("above")
    for child, parent in [(row[0], above), (row[0], row[-1]), (row[0], row[0])]:
        moved = {**child.record, "parentScopes": [scope(parent)]}
        answer = rest.call("PUT", device_path(child.device), moved, {"If-Match": '"*"'})
        assert (answer.status, answer.error) == (400, "InvalidDeviceScope"), answer.body
    registry.update(row[1].device, parentScopes=[scope(above)])


def test_a_child_of_a_deleted_parent_keeps_its_scope_until_it_is_changed(registry, family):
    parent = family.edge("parent")
    child = family.leaf("child", parent)
    registry.delete(parent.device)
    left = registry.update(child.device, statusReason="its gateway is gone")
    assert left["deviceScope"] == scope(parent)
    assert "deviceScope" not in registry.update(child.device, deviceScope="")


def test_many_are_imported_at_once_each_with_its_parent(manager, family):
    top = family.edge("top")
    entries = [
        ExportImportDevice(id=f"{family.name}-{n}", import_mode="create", device_scope=scope(top) if n else "nobody's")
        for n in range(3)
    ]
    done = manager.bulk_create_or_update_devices(entries)
    assert [(error.device_id, str(error.error_code)) for error in done.errors] == [(f"{family.name}-0", "400028")]
    assert manager.get_device(f"{family.name}-2").parent_scopes == [scope(top)]


def test_system_modules_come_and_go_with_their_device_only(hub, manager, family):
    edge = family.edge("edge")
    with refusal(401, "SystemModuleModifyUnauthorizedAccess"):
        manager.create_module_with_sas(edge.device, "$mine", "me", "", "")
    with refusal(401, "SystemModuleModifyUnauthorizedAccess"):
        manager.delete_module(edge.device, "$edgeHub")
    manager.delete_device(edge.device)
    with refusal(404, "DeviceNotFound"):
        manager.get_modules(edge.device)


def test_the_command_line_sets_and_shows_parents(hub, family):
    top, other, leaf = (f"{family.name}-{title}" for title in ("top", "other", "leaf"))
    hub.cli("device", "create", top, "--edge")
    hub.cli("device", "create", other, "--edge", "--parent", top)
    hub.cli("device", "create", leaf, "--parent", top)
    assert [child["deviceId"] for child in hub.cli("device", "children", top)] == [leaf, other]
    hub.cli("device", "update", leaf, "--parent", other)
    shown = hub.cli("device", "show", leaf)
    assert shown["parentScopes"] == [hub.cli("device", "show", other)["deviceScope"]] == [shown["deviceScope"]]
    assert [child["deviceId"] for child in hub.cli("device", "children", other)] == [leaf]
    hub.cli("device", "update", other, "--no-parent")
    assert hub.cli("device", "children", top) == []
    changes = hub.cli("audit", "list", "--device", leaf, "--kind", "change")
    moves = [(change["actor"], change["parent"]) for change in reversed(changes)]
    tops, others = (hub.cli("device", "show", edge)["deviceScope"] for edge in (top, other))
    assert moves == [
        ("policy iothubowner", {"to": tops}),
        ("policy iothubowner", {"from": tops, "to": others}),
    ]
    exported = {device["id"]: device for device in hub.cli("export")["devices"]}
    assert exported[leaf]["parentScopes"] == [others] and exported[top]["edge"] is True


@pytest.mark.parametrize("module", ["$edgeAgent", "$edgeHub"])
def test_the_system_modules_connect_and_have_twins(module, hub, family):
    identity = family.module(family.edge("edge"), module)
    client = devices.by_key(hub, identity)
    with devices.connected(client):
        client.patch_twin_reported_properties({"lastDesiredVersion": 1})
        assert client.get_twin()["reported"]["lastDesiredVersion"] == 1


def test_a_module_has_inputs_and_outputs(hub, registry, family, reader):
    edge = family.edge("edge")
    client = devices.by_key(hub, registry.create_module(edge.device, "m 1".replace(" ", "-")))
    client.on_message_received = lambda message: None
    with devices.connected(client):
        client.send_message_to_output(Message("through an output"), "alerts/high")
    event = reader.from_device(edge.device)[0]
    annotations = {text(name): text(value) for name, value in event.raw_amqp_message.annotations.items()}
    assert annotations["iothub-outputname"] == "alerts/high"
    assert annotations["iothub-connection-module-id"] == "m-1"
    assert body_of(event) == b"through an output"


CAMERA = {"settings": {"image": "camera:1"}, "status": "running", "restartPolicy": "always"}
DEPLOYMENT = {
    "$edgeAgent": {"properties.desired": {"schemaVersion": "1.1", "modules": {"camera": CAMERA}}},
    "$edgeHub": {"properties.desired": {"schemaVersion": "1.1", "routes": {"all": "FROM /* INTO $upstream"}}},
    "camera": {"properties.desired": {"rate": 5}},
}


def test_content_for_the_modules_of_an_edge_device_is_applied(hub, manager, family):
    configurations = IoTHubConfigurationManager.from_connection_string(hub.service_connection_string)
    edge = family.edge("edge")
    agent = devices.by_key(hub, family.module(edge, "$edgeAgent"))
    told = []
    agent.on_twin_desired_properties_patch_received = told.append
    with devices.connected(agent):
        content = ConfigurationContent(modules_content=DEPLOYMENT)
        configurations.apply_configuration_on_edge_device(edge.device, content)
        until(lambda: told, 5, "the agent is told")
    assert told[0]["modules"] == {"camera": CAMERA}
    camera = manager.get_module(edge.device, "camera")
    assert camera.managed_by == "IotEdge"
    desired = lambda module: manager.get_module_twin(edge.device, module).properties.desired  # noqa: E731
    assert (desired("camera")["rate"], desired("$edgeHub")["schemaVersion"]) == (5, "1.1")
    # The next replaces what was there, and makes nothing twice.
    again = {**DEPLOYMENT, "camera": {"properties.desired": {"quality": "high"}}}
    configurations.apply_configuration_on_edge_device(edge.device, ConfigurationContent(modules_content=again))
    assert "rate" not in desired("camera") and desired("camera")["quality"] == "high"
    assert manager.get_module(edge.device, "camera").generation_id == camera.generation_id


def test_content_that_cannot_be_applied_changes_nothing(hub, registry, family):
    edge, leaf = family.edge("edge"), family.leaf("leaf")

    def refused(status, code, device, content, policy="iothubowner"):
        path = f"{device_path(device.device)}/applyConfigurationContent"
        answer = Rest(hub, policy).call("POST", path, {"modulesContent": content})
        assert (answer.status, answer.error) == (status, code), answer.body

    refused(400, "InvalidOperation", leaf, DEPLOYMENT)
    refused(400, "InvalidConfigurationContent", edge, {**DEPLOYMENT, "camera": {"properties.desired.rate": 5}})
    refused(400, "InvalidConfigurationContent", edge, {})
    refused(404, "ModuleNotFound", edge, {**DEPLOYMENT, "lamp": {"properties.desired": {}}})
    many = {f"m{number}": {} for number in range(60)}
    refused(413, "TooManyModulesOnDevice", edge, {"$edgeAgent": {"properties.desired": {"modules": many}}})
    for policy in ("service", "registryReadWrite"):
        refused(401, "IotHubUnauthorizedAccess", edge, DEPLOYMENT, policy)
    modules = registry.rest.expect(200, "GET", f"{device_path(edge.device)}/modules")
    assert sorted(module["moduleId"] for module in modules) == ["$edgeAgent", "$edgeHub"]
    twin = registry.rest.expect(200, "GET", f"/twins/{edge.device}/modules/$edgeAgent")
    assert twin["properties"]["desired"]["$version"] == 1


def edge_client(hub, identity: Identity, monkeypatch) -> IoTHubModuleClient:
    """A module as it is made on an edge device; the hub is its gateway."""
    connection_string = f"{identity.connection_string};GatewayHostName={hub.hostname}"
    monkeypatch.setenv("EdgeHubConnectionString", connection_string)
    monkeypatch.setenv("EdgeModuleCACertificateFile", hub.ca_file)
    return IoTHubModuleClient.create_from_edge_environment(connection_retry=False)


def test_a_module_calls_methods_of_its_neighbours_and_of_children(hub, registry, family, monkeypatch):
    edge = family.edge("edge")
    caller = registry.create_module(edge.device, "caller")
    answered = [devices.by_key(hub, registry.create_module(edge.device, "neighbour")), devices.by_key(hub, family.leaf("leaf", edge))]
    for client in answered:
        client.on_method_request_received = answering(client)
    client = edge_client(hub, caller, monkeypatch)
    call = {"methodName": "reboot", "payload": {"delay": 3}, "responseTimeoutInSeconds": 10}
    with devices.connected(answered[0]), devices.connected(answered[1]):
        answer = client.invoke_method(call, edge.device, "neighbour")
        assert answer == {"status": 200, "payload": {"reboot": {"delay": 3}}}
        assert client.invoke_method(call, f"{family.name}-leaf")["status"] == 200
        stranger = family.leaf("stranger")
        with pytest.raises(ClientError):
            client.invoke_method(call, stranger.device)
    assert family.why(caller.device) == "missing-right"
    with pytest.raises(ClientError):
        client.invoke_method(call, edge.device, "neighbour")
    client.shutdown()


def answering(client):
    def handle(request):
        client.send_method_response(
            MethodResponse.create_from_method_request(request, 200, {request.name: request.payload})
        )

    return handle


def test_a_caller_of_methods_has_to_be_a_module_and_the_one_that_it_says(hub, registry, family):
    edge = family.edge("edge")
    one, two = registry.create_module(edge.device, "one"), registry.create_module(edge.device, "two")
    path = f"/twins/{edge.device}/modules/two/methods"
    call = {"methodName": "x"}
    for named, token, status in [
        (f"{edge.device}/one", one.token(), 404),
        (f"{edge.device}/one", two.token(), 401),
        (edge.device, edge.token(), 400),
        ("", edge.token(), 400),
    ]:
        answer = Rest(hub, authorization=token).call("POST", path, call, {"x-ms-edge-moduleId": named})
        assert answer.status == status, (named, answer.body)
    plain = registry.create(f"{family.name}-plain")
    module = registry.create_module(plain.device, "m")
    headers = {"x-ms-edge-moduleId": f"{plain.device}/m"}
    answer = Rest(hub, authorization=module.token()).call("POST", f"/twins/{plain.device}/methods", call, headers)
    assert answer.status == 401


def test_a_gateway_connects_its_child_and_the_child_is_who_sends(hub, family, reader):
    edge = family.edge("edge")
    leaf = family.leaf("leaf", edge)
    with family.behind(edge, leaf.device, leaf.device, edge.device) as device:
        assert device.connack == 0
        assert device.publish(f"devices/{leaf.device}/messages/events/", b"from the child")
        assert family.registry.rest.expect(200, "GET", device_path(leaf.device))["connectionState"] == "Connected"
    event = reader.from_device(leaf.device)[0]
    stamps = {text(name): text(value) for name, value in event.system_properties.items()}
    assert stamps["iothub-connection-auth-generation-id"] == leaf.record["generationId"]
    assert '"scope":"device","type":"sas"' in stamps["iothub-connection-auth-method"]
    connect = hub.cli("audit", "list", "--device", leaf.device, "--kind", "connect")[0]
    assert connect["facts"]["gateway"] == edge.device
    assert connect["facts"]["token"]["sr"].endswith(f"/devices/{edge.device}/modules/$edgeHub")


def test_the_topmost_gateway_connects_all_below_it(family):
    top = family.edge("top")
    middle = family.edge("middle", top)
    leaf = family.leaf("leaf", middle)
    family.registry.create_module(leaf.device, "m")
    names = [middle.device, top.device]
    for identity, chain in [
        (leaf.device, [leaf.device, *names]),
        (f"{leaf.device}/m", [f"{leaf.device}/m", leaf.device, *names]),
        (f"{middle.device}/$edgeHub", [f"{middle.device}/$edgeHub", *names]),
        # A gateway that knows of no other below it names no chain.
        (f"{middle.device}/$edgeAgent", []),
        (middle.device, []),
    ]:
        with family.behind(top, identity, *chain) as device:
            assert device.connack == 0, (identity, family.why(identity))


def test_a_gateway_connects_nobody_else(hub, registry, family):
    top, other = family.edge("top"), family.edge("other")
    middle = family.edge("middle", top)
    leaf, stranger = family.leaf("leaf", middle), family.leaf("stranger")
    chain = [leaf.device, middle.device, top.device]

    def cause(gateway, identity, *named, token=None):
        with family.behind(gateway, identity, *named, token=token) as device:
            assert device.connack == 5
        return family.why(identity)

    assert cause(other, leaf.device, *chain[:2], other.device) == "not-its-gateway"
    assert cause(top, stranger.device, stranger.device, top.device) == "not-its-gateway"
    assert cause(top, top.device) == "not-its-gateway"
    assert cause(top, leaf.device) == "auth-chain"
    assert cause(top, leaf.device, leaf.device, top.device) == "auth-chain"
    assert cause(top, leaf.device, *reversed(chain)) == "auth-chain"
    nobody = sas.token(f"{hub.hostname}/devices/{family.name}-nobody/modules/$edgeHub", sas.new_key())
    assert cause(top, leaf.device, *chain, token=nobody) == "unknown-gateway"
    forged = sas.token(f"{hub.hostname}/devices/{top.device}/modules/$edgeHub", sas.new_key())
    assert cause(top, leaf.device, *chain, token=forged) == "wrong-key"
    assert hub.why(leaf.device)[0]["fix"] == f"holdfast module show {top.device} '$edgeHub' --keys"
    signed_by_another = sas.token(f"{hub.hostname}/devices/{top.device}/modules/$edgeHub", family.leaf("third").key)
    assert cause(top, leaf.device, *chain, token=signed_by_another) == "key-of-another"
    # The key of another module, or of the gateway itself, opens nothing but that.
    module = registry.create_module(top.device, "other")
    assert cause(top, leaf.device, *chain, token=module.token()) == "token-scope"
    assert cause(top, leaf.device, *chain, token=top.token()) == "token-scope"
    assert cause(top, leaf.device, *chain, token=family.token(top, seconds=-3600)) == "token-expired"
    registry.update(middle.device, status="disabled", statusReason="stolen")
    assert cause(top, leaf.device, *chain) == "gateway-disabled"
    assert "stolen" in hub.why(leaf.device)[0]["explanation"]


def test_the_commands_that_are_named_let_the_gateway_in(hub, registry, family):
    edge, leaf = family.edge("edge"), family.leaf("leaf")

    def tried() -> int:
        with family.behind(edge, leaf.device) as device:
            return device.connack

    assert tried() == 5
    hub.cli(*hub.why(leaf.device)[0]["fix"].split()[1:])
    assert tried() == 0
    registry.update(edge.device, status="disabled")
    assert tried() == 5
    hub.cli(*hub.why(leaf.device)[0]["fix"].split()[1:])
    assert tried() == 0


def test_a_child_with_a_token_of_its_own_needs_no_chain(family):
    edge = family.edge("edge")
    leaf = family.leaf("leaf", edge)
    with family.behind(edge, leaf.device, "anything", token=leaf.token()) as device:
        assert device.connack == 0


@pytest.mark.parametrize("change", ["disable", "delete", "rotate", "move", "move between", "new level", "disable leaf"])
def test_live_connections_end_with_what_they_stand_on(change, hub, registry, family):
    top = family.edge("top")
    middle = family.edge("middle", top)
    leaf, own = family.leaf("leaf", middle), registry.create_module(top.device, "own")
    with (
        family.behind(top, leaf.device, leaf.device, middle.device, top.device) as device,
        family.behind(top, f"{own.device}/own") as module,
    ):
        assert (device.connack, module.connack) == (0, 0)
        match change:
            case "disable":
                registry.update(top.device, status="disabled")
            case "delete":
                registry.delete(top.device)
            case "rotate":
                for which in ["primaryKey", "secondaryKey"]:
                    entries = {"policyKey": which, "devices": [{"id": top.device, "moduleId": "$edgeHub"}]}
                    registry.rest.expect(200, "POST", "/devices/keys/regenerate", entries)
            case "move":
                registry.update(leaf.device, deviceScope="")
            case "move between":
                registry.update(middle.device, parentScopes=[])
            case "new level":
                between = family.edge("between", top)
                registry.update(middle.device, parentScopes=[scope(between)])
            case "disable leaf":
                registry.update(leaf.device, status="disabled")
        changed = time.monotonic()
        assert device.closed.wait(5)
        assert time.monotonic() - changed < 1
        if change in ("disable", "delete", "rotate"):
            assert module.closed.wait(1)
        else:
            assert module.publish(f"devices/{own.device}/modules/own/messages/events/", b"x")
    ended = until(lambda: [entry for entry in hub.why(leaf.device) if entry["cause"] == "right-ended"], 5)
    assert ended


def test_the_export_and_the_log_name_no_key_of_a_gateway(hub, family):
    edge = family.edge("edge")
    leaf = family.leaf("leaf", edge)
    with family.behind(edge, leaf.device) as device:
        assert device.connack == 0
    key = family.module(edge, "$edgeHub").key
    told = f"{hub.cli('export')}{hub.cli('audit', 'list', '--limit', '200')}{hub.why(leaf.device)}"
    assert key not in told

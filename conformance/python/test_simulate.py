"""`holdfast device simulate` and `device watch` against the unmodified service SDKs."""

import json
from datetime import datetime

import pytest
from azure.iot.hub.models import CloudToDeviceMethod, Twin, TwinProperties

from harness.certificates import Authority, self_signed
from harness.events import body_of, device_of, properties_of
from harness.hub import Hub
from harness.simulated import ran, running
from harness.wait import until

TRANSPORTS = ["mqtt", "mqtt-ws", "amqp", "amqp-ws", "https"]
CONVERSING = ["mqtt", "mqtt-ws", "amqp", "amqp-ws"]
HUB_EVENTS = "TwinChangeEvents"


def time_of(line: dict) -> datetime:
    """The time of a line. As texts, times of unlike precision do not sort."""
    return datetime.fromisoformat(line["time"])


@pytest.fixture(scope="module")
def root(hub, tmp_path_factory):
    root = Authority(tmp_path_factory.mktemp("authority"), "root of the simulated")
    hub.cli("certificate", "add", str(root.certificate_file), "--verified")
    return root


def credential(kind: str, hub, registry, root, name, folder) -> list:
    """Registers a device that proves itself so, and gives the arguments by which it does."""
    if kind == "thumbprint":
        own = self_signed(folder, name)
        registry.create(name, {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": own.sha256}})
    elif kind == "authority":
        own = Authority(folder, "intermediate", parent=root).issue(name)
        registry.create(name, {"type": "certificateAuthority"})
    else:
        identity = registry.create(name)
        own_string = ["--as", identity.connection_string]
        return {
            "registered key": [name],
            "connection string": own_string,
            "token": [name, "--token", identity.token()],
            "policy": [name, "--policy", "device"],
        }[kind]
    return [name, "--certificate", own.chain_file, "--private-key", own.key_file]


KINDS = ["registered key", "connection string", "token", "policy", "thumbprint", "authority"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_telemetry_arrives_with_its_properties(transport, kind, hub, registry, root, reader, name, tmp_path):
    arguments = credential(kind, hub, registry, root, name, tmp_path)
    sends = ("--count", "2", "--every", "10ms", "--body", '{"reading":{number}}', "--property", "Room=7 & 8")
    device = ran(hub, "simulate", *arguments, "--transport", transport, "--message-id", name + "-{number}", *sends)
    assert device.code == 0, (device.lines, device.errors)
    assert [line["number"] for line in device.lines if line["what"] == "sent"] == [1, 2]
    connected = device.first("connected")
    assert (connected["as"], connected["transport"], connected["tls"]) == (name, transport, "1.3")
    events = reader.from_device(name, 2)
    assert [json.loads(body_of(event)) for event in events] == [{"reading": 1}, {"reading": 2}]
    assert all(properties_of(event) == {"Room": "7 & 8"} for event in events)
    assert [event.message_id for event in events] == [f"{name}-1", f"{name}-2"]
    assert {event.content_type for event in events} == {"application/json"}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_module_is_one_too(transport, hub, registry, reader, name, tmp_path):
    registry.create(name)
    module = registry.create_module(name, "m1")
    own = self_signed(tmp_path, name)
    hub.cli("module", "create", name, "m2", "--primary-thumbprint", own.sha256)
    certificate = ["--certificate", own.chain_file, "--private-key", own.key_file]
    ways = [
        [name, "--module", "m1"],
        ["--as", module.connection_string],
        [name, "--module", "m1", "--policy", "device"],
        [name, "--module", "m1", "--token", module.token()],
        [name, "--module", "m2", *certificate],
        ["--as", f"HostName={hub.hostname};DeviceId={name};ModuleId=m2;x509=true", *certificate],
    ]
    for arguments in ways:
        device = ran(hub, "simulate", *arguments, "--transport", transport, "--count", "1")
        assert device.code == 0, (device.lines, device.errors)
    events = reader.from_device(name, len(ways))
    sent_by = [event.system_properties[b"iothub-connection-module-id"] for event in events]
    assert sorted(sent_by) == [b"m1"] * 4 + [b"m2"] * 2


SETTLED = [
    *((transport, "complete", "completed", "completed") for transport in TRANSPORTS),
    *((transport, "reject", "rejected", "rejected") for transport in ("amqp", "amqp-ws", "https")),
    *((transport, "abandon", "abandoned", "deliveryCountExceeded") for transport in ("amqp", "https")),
]


@pytest.mark.parametrize("transport, how, said, counted", SETTLED)
def test_a_message_is_received_and_settled_as_asked(transport, how, said, counted, hub, registry, service, name):
    registry.create(name)
    with running(hub, "simulate", name, "--transport", transport, "--silent", "--settle", how) as device:
        device.first("connected")
        service.send_c2d_message(name, "open the valve", properties={"messageId": "m-1", "color": "red"})
        deliveries = 10 if how == "abandon" else 1
        message = device.several("message", deliveries)[0]
        assert (message["id"], message["body"], message["settled"]) == ("m-1", "open the valve", said)
        assert message["properties"] == {"color": "red"}
        assert device.interrupt() == 0
    # Over AMQP nobody answers a disposition: the device may be gone before it is on the disk.
    until(lambda: hub.cli("c2d", "list", name)["waiting"] == [], what="the end of the message")
    assert hub.cli("c2d", "list", name)[counted] == 1


@pytest.mark.parametrize("kind", ["device", "module"])
@pytest.mark.parametrize("transport", CONVERSING)
def test_a_method_is_answered_and_desired_properties_are_mirrored(transport, kind, hub, registry, service, name):
    registry.create(name)
    if kind == "module":
        registry.create_module(name, "m1")
    module = ["--module", "m1"] if kind == "module" else []
    answer = ["--answer", '203:{"done":true}']
    with running(hub, "simulate", name, *module, "-t", transport, "--mirror", *answer, "--silent") as device:
        device.first("connected")
        call = CloudToDeviceMethod(method_name="reboot", payload={"delay": 2})
        twin = Twin(properties=TwinProperties(desired={"rate": 5, "mode": {"a": None, "b": 1}}))
        if kind == "module":
            result = service.invoke_device_module_method(name, "m1", call)
            service.update_module_twin(name, "m1", twin)
        else:
            result = service.invoke_device_method(name, call)
            service.update_twin(name, twin)
        assert (result.status, result.payload) == (203, {"done": True})
        called = device.first("method")
        assert (called["name"], called["payload"]) == ("reboot", {"delay": 2})
        assert device.first("desired")["changed"]["rate"] == 5
        assert device.first("reported")["changed"]["rate"] == 5
        kept = service.get_module_twin(name, "m1") if kind == "module" else service.get_twin(name)
        assert kept.properties.reported["rate"] == 5
        assert kept.properties.reported["mode"] == {"b": 1}
        assert device.interrupt() == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_wrong_key_ends_with_1_and_the_cause(transport, hub, registry, name):
    registry.create(name)
    other = registry.create(f"{name}-other")
    wrong = f"HostName={hub.hostname};DeviceId={name};SharedAccessKey={other.key}"
    device = ran(hub, "simulate", "--as", wrong, "--transport", transport)
    assert device.code == 1
    assert device.first("refused", seconds=1)["reason"]
    assert device.first("why", seconds=1)["why"]["cause"] == "key-of-another"
    assert "connected" not in [line["what"] for line in device.lines]


def test_who_has_no_management_credential_is_told_where_the_cause_is(hub, registry, name):
    registry.create(name)
    foreign = "HostName=" + hub.hostname + f";DeviceId={name};SharedAccessKey=c2VjcmV0c2VjcmV0c2VjcmV0"
    device = ran(hub, "simulate", "--as", foreign, "--credential-file", "/nonexistent")
    assert device.code == 1 and f"holdfast why {name}" in device.errors


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_it_goes_on_after_the_hub_was_restarted(transport, registry, tmp_path):
    hub = Hub(data=tmp_path).start()
    try:
        hub.cli("device", "create", "d1")
        with running(hub, "simulate", "d1", "--transport", transport, "--every", "20ms") as device:
            device.first("sent")
            hub.stop()
            # A device of HTTPS notices nothing of a hub that is back before the next message.
            device.first("lost")
            hub.start()
            before = len(device.several("sent", 1))
            device.several("connected", 1 if transport == "https" else 2)
            device.several("sent", before + 3)
            numbers = [line["number"] for line in device.lines if line["what"] == "sent"]
            assert numbers == list(range(1, len(numbers) + 1)), "each number is acknowledged once"
            assert device.interrupt() == 0
    finally:
        hub.stop()


@pytest.mark.parametrize("transport, how", [("amqp", "open"), ("mqtt", "connecting again"), ("https", "open")])
def test_a_token_is_renewed_before_it_ends(transport, how, hub, registry, name):
    registry.create(name)
    with running(hub, "simulate", name, "-t", transport, "--token-seconds", "5", "--every", "100ms") as device:
        device.first("sent")
        assert how in device.first("token")["renewed"]
        sent = len(device.several("sent", 1))
        device.several("sent", sent + 5)
        assert not [line for line in device.lines if line["what"] in ("lost", "refused")]


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--settle", "reject"], "over MQTT a message can only be completed"),
        (["--transport", "https", "--mirror"], "HTTPS has no twins"),
        (["--answer", "yes"], "is no status"),
        (["--every", "soon"], "it is no time like"),
        (["--property", "red"], "NAME=VALUE"),
        (["--as", "HostName=h"], "cannot be used with"),
    ],
)
def test_what_cannot_be_is_said(arguments, said, hub, registry, name):
    registry.create(name)
    device = ran(hub, "simulate", name, *arguments)
    assert device.code in (1, 2) and said in device.errors, device.errors


def test_a_hub_that_is_not_there_is_named(hub, name):
    stranger = f"HostName=127.255.1.1;DeviceId={name};SharedAccessKey=c2VjcmV0"
    device = ran(hub, "simulate", "--as", stranger)
    assert device.code == 1 and "could not reach 127.255.1.1:8883 over mqtt" in device.errors


def test_watch_shows_what_happened_in_order(hub, registry, service, name):
    registry.create(name)
    with running(hub, "watch", name) as watch, running(hub, "watch", f"{name}-other") as other:
        watch.first("watching"), other.first("watching")
        registry.update(name, statusReason="watched")
        registry.create(f"{name}-other")
        created = other.first("change")
        assert (created["did"], created["who"]) == (f"create device {name}-other", f"{name}-other by policy iothubowner")
        watch.first("change", lambda line: line["did"] == f"update device {name}")
        with running(hub, "simulate", name, "--every", "100ms", "--transport", "amqp") as device:
            device.first("sent")
            service.send_c2d_message(name, "open", properties={"messageId": "m-1"})
            device.first("message")
            service.update_twin(name, Twin(properties=TwinProperties(desired={"rate": 5})))
            device.first("desired")
            assert device.interrupt() == 0
        hub.cli("device", "update", name, "--status", "disabled")
        assert ran(hub, "simulate", name, "--count", "1").code == 1
        refused = watch.first("refused")
        assert refused["cause"] == "disabled" and refused["explanation"] and refused["fix"]
        steps = [
            watch.first("connect"),
            watch.first("telemetry"),
            watch.first("message", lambda line: line["became"] == "sent"),
            watch.first("message", lambda line: line["became"] == "completed"),
            watch.first("twin", lambda line: line["changed"]["properties"]["desired"]["rate"] == 5),
            watch.first("disconnect"),
            watch.first("change", lambda line: time_of(line) > time_of(watch.first("disconnect"))),
            refused,
        ]
        times = [time_of(step) for step in steps]
        assert times == sorted(times), steps
        assert not [line for line in other.lines if line["what"] == "telemetry"]
        assert watch.interrupt() == 0

"""What a device sends over MQTT is what a reader of the built-in endpoint gets, byte for byte."""

import json
import time
from datetime import datetime, timezone

import pytest
from azure.iot.device import Message

from harness import devices, sas
from harness.certificates import Authority, self_signed
from harness.events import Reader, body_of, properties_of

CREDENTIALS = ["device key", "policy token", "thumbprint", "CA-signed"]
TRANSPORTS = ["MQTT", "MQTT over WebSocket"]
READERS = ["AMQP", "AMQP over WebSocket"]

ODD_PROPERTIES = {
    "plain": "value",
    "empty": "",
    "blank inside": " leading, inside and trailing ",
    "percent%": "100%25 %zz %",
    "plus+": "1+1=2",
    "amper&sand": "a&b&&c",
    "equals=": "==x==",
    "slash/": "/a//b/",
    "question?": "?#[]@!$'()*,;",
    "quote\"back\\slash": "\"\\`|<>{}^~",
    "ünï cödé ✓": "水は🌊です",
    "Case": "upper",
    "case": "lower",
    "long": "x" * 2000,
}


@pytest.fixture(scope="module", params=READERS)
def each_reader(request, hub):
    reader = Reader(hub, websocket=request.param == "AMQP over WebSocket")
    yield reader
    reader.close()


@pytest.fixture(scope="module")
def authority(hub, tmp_path_factory):
    """A root that the hub trusts, and the intermediate that issues device certificates."""
    folder = tmp_path_factory.mktemp("certificates")
    root = Authority(folder, "conformance root")
    hub.cli("certificate", "add", str(root.certificate_file), "--verified")
    return Authority(folder, "conformance intermediate", parent=root)


@pytest.fixture
def client_for(hub, registry, name, request, tmp_path):
    """Makes a device that signs in with the named credential, and its client."""

    def make(credential: str, websockets: bool = False):
        if credential == "device key":
            return devices.by_key(hub, registry.create(name), websockets)
        if credential == "policy token":
            resource = registry.create(name).resource
            return devices.by_token(hub, sas.token(resource, hub.policy_key("device"), "device"), websockets)
        if credential == "thumbprint":
            own = self_signed(tmp_path, name)
            thumbprints = {"primaryThumbprint": own.sha256, "secondaryThumbprint": None}
            registry.create(name, {"type": "selfSigned", "x509Thumbprint": thumbprints})
            return devices.by_certificate(hub, name, own, websockets)
        issued = request.getfixturevalue("authority").issue(name)
        registry.create(name, {"type": "certificateAuthority"})
        return devices.by_certificate(hub, name, issued, websockets)

    return make


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("credential", CREDENTIALS)
def test_every_credential_sends_over_every_transport_and_is_read_over_both(
    credential, transport, client_for, each_reader, name
):
    message = Message(b'{"t": 21.5}', message_id="m-1", content_encoding="utf-8", content_type="application/json")
    message.correlation_id = "c-1"
    message.user_id = "u-1"
    message.custom_properties.update(ODD_PROPERTIES)

    with devices.connected(client_for(credential, transport == "MQTT over WebSocket")) as client:
        client.send_message(message)

    [event] = each_reader.from_device(name)
    assert body_of(event) == b'{"t": 21.5}'
    assert properties_of(event) == ODD_PROPERTIES
    assert event.message_id == "m-1"
    assert event.correlation_id == "c-1"
    assert event.content_type == "application/json"
    assert event.system_properties[b"user-id"] == b"u-1"
    assert event.system_properties[b"content-encoding"] == b"utf-8"


@pytest.mark.parametrize(
    "credential, scope, kind",
    [
        ("device key", "device", "sas"),
        ("policy token", "hub", "sas"),
        ("thumbprint", "device", "x509"),
        ("CA-signed", "device", "x509"),
    ],
)
def test_an_event_names_the_credential_that_sent_it(credential, scope, kind, client_for, reader, registry, name):
    with devices.connected(client_for(credential)) as client:
        client.send_message("who am I")

    [event] = reader.from_device(name)
    method = json.loads(event.system_properties[b"iothub-connection-auth-method"])
    assert (method["scope"], method["type"], method["issuer"]) == (scope, kind, "iothub")
    assert method["acceptingIpFilterRule"] is None
    generation = registry.rest.expect(200, "GET", f"/devices/{name}")["generationId"]
    assert event.system_properties[b"iothub-connection-auth-generation-id"].decode() == generation


def test_an_event_carries_the_annotations_that_readers_rely_on(client_for, reader, name):
    before = time.time()
    with devices.connected(client_for("device key")) as client:
        client.send_message("one")
        client.send_message("two")

    first, second = reader.from_device(name, 2)
    for event in (first, second):
        annotations = event.system_properties
        assert annotations[b"iothub-connection-device-id"].decode() == name
        assert annotations[b"iothub-message-source"] == b"Telemetry"
        assert before - 2 <= annotations[b"iothub-enqueuedtime"] / 1000 <= time.time() + 2
        assert b"iothub-connection-module-id" not in annotations
        assert b"x-opt-partition-key" not in annotations
        assert b"iothub-interface-id" not in annotations
        assert b"dt-dataschema" not in annotations
        assert isinstance(event.sequence_number, int)
        assert isinstance(event.offset, str) and int(event.offset) >= 0
        assert before - 2 <= event.enqueued_time.timestamp() <= time.time() + 2
        assert event.partition_key is None
    assert (body_of(first), body_of(second)) == (b"one", b"two"), "the order of one device is kept"
    assert second.sequence_number > first.sequence_number
    assert int(second.offset) > int(first.offset)


def test_events_of_one_device_stay_in_one_partition_with_contiguous_sequence_numbers(client_for, reader, name):
    with devices.connected(client_for("device key")) as client:
        for number in range(20):
            client.send_message(str(number))

    events = reader.from_device(name, 20)
    assert [body_of(event) for event in events] == [str(number).encode() for number in range(20)]
    numbers = [event.sequence_number for event in events]
    assert numbers == list(range(numbers[0], numbers[0] + 20))


@pytest.mark.parametrize(
    "body",
    [b"", b"\x00", bytes(range(256)), "水🌊".encode(), b'{"a": 1} trailing', b" ", b"\r\n\r\n"],
    ids=["empty", "one zero", "every byte", "unicode", "broken JSON", "a blank", "line ends"],
)
def test_every_body_arrives_as_it_was_sent(body, client_for, reader, name):
    with devices.connected(client_for("device key")) as client:
        client.send_message(Message(body))

    [event] = reader.from_device(name)
    assert body_of(event) == body


def test_a_message_without_properties_has_none(client_for, reader, name):
    with devices.connected(client_for("device key")) as client:
        client.send_message("bare")

    [event] = reader.from_device(name)
    assert properties_of(event) == {}
    assert event.message_id is None
    assert event.content_type is None


@pytest.mark.parametrize(
    "device",
    ["a.b_c-d:e", "50%25", "star*qu?st!", "par(en),th=es@at", "dollar$'quote", "UPPER", "x" * 128],
)
def test_every_legal_character_of_a_device_id_but_wildcards_works_over_mqtt(device, hub, registry, reader):
    with devices.connected(devices.by_key(hub, registry.create(device))) as client:
        client.send_message(f"from {device}")

    [event] = reader.from_device(device)
    assert body_of(event) == f"from {device}".encode()


def test_ids_that_differ_in_case_are_two_devices(hub, registry, reader, name):
    registry.create(name.upper())
    with devices.connected(devices.by_key(hub, registry.create(name))) as client:
        client.send_message("lower")

    [event] = reader.from_device(name)
    assert body_of(event) == b"lower"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_module_sends_under_its_own_name(transport, hub, registry, reader, name):
    registry.create(name)
    module = registry.create_module(name, "m%1")
    with devices.connected(devices.by_key(hub, module, transport == "MQTT over WebSocket")) as client:
        client.send_message("from a module")
        client.send_message_to_output("through an output", "out 1")

    events = reader.from_device(name, 2)
    assert [body_of(event) for event in events] == [b"from a module", b"through an output"]
    for event in events:
        assert event.system_properties[b"iothub-connection-module-id"] == b"m%1"
        method = json.loads(event.system_properties[b"iothub-connection-auth-method"])
        assert (method["scope"], method["type"]) == ("module", "sas")


def test_a_security_message_keeps_out_of_the_telemetry(client_for, reader, name):
    alarm = Message("alarm")
    alarm.set_as_security_message()
    with devices.connected(client_for("device key")) as client:
        client.send_message(alarm)
        client.send_message("ordinary")

    [event] = reader.from_device(name)
    assert body_of(event) == b"ordinary"


def test_the_expiry_of_a_message_is_carried_and_expires_nothing(client_for, reader, name):
    message = Message("old news")
    message.expiry_time_utc = datetime(2020, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    with devices.connected(client_for("device key")) as client:
        client.send_message(message)

    [event] = reader.from_device(name)
    assert body_of(event) == b"old news"
    assert event.system_properties[b"absolute-expiry-time"] == 1577934245000


def test_the_creation_time_property_passes_as_an_application_property(client_for, reader, name):
    message = Message("dated")
    message.custom_properties["iothub-creation-time-utc"] = "2030-01-02T03:04:05.678Z"
    with devices.connected(client_for("device key")) as client:
        client.send_message(message)

    [event] = reader.from_device(name)
    assert properties_of(event) == {"iothub-creation-time-utc": "2030-01-02T03:04:05.678Z"}


def test_a_plug_and_play_device_stamps_its_model_on_telemetry(hub, registry, reader, name):
    model = "dtmi:example:Thermostat;1"
    with devices.connected(devices.by_key(hub, registry.create(name), product_info=model)) as client:
        client.send_message("modelled")

    [event] = reader.from_device(name)
    assert event.system_properties[b"dt-dataschema"].decode() == model

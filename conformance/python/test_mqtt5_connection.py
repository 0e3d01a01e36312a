"""MQTT 5 as Azure's preview documents it: who is admitted, for how long, and what is remembered."""

import socket

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from harness import mqtt5
from harness.certificates import Authority, self_signed
from harness.events import body_of, properties_of
from harness.hub import Hub
from harness.mqtt5 import AUTH, PUBLISH, Device5, again, sas, x509
from harness.raw_amqp import to_the_end
from harness.raw_mqtt import RawDevice, client_context, tls_stream
from harness.rest import Registry
from harness.sas import new_key
from harness.wait import until
from harness.why import Refusals, the_refusal

KEPT = {"session-expiry-interval": 60}


@pytest.fixture
def identity(registry, name):
    return registry.create(name)


def opened(hub, identity, name=None, **options) -> Device5:
    device = Device5(hub)
    assert device.open(name or identity.device, sas(hub, name or identity.device, identity.key), **options).code == 0
    return device


def test_connack_announces_the_limits(hub, identity, name):
    with opened(hub, identity) as device:
        assert device.connack.properties == {
            "receive-maximum": 16,
            "maximum-qos": 1,
            "retain-available": 0,
            "maximum-packet-size": 262_144,
            "topic-alias-maximum": 10,
            "subscription-identifiers-available": 0,
            "shared-subscription-available": 0,
            "authentication-method": b"SAS",
        }
        assert (device.connack.session_present, device.connack.user) == (False, [])


@pytest.mark.parametrize("keep_alive, announced", [(0, 1140), (1140, None), (1141, 1140)])
def test_the_keep_alive_is_at_most_19_minutes(hub, identity, name, keep_alive, announced):
    with opened(hub, identity, keep_alive=keep_alive) as device:
        assert device.connack.properties.get("server-keep-alive") == announced


@pytest.mark.parametrize("asked, announced", [(0, None), (60, 0xFFFFFFFF), (0xFFFFFFFF, None)])
def test_a_session_that_is_kept_does_not_expire(hub, identity, name, asked, announced):
    with opened(hub, identity, properties={"session-expiry-interval": asked}) as device:
        assert device.connack.properties.get("session-expiry-interval") == announced


def test_either_key_of_a_device_admits(hub, identity, name):
    for slot in ("primaryKey", "secondaryKey"):
        key = identity.record["authentication"]["symmetricKey"][slot]
        with Device5(hub) as device:
            assert device.open(name, sas(hub, name, key)).code == 0


def test_a_module_is_admitted_under_its_own_name(hub, identity, registry, reader, name):
    module = registry.create_module(name, "camera")
    with opened(hub, module, f"{name}/camera") as device:
        assert device.publish("$iothub/telemetry", b"from the module").code == 0
        assert device.subscribe("$iothub/commands") == [1]
        hub.cli("c2d", "send", name, "to the module", "--module", "camera")
        assert device.receive(PUBLISH).payload == b"to the module"
    [event] = reader.from_device(name)
    assert event.system_properties[b"iothub-connection-module-id"] == b"camera"


def test_a_key_of_a_policy_admits_and_is_named(hub, identity, name):
    with Device5(hub) as device:
        assert device.open(name, sas(hub, name, hub.policy_key("device"), "device")).code == 0


def test_a_certificate_admits_by_its_thumbprint_or_authority(hub, registry, name, tmp_path):
    own = self_signed(tmp_path, name)
    registry.create(name, {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": own.sha256}})
    root = Authority(tmp_path, f"{name} Root")
    hub.cli("certificate", "add", str(root.certificate_file), "--verified")
    registry.create(f"{name}-ca", {"type": "certificateAuthority"})
    for device_id, credential in [(name, own), (f"{name}-ca", root.issue(f"{name}-ca"))]:
        with Device5(hub, credential=credential) as device:
            assert device.open(device_id, x509(hub)).code == 0
            device.authenticate(({"authentication-method": "X509"}, []))
            assert device.receive(AUTH).code == 0


def test_the_host_may_be_the_server_name_of_the_handshake(tmp_path):
    hub = Hub(data=tmp_path)
    hub.hostnames = (hub.address, "hub.example.net")
    hub.start()
    try:
        key = hub.cli("device", "create", "pump-1")["authentication"]["symmetricKey"]["primaryKey"]
        properties, user = sas(hub, "pump-1", key, host="hub.example.net")
        connect = mqtt5.connect("pump-1", *without((properties, user), "host"))
        with socket.create_connection((hub.address, hub.ports["mqtt"]), 5) as plain:
            with client_context(hub).wrap_socket(plain, server_hostname="hub.example.net") as stream:
                stream.sendall(connect)
                assert stream.recv(4)[::3] == b"\x20\0", "CONNACK with reason code 0"
    finally:
        hub.stop()


def without(authentication, *names):
    properties, user = authentication
    return {k: v for k, v in properties.items() if k not in names}, [pair for pair in user if pair[0] not in names]


def changed(authentication, name, value):
    properties, user = without(authentication, name)
    return (properties | {name: value}, user) if name in mqtt5.TEXTS else (properties, [*user, (name, value)])


@pytest.mark.parametrize(
    "spoil, problem",
    [
        (lambda good: without(good, "authentication-method", "authentication-data"), "Method` is missing"),
        (lambda good: changed(good, "authentication-method", "OAUTH"), "neither SAS nor X509"),
        (lambda good: without(good, "authentication-data"), "Data` is missing"),
        (lambda good: without(good, "api-version"), "`api-version` is missing"),
        (lambda good: changed(good, "api-version", "2021-04-12"), "`api-version` is not"),
        (lambda good: without(good, "host"), "`host` is missing"),
        (lambda good: without(good, "sas-expiry"), "`sas-expiry` is missing"),
        (lambda good: changed(good, "sas-expiry", "soon"), "`sas-expiry` is not a number"),
        (lambda good: changed(good, "sas-at", "now"), "`sas-at` is not a number"),
        (lambda good: changed(good, "password", "x"), "`password` is not known"),
    ],
    ids=["no-method", "method", "no-data", "no-version", "version", "no-host", "no-end", "end", "at", "unknown"],
)
def test_a_connect_that_is_not_of_its_form_is_a_bad_request(hub, identity, name, spoil, problem):
    with Device5(hub) as device:
        answer = device.open(name, spoil(sas(hub, name, identity.key)))
        assert (answer.code, answer.of("status"), answer.session_present) == (131, "0100", False)
        assert problem in answer.of("reason")
    entry = the_refusal(hub, name)
    assert entry["cause"] == "authentication-properties"
    assert problem in entry["explanation"]


def test_a_token_as_password_is_not_looked_at(hub, identity, name):
    with Refusals(hub) as refusals:
        client = paho.Client(name, protocol=paho.MQTTv5)
        client.tls_set_context(client_context(hub))
        client.username_pw_set(f"{hub.hostname}/{name}/?api-version=2021-04-12", identity.token())
        answers = []
        client.on_connect = lambda _c, _u, _flags, reason, properties: answers.append((reason.value, properties))
        client.connect(hub.hostname, hub.ports["mqtt"])
        until(lambda: client.loop() is not None and answers, 10, "CONNACK")
        assert answers[0][0] == 131
        assert ("status", "0100") in answers[0][1].UserProperty
        refusals.of("authentication-properties")


@pytest.mark.parametrize("client_id, code, cause", [("no id", 133, "illegal-id"), ("a/b/c", 133, "illegal-id"), ("", 133, "illegal-id")])
def test_a_client_id_that_is_no_id_is_not_valid(hub, client_id, code, cause):
    with Refusals(hub) as refusals, Device5(hub) as device:
        assert device.open(client_id, sas(hub, client_id, new_key()), clean_start=True).code == code
        refusals.of(cause)


def signed(hub, name, key, text=None, encode=None, **fields) -> tuple[dict, list]:
    """An authentication that is signed in another way than it should be."""
    properties, user = sas(hub, name, key, **fields)
    said = dict(user)
    lines = [hub.hostname, name, "", said["sas-at"], said["sas-expiry"]]
    data = mqtt5.tag(key, text("\n".join(lines) + "\n") if text else "\n".join(lines) + "\n")
    return properties | {"authentication-data": encode(data) if encode else data}, user


def in_seconds(hub, name, key) -> tuple[dict, list]:
    _, user = sas(hub, name, key)
    end = str(int(dict(user)["sas-expiry"]) // 1000)
    user = [pair for pair in user if pair[0] not in ("sas-expiry", "sas-at")] + [("sas-expiry", end)]
    data = mqtt5.signature(key, hub.hostname, name, expiry=end)
    return {"authentication-method": "SAS", "authentication-data": data}, user


@pytest.mark.parametrize(
    "make, cause, word",
    [
        (lambda hub, name, key: sas(hub, name, new_key()), "wrong-key", "device"),
        (lambda hub, name, key: sas(hub, name, hub.policy_key("device")), "hub-key-without-skn", "the policy `device`"),
        (lambda hub, name, key: sas(hub, name, key, "device"), "wrong-key", "policy device"),
        (lambda hub, name, key: sas(hub, name, hub.policy_key("service"), "service"), "missing-right", "DeviceConnect"),
        (lambda hub, name, key: sas(hub, name, key, "nobody"), "unknown-policy", "nobody"),
        (lambda hub, name, key: sas(hub, name, key, seconds=-600), "token-expired", "clock"),
        (lambda hub, name, key: sas(hub, name, key, host="elsewhere.net"), "unknown-host", "elsewhere.net"),
        (in_seconds, "token-in-seconds", "milliseconds"),
        (lambda hub, name, key: signed(hub, name, key, str.strip), "context-signed-other-text", "line feed behind"),
        (lambda hub, name, key: signed(hub, name, key, encode=mqtt5.base64.b64encode), "context-signed-other-text", "base64"),
        (lambda hub, name, key: signed(hub, name, key, encode=lambda tag: tag.hex()), "context-signed-other-text", "hexadecimal"),
    ],
    ids=["key", "policy-not-named", "key-of-device", "right", "policy", "end", "host", "seconds", "feed", "base64", "hex"],
)
def test_a_signature_that_does_not_admit_is_explained(hub, identity, name, make, cause, word):
    with Device5(hub) as device:
        answer = device.open(name, make(hub, name, identity.key))
        assert (answer.code, answer.user, answer.properties) == (135, [], {})
    entry = the_refusal(hub, name)
    assert entry["cause"] == cause
    assert word in str(entry)


def test_the_method_has_to_be_that_of_the_registry(hub, registry, name, tmp_path):
    own = self_signed(tmp_path, name)
    identity = registry.create(name)
    registry.create(f"{name}-x", {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": own.sha256}})
    with Device5(hub, credential=own) as device:
        assert device.open(name, x509(hub)).code == 135
    assert the_refusal(hub, name)["cause"] == "credential-kind"
    with Device5(hub) as device:
        assert device.open(f"{name}-x", sas(hub, f"{name}-x", identity.key)).code == 135
    assert the_refusal(hub, f"{name}-x")["cause"] == "credential-kind"
    with Device5(hub) as device:
        assert device.open(name, x509(hub)).code == 135


def test_the_newer_connection_takes_over_from_either_version(hub, identity, name):
    with opened(hub, identity) as older, opened(hub, identity):
        assert older.ended().code == 142
    with RawDevice(hub, name, identity.token()) as older:
        with opened(hub, identity) as newer:
            assert older.closed.wait(5)
            with RawDevice(hub, name, identity.token()):
                assert newer.ended().code == 142


def test_the_connection_ends_with_its_signature(hub, identity, name):
    with Device5(hub) as device:
        assert device.open(name, sas(hub, name, identity.key, seconds=2)).code == 0
        assert device.ended().code == 135
    assert the_refusal(hub, name)["cause"] == "token-ended"


def test_the_connection_ends_with_the_right_to_it(hub, registry, identity, name):
    with opened(hub, identity) as device:
        registry.update(name, status="disabled")
        assert device.ended().code == 135
    entry = the_refusal(hub, name)
    assert entry["cause"] == "right-ended"


def test_a_client_that_authenticates_again_stays(hub, registry, identity, reader, name):
    other = registry.create(f"{name}-2")
    with Device5(hub) as device, Device5(hub) as witness:
        assert device.open(name, sas(hub, name, identity.key, seconds=2)).code == 0
        device.authenticate(again(hub, name, identity.key))
        answer = device.receive(AUTH)
        assert (answer.code, answer.properties) == (0, {"authentication-method": b"SAS"})
        device.subscribe("$iothub/twin/patch/desired")
        assert witness.open(other.device, sas(hub, other.device, other.key, seconds=3)).code == 0
        assert witness.ended().code == 135, "the former end is over by then"
        assert device.publish("$iothub/telemetry", b"still here").code == 0
        registry.rest.expect(200, "PATCH", f"/twins/{name}", {"properties": {"desired": {"a": 1}}})
        assert device.receive(PUBLISH).of("version") == "2"
        # What the right stands on now is the renewed signature.
        registry.update(name, status="disabled")
        assert device.ended().code == 135


def test_who_began_with_a_key_of_a_policy_authenticates_again_with_one_of_it(hub, identity, name):
    with Device5(hub) as device:
        key = hub.policy_key("device")
        assert device.open(name, sas(hub, name, key, "device")).code == 0
        device.authenticate(again(hub, name, key, "device"))
        assert device.receive(AUTH).code == 0
        device.authenticate(again(hub, name, identity.key))
        assert device.ended().code == 135
    assert the_refusal(hub, name)["cause"] == "wrong-key"


def test_a_new_signature_may_end_sooner(hub, identity, name):
    with opened(hub, identity) as device:
        device.authenticate(again(hub, name, identity.record["authentication"]["symmetricKey"]["secondaryKey"], seconds=2))
        assert device.receive(AUTH).code == 0
        assert device.ended().code == 135
    assert the_refusal(hub, name)["cause"] == "token-ended"


@pytest.mark.parametrize(
    "renew, cause",
    [
        (lambda hub, name, key: again(hub, name, new_key()), "wrong-key"),
        (lambda hub, name, key: again(hub, name, key, seconds=-600), "token-expired"),
        (lambda hub, name, key: (x509(hub)[0], []), "authentication-properties"),
        (lambda hub, name, key: without(again(hub, name, key), "authentication-data"), "authentication-properties"),
        (lambda hub, name, key: changed(again(hub, name, key), "sas-policy", "device"), "authentication-properties"),
    ],
    ids=["key", "end", "method", "no-data", "policy"],
)
def test_who_does_not_authenticate_again_is_disconnected(hub, identity, name, renew, cause):
    with opened(hub, identity) as device:
        device.authenticate(renew(hub, name, identity.key))
        end = device.ended()
        assert (end.code, end.user) == (135, [])
    assert the_refusal(hub, name)["cause"] == cause


def test_a_session_is_kept_as_long_as_it_is_wanted(hub, identity, name):
    with opened(hub, identity, properties=KEPT) as device:
        assert device.subscribe("$iothub/commands", "$iothub/methods/+") == [1, 1]
    hub.cli("c2d", "send", name, "while it was away")
    with opened(hub, identity, properties=KEPT) as device:
        assert device.connack.session_present
        device.acknowledge(device.receive(PUBLISH))
        device.disconnect(properties={"session-expiry-interval": 0})
        assert device.ended() is None
    with opened(hub, identity, properties=KEPT) as device:
        assert not device.connack.session_present, "the client ended it"
        assert device.subscribe("$iothub/commands") == [1]
    with opened(hub, identity, clean_start=True, properties=KEPT) as device:
        assert not device.connack.session_present, "the client began anew"
        assert device.subscribe("$iothub/commands") == [1]
    with opened(hub, identity) as device:
        assert device.connack.session_present, "this connection still has it"
        hub.cli("c2d", "send", name, "to a session without a morrow")
        device.acknowledge(device.receive(PUBLISH))
    with opened(hub, identity, properties=KEPT) as device:
        assert not device.connack.session_present


def test_subscriptions_of_the_other_version_mean_nothing(hub, identity, name):
    with RawDevice(hub, name, identity.token()) as device:
        assert device.subscribe(f"devices/{name}/messages/devicebound/#") == (1,)
    with opened(hub, identity, properties=KEPT) as device:
        assert not device.connack.session_present
        assert device.subscribe("$iothub/commands") == [1]
    with RawDevice(hub, name, identity.token()) as device:
        assert not device.session_present


WILL = mqtt5.will("$iothub/telemetry", b"gone", {"content-type": "text/plain", "will-delay-interval": 60}, [("@left", "yes")])


def test_a_will_is_sent_when_the_connection_is_lost(hub, identity, reader, name):
    with opened(hub, identity, will=WILL):
        pass
    [event] = reader.from_device(name)
    assert body_of(event) == b"gone"
    assert properties_of(event) == {"left": "yes", "iothub-MessageType": "Will"}


def test_a_will_is_sent_on_a_good_bye_only_where_the_client_wants_it(hub, identity, reader, name):
    with opened(hub, identity, will=WILL) as device:
        device.disconnect()
        assert device.ended() is None
    with opened(hub, identity, will=mqtt5.will("$iothub/telemetry", b"left")) as device:
        device.disconnect(4)
        assert device.ended() is None
    [event] = reader.from_device(name)
    assert body_of(event) == b"left"


@pytest.mark.parametrize(
    "topic, flags, code, cause",
    [("elsewhere", 0x0C, 144, "topic"), ("$iothub/telemetry", 0x14, 0x9B, "qos-two"), ("$iothub/telemetry", 0x2C, 0x9A, "protocol")],
    ids=["topic", "qos-2", "retain"],
)
def test_a_will_that_could_not_be_sent_is_refused(hub, identity, name, topic, flags, code, cause):
    with Refusals(hub) as refusals, Device5(hub) as device:
        authentication = sas(hub, name, identity.key)
        assert device.open(name, authentication, will=mqtt5.will(topic, b"x"), will_flags=flags).code == code
        refusals.of(cause)


def test_a_client_that_takes_no_answers_is_refused(hub, identity, name):
    with Device5(hub) as device:
        answer = device.open(name, sas(hub, name, identity.key), properties={"maximum-packet-size": 127})
        assert answer.code == 0x95


def test_silence_ends_with_a_disconnect(hub, identity, name):
    with opened(hub, identity, keep_alive=1) as device:
        assert device.ended().code == 0x8D
    assert the_refusal(hub, name)["cause"] == "keep-alive-missed"


def test_a_hub_that_stops_says_so(tmp_path):
    hub = Hub(data=tmp_path)
    hub.start()
    identity = Registry(hub).create("pump-1")
    with opened(hub, identity) as device:
        hub.stop()
        assert device.ended().code == 0x8B


def test_another_version_is_answered_as_by_mqtt_3(hub):
    with Refusals(hub) as refusals, tls_stream(hub) as stream:
        stream.sendall(b"\x10\x0f\0\x04MQTT\x06\x02\0\x3c\0\0\x02d1")
        assert to_the_end(stream) == b"\x20\x02\x00\x01"
        assert "MQTT 5" in refusals.of("mqtt-version")["expected"]


class Paho:
    """The unmodified paho-mqtt 1.6.1 with MQTT 5."""

    def __init__(self, hub, name, key, websockets=False):
        self.connected, self.messages, self.acknowledged, self.granted = [], [], [], []
        transport = "websockets" if websockets else "tcp"
        self._client = paho.Client(name, protocol=paho.MQTTv5, transport=transport)
        self._client.tls_set_context(client_context(hub))
        if websockets:
            self._client.ws_set_options(path="/$iothub/websocket")
        self._client.on_connect = lambda _c, _u, _f, reason, properties: self.connected.append((reason, properties))
        self._client.on_message = lambda _c, _u, message: self.messages.append(message)
        self._client.on_publish = lambda _c, _u, mid: self.acknowledged.append(mid)
        self._client.on_subscribe = lambda _c, _u, _mid, codes, _p: self.granted.append([code.value for code in codes])
        properties, user = sas(hub, name, key)
        wanted = Properties(PacketTypes.CONNECT)
        wanted.AuthenticationMethod = properties["authentication-method"]
        wanted.AuthenticationData = properties["authentication-data"]
        wanted.UserProperty = user
        port = 443 if websockets else 8883
        self._client.connect(hub.hostname, port, clean_start=False, properties=wanted)
        self._client.loop_start()
        until(lambda: self.connected, 10, "CONNACK")

    def publish(self, topic, payload, qos, user=(), **properties):
        wanted = Properties(PacketTypes.PUBLISH)
        for name, value in properties.items():
            setattr(wanted, name, value)
        if user:
            wanted.UserProperty = list(user)
        return self._client.publish(topic, payload, qos, properties=wanted).mid

    def subscribe(self, *filters):
        self._client.subscribe([(name, paho.SubscribeOptions(1)) for name in filters])
        return until(lambda: self.granted, 10, "SUBACK").pop()

    def message(self):
        return until(lambda: self.messages, 10, "a message").pop(0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._client.disconnect()
        self._client.loop_stop()


@pytest.mark.parametrize("websockets", [False, True], ids=["tls", "websocket"])
def test_paho_sends_asks_and_receives(hub, registry, identity, reader, name, websockets):
    with Paho(hub, name, identity.key, websockets) as client:
        reason, properties = client.connected[0]
        assert (reason.value, properties.ReceiveMaximum, properties.TopicAliasMaximum) == (0, 16, 10)
        sent = client.publish("$iothub/telemetry", b"{}", 1, [("@room", "7")], ContentType="application/json")
        until(lambda: sent in client.acknowledged, 10, "PUBACK")
        [event] = reader.from_device(name)
        assert properties_of(event) == {"room": "7"}
        client.publish("$iothub/twin/patch/reported", b'{"a":1}', 0, CorrelationData=b"\1")
        answer = client.message()
        assert (answer.topic, answer.properties.CorrelationData) == ("$iothub/responses", b"\1")
        assert answer.properties.UserProperty == [("version", "2")]
        assert client.subscribe("$iothub/commands", "$iothub/methods/+", "$iothub/nothing") == [1, 1, 0x8F]
        hub.cli("c2d", "send", name, "hello", "--property", "a=b")
        command = client.message()
        assert (command.topic, command.payload) == ("$iothub/commands", b"hello")
        assert ("@a", "b") in command.properties.UserProperty

"""MQTT 5 as Azure's preview documents it: the operations, by packets made by hand."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import mqtt5
from harness.events import body_of, properties_of, text
from harness.mqtt5 import DISCONNECT, PUBACK, PUBLISH, Device5, sas
from harness.wait import until


@pytest.fixture
def identity(registry, name):
    return registry.create(name)


@pytest.fixture
def device(hub, identity, name):
    with Device5(hub) as device:
        assert device.open(name, sas(hub, name, identity.key)).code == 0
        yield device


def test_telemetry_is_acknowledged_and_its_properties_arrive(device, reader, name):
    user = [
        ("message-id", "m-1"),
        ("user-id", "u"),
        ("correlation-id", "c"),
        ("content-encoding", "utf-8"),
        ("creation-time", "1600987195320"),
        ("@myProperty1", "My String Value"),
        ("@ No_Rules-ForUser-PROPERTIES", "Any UTF-8 ✓"),
    ]
    ack = device.publish("$iothub/telemetry", b"{}", {"content-type": "application/json"}, user)
    assert (ack.code, ack.user, ack.properties) == (0, [], {})
    [event] = reader.from_device(name)
    assert body_of(event) == b"{}"
    system = {text(key): text(value) for key, value in event.system_properties.items()}
    expected = {"message-id": "m-1", "user-id": "u", "correlation-id": "c", "content-encoding": "utf-8"}
    assert {key: system.get(key) for key in expected} == expected
    assert system["content-type"] == "application/json"
    own = properties_of(event)
    assert own.pop("iothub-creation-time-utc", "2020-09-24T22:39:55.3200000Z").startswith("2020-09-24T22:39:55.32")
    assert own == {"myProperty1": "My String Value", " No_Rules-ForUser-PROPERTIES": "Any UTF-8 ✓"}


def test_twin_is_read(device):
    response = device.request("$iothub/twin/get")
    twin = json.loads(response.payload)
    assert response.of("status") is None and twin["desired"]["$version"] == 1 and twin["reported"]["$version"] == 1


def test_telemetry_without_acknowledgement_arrives(device, reader, name):
    device.send(mqtt5.publish("$iothub/telemetry", b"x"))
    [event] = reader.from_device(name)
    assert body_of(event) == b"x"


def test_a_topic_alias_stands_for_a_topic(device, reader, name):
    for number in range(1, 11):
        assert device.publish("$iothub/telemetry", b"named", {"topic-alias": number}).code == 0
        assert device.publish("", b"aliased", {"topic-alias": number}).code == 0
    events = reader.from_device(name, 20)
    assert sorted(body_of(event) for event in events) == [b"aliased"] * 10 + [b"named"] * 10


def test_properties_that_no_operation_names_are_passed_over(device, reader, name):
    passed_over = {
        "payload-format-indicator": 1,
        "message-expiry-interval": 0,
        "response-topic": "a/b",
        "correlation-data": b"x" * 16,
    }
    assert device.publish("$iothub/telemetry", b"x", passed_over).code == 0
    assert reader.from_device(name)


@pytest.mark.parametrize(
    "user",
    [("color", "red"), ("Message-Id", "m"), ("creation-time", "now"), ("creation-time", str(2**63))],
    ids=["unknown", "other-case", "no-time", "out-of-range"],
)
def test_a_property_that_is_not_known_is_a_bad_request(hub, device, name, user):
    ack = device.publish("$iothub/telemetry", b"x", user=[user])
    assert (ack.code, ack.of("status")) == (131, "0100")
    assert user[0] in ack.of("reason")
    assert device.publish("$iothub/telemetry", b"x").code == 0, "the connection goes on"
    device.send(mqtt5.publish("$iothub/telemetry", b"x", user=[user]))
    end = device.ended()
    assert (end.code, end.of("status")) == (131, "0100")
    entries = hub.why(name)
    assert [entry["cause"] for entry in entries] == ["malformed-operation"] * 2
    assert user[0] in entries[0]["presented"]


@pytest.mark.parametrize(
    "topic", ["$iothub/twin/gett", "$iothub/telemetry/", "devices/{name}/messages/events/", "$iothub/commands"]
)
def test_a_topic_that_does_not_exist_is_not_found(hub, device, name, topic):
    topic = topic.format(name=name)
    ack = device.publish(topic, b"x")
    assert (ack.code, ack.of("status"), ack.of("reason")) == (131, "0504", f"Unsupported topic: `{topic}`")
    device.send(mqtt5.publish(topic, b"x"))
    end = device.ended()
    assert (end.code, end.of("reason")) == (144, f"Unsupported topic: `{topic}`")
    assert [entry["cause"] for entry in hub.why(name)] == ["topic"] * 2


def test_refused_and_taken_messages_are_acknowledged_in_their_order(device):
    topics = ["$iothub/telemetry", "$iothub/x"] * 8
    device.send(b"".join(mqtt5.publish(topic, b"x", number) for number, topic in enumerate(topics, 1)))
    acks = [device.receive(PUBACK) for _ in topics]
    assert [(ack.packet_id, ack.code) for ack in acks] == [(n, [131, 0][n % 2]) for n in range(1, 17)]


def test_who_wants_no_problem_information_gets_the_reason_code_alone(hub, identity, name):
    with Device5(hub) as device:
        device.open(name, sas(hub, name, identity.key), properties={"request-problem-information": 0})
        ack = device.publish("$iothub/x", b"x")
        assert (ack.code, ack.user) == (131, [])
        device.send(mqtt5.publish("$iothub/x", b"x"))
        assert device.ended().of("reason"), "a DISCONNECT may carry it all the same"


@pytest.mark.parametrize(
    "sent, code, cause",
    [
        (mqtt5.publish("$iothub/telemetry", b"x", 1, flags=1), 0x9A, "protocol"),
        (b"\x34" + mqtt5.publish("$iothub/telemetry", b"x", 1)[1:], 0x9B, "qos-two"),
        (b"".join(mqtt5.publish("$iothub/telemetry", b"x", n) for n in range(1, 400)), 0x93, "protocol"),
        (mqtt5.publish("$iothub/telemetry", b"x", 1, {"topic-alias": 11}), 0x94, "protocol"),
        (mqtt5.publish("", b"x", 1), 0x82, "protocol"),
        (b"\x32\xfd\xff\x0f", 0x95, "message-too-large"),
        (mqtt5.publish("$iothub/telemetry", bytes(1_000_000), 1), 0x95, "message-too-large"),
        (b"\x32\x05\0\1a\0\1", 0x81, "protocol"),
        (mqtt5.publish("$iothub/telemetry", b"x", 1, {"topic-alias": 0}), 0x94, "protocol"),
        (mqtt5.publish("$iothub/telemetry", b"x", 1, {"response-topic": "a/+"}), 0x82, "protocol"),
        (b"\x30\x07\0\1a\2\x0b\1x", 0x82, "protocol"),
        (b"\x30\x09\0\1a\4\1\1\1\1x", 0x82, "protocol"),
        (mqtt5.publish("a/+", b"x", 1), 0x81, "protocol"),
        (mqtt5.publish("a\0", b"x", 1), 0x81, "protocol"),
        (b"\xc0\1x", 0x81, "protocol"),
        (b"\xc0\x80\0", 0x81, "protocol"),
        (b"\xe0\1\x8e", 0x82, "protocol"),
        (mqtt5.connect("x", {}, []), 0x82, "protocol"),
        (b"\xf0\x02\x18\0", 0x82, "protocol"),
        (b"\xd0\0", 0x82, "protocol"),
    ],
    ids=["retain", "qos-2", "receive-maximum", "alias", "no-topic", "announced", "too-large", "malformed", "alias-0", "response-topic", "subscription-identifier", "twice", "wildcard", "nul", "pingreq-body", "length", "servers-reason", "connect", "auth", "servers"],
)
def test_what_breaks_the_standard_ends_with_its_reason_code(hub, device, name, sent, code, cause):
    device.send(sent)
    end = device.ended()
    assert (end.code, end.user) == (code, [])
    assert [entry["cause"] for entry in hub.why(name)] == [cause]


def test_reported_properties_are_changed_and_give_their_version(registry, device, name):
    response = device.request("$iothub/twin/patch/reported", b'{"rate":5}')
    assert (response.of("version"), response.of("status"), response.payload) == ("2", None, b"")
    again = device.request("$iothub/twin/patch/reported", b'{"rate":6}', [("if-version", "2")])
    assert again.of("version") == "3"
    stale = device.request("$iothub/twin/patch/reported", b'{"rate":7}', [("if-version", "2")])
    assert (stale.of("status"), stale.of("version"), stale.payload) == ("0104", None, b"")
    twin = json.loads(device.request("$iothub/twin/get").payload)
    assert twin["reported"] == {"rate": 6, "$version": 3}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"a.b":1}'])
def test_reported_properties_that_are_none_are_a_bad_request(device, body):
    response = device.request("$iothub/twin/patch/reported", body)
    assert response.of("status") == "0100" and response.of("reason")
    assert device.request("$iothub/twin/get").of("status") is None, "the connection goes on"


@pytest.mark.parametrize("correlation, problem", [(None, "is missing"), (b"x" * 17, "17 bytes")], ids=["none", "long"])
def test_a_request_without_good_correlation_data_ends_the_connection(hub, device, name, correlation, problem):
    properties = {"correlation-data": correlation} if correlation else {}
    device.send(mqtt5.publish("$iothub/twin/get", properties=properties))
    end = device.ended()
    assert (end.code, end.of("status")) == (131, "0100")
    assert problem in end.of("reason")
    [entry] = hub.why(name)
    assert entry["cause"] == "malformed-operation"


def test_a_request_with_qos_1_is_a_bad_request(device):
    ack = device.publish("$iothub/twin/get", properties={"correlation-data": b"1"})
    assert (ack.code, ack.of("status")) == (131, "0100")
    assert device.quiet(PUBLISH)


def test_a_twin_that_is_larger_than_the_client_takes_is_told_apart(hub, identity, name, registry):
    path = f"/twins/{name}"
    registry.rest.expect(200, "PATCH", path, {"properties": {"desired": {"long": "x" * 1000}}})
    with Device5(hub) as device:
        device.open(name, sas(hub, name, identity.key), properties={"maximum-packet-size": 500})
        response = device.request("$iothub/twin/get")
        assert (response.of("status"), response.payload) == ("0503", b"")


def test_changes_of_desired_properties_are_told_with_their_version(device, registry, name):
    path = f"/twins/{name}"
    registry.rest.expect(200, "PATCH", path, {"properties": {"desired": {"a": 1}}})
    assert device.quiet(PUBLISH), "nobody subscribed"
    assert device.subscribe("$iothub/twin/patch/desired", qos=1) == [1]
    registry.rest.expect(200, "PATCH", path, {"properties": {"desired": {"a": 2}}})
    told = device.receive(PUBLISH)
    assert (told.topic, told.flags, told.user) == ("$iothub/twin/patch/desired", 0, [("version", "3")])
    assert json.loads(told.payload) == {"a": 2, "$version": 3}
    assert device.unsubscribe("$iothub/twin/patch/desired", "$iothub/commands", "$iothub/responses") == [0, 17, 0]
    registry.rest.expect(200, "PATCH", path, {"properties": {"desired": {"a": 3}}})
    assert device.quiet(PUBLISH)


@pytest.fixture
def call(registry, name):
    """Calls a method in the background, and gives what will be its answer."""
    pool = ThreadPoolExecutor(1)

    def begin(method: str, payload=None, has_payload: bool = True):
        body = {"methodName": method, "responseTimeoutInSeconds": 10}
        if has_payload:
            body["payload"] = payload
        return pool.submit(registry.rest.call, "POST", f"/twins/{name}/methods", body)

    yield begin
    pool.shutdown()


def failure(answered) -> tuple[int, int]:
    answer = answered.result()
    return answer.status, json.loads(answer.body["Message"])["errorCode"]


def answer(device, called, payload: bytes, user) -> None:
    properties = {"correlation-data": called.properties["correlation-data"]}
    device.send(mqtt5.publish("$iothub/responses", payload, properties=properties, user=user))


@pytest.mark.parametrize("wanted", ["$iothub/methods/+", "$iothub/methods/reboot"])
def test_a_method_is_called_and_answered(device, call, wanted):
    assert device.subscribe(wanted, qos=0) == [0]
    answered = call("reboot", {"delay": 2})
    called = device.receive(PUBLISH)
    assert (called.topic, called.flags, called.payload) == ("$iothub/methods/reboot", 0, b'{"delay": 2}')
    assert len(called.properties["correlation-data"]) == 16
    answer(device, called, b'{"done":true}', [("response-code", "2147483647")])
    assert answered.result().body == {"status": 2147483647, "payload": {"done": True}}


def test_a_call_without_payload_has_none_and_a_status_that_no_service_reads_is_a_bad_answer(device, call):
    device.subscribe("$iothub/methods/+")
    answered = call("reboot", has_payload=False)
    called = device.receive(PUBLISH)
    assert called.payload == b""
    answer(device, called, b"", [("response-code", "4294967295")])
    assert failure(answered) == (502, 502000)


def test_a_device_that_cannot_carry_out_a_call_says_so(device, call):
    device.subscribe("$iothub/methods/+")
    answered = call("reboot")
    answer(device, device.receive(PUBLISH), b"", [("status", "06A0")])
    assert failure(answered) == (404, 404103)


def test_a_method_that_is_not_subscribed_to_is_not_called(device, call):
    device.subscribe("$iothub/methods/reboot")
    assert failure(call("other")) == (404, 404103)
    device.unsubscribe("$iothub/methods/reboot")
    assert failure(call("reboot")) == (404, 404103)
    assert device.quiet(PUBLISH)


def test_an_answer_that_is_no_json_fails_the_call_and_not_the_connection(device, call):
    device.subscribe("$iothub/methods/+")
    answered = call("reboot")
    answer(device, device.receive(PUBLISH), b"\xff", [("response-code", "200")])
    assert answered.result().status == 502
    answer_to_nobody = {"correlation-data": b"nobody"}
    device.send(mqtt5.publish("$iothub/responses", properties=answer_to_nobody, user=[("response-code", "1")]))
    assert device.quiet(DISCONNECT)


def test_an_answer_without_a_response_code_ends_the_connection(device, call):
    device.subscribe("$iothub/methods/+")
    answered = call("reboot")
    answer(device, device.receive(PUBLISH), b"{}", [])
    end = device.ended()
    assert (end.code, end.of("status")) == (131, "0100")
    assert "response-code" in end.of("reason")
    assert failure(answered) == (404, 404104)


def test_a_call_that_is_larger_than_the_client_takes_is_refused(hub, identity, name, call):
    with Device5(hub) as device:
        device.open(name, sas(hub, name, identity.key), properties={"maximum-packet-size": 500})
        device.subscribe("$iothub/methods/+")
        assert call("reboot", "x" * 500).result().status == 413


def send(hub, name, body, *options) -> None:
    hub.cli("c2d", "send", name, body, *options)


def queue_of(hub, name) -> dict:
    return hub.cli("c2d", "list", name)


def test_a_command_arrives_with_its_properties_and_is_completed(hub, device, name):
    assert device.subscribe("$iothub/commands") == [1]
    options = ["--message-id", "m-7", "--correlation-id", "c-7", "--content-type", "text/plain", "--property", "a=b c"]
    send(hub, name, "open the valve", *options)
    command = device.receive(PUBLISH)
    assert (command.topic, command.flags, command.payload) == ("$iothub/commands", 2, b"open the valve")
    assert command.properties == {"content-type": b"text/plain"}
    assert int(command.of("sequence-no")) > 0 and int(command.of("enqueued-time")) > 1_700_000_000_000
    wanted = {"delivery-count": "0", "message-id": "m-7", "correlation-id": "c-7", "@a": "b c"}
    assert {key: command.of(key) for key in wanted} == wanted
    device.acknowledge(command)
    until(lambda: queue_of(hub, name)["completed"] == 1, 5, "the message completed")


def test_a_command_that_is_abandoned_comes_again(hub, device, name):
    device.subscribe("$iothub/commands")
    send(hub, name, "x")
    for count in range(3):
        command = device.receive(PUBLISH)
        assert command.of("delivery-count") == str(count)
        device.acknowledge(command, 131, "0603")
    device.acknowledge(device.receive(PUBLISH))
    until(lambda: queue_of(hub, name)["completed"] == 1, 5, "the message completed")


def test_a_command_that_is_rejected_does_not_come_again(hub, device, name):
    device.subscribe("$iothub/commands")
    send(hub, name, "x")
    device.acknowledge(device.receive(PUBLISH), 131, "0100")
    until(lambda: queue_of(hub, name)["rejected"] == 1, 5, "the message rejected")
    assert device.quiet(PUBLISH)


def test_commands_without_acknowledgement_are_completed_when_they_are_sent(hub, device, name):
    assert device.subscribe("$iothub/commands", qos=0) == [0]
    send(hub, name, "x")
    assert device.receive(PUBLISH).flags == 0
    until(lambda: queue_of(hub, name)["completed"] == 1, 5, "the message completed")


def test_no_more_commands_are_sent_than_the_client_takes_at_a_time(hub, identity, name):
    for number in range(3):
        send(hub, name, str(number))
    with Device5(hub) as device:
        device.open(name, sas(hub, name, identity.key), properties={"receive-maximum": 1})
        device.subscribe("$iothub/commands")
        for number in range(3):
            command = device.receive(PUBLISH)
            assert command.payload == str(number).encode()
            assert device.quiet(PUBLISH), "the one before is not acknowledged"
            device.acknowledge(command)


def test_a_command_that_is_larger_than_the_client_takes_is_rejected(hub, identity, name):
    send(hub, name, "x" * 500)
    send(hub, name, "short")
    with Device5(hub) as device:
        device.open(name, sas(hub, name, identity.key), properties={"maximum-packet-size": 400})
        device.subscribe("$iothub/commands")
        assert device.receive(PUBLISH).payload == b"short"
    assert queue_of(hub, name)["rejected"] == 1


def test_subscriptions_are_taken_as_they_are_documented(hub, device, name):
    filters = {
        "$iothub/commands": 1,
        "$iothub/methods/+": 1,
        "$iothub/twin/patch/desired": 1,
        "$iothub/responses": 0,
        "$iothub/#": 0xA2,
        "$iothub/+": 0xA2,
        "$iothub/methods/#": 0xA2,
        "$iothub/telemetry": 0x8F,
        "$iothub/Commands": 0x8F,
        f"devices/{name}/messages/devicebound/": 0x8F,
    }
    assert device.subscribe(*filters, qos=2) == list(filters.values())
    entries = hub.why(name)
    assert [entry["cause"] for entry in entries] == ["topic-filter"]
    assert "$iothub/#" in entries[0]["presented"]


def test_the_fifty_first_subscription_is_over_the_quota(hub, device, name):
    methods = [f"$iothub/methods/m{number}" for number in range(50)]
    assert device.subscribe(*methods) == [1] * 50
    assert device.subscribe("$iothub/commands", methods[0]) == [0x97, 1]
    assert [entry["cause"] for entry in hub.why(name)] == ["subscriptions-full"]
    assert device.unsubscribe(methods[0]) == [0]
    assert device.subscribe("$iothub/commands") == [1]


def test_a_shared_subscription_ends_the_connection(device):
    number = b"\0\1\0" + mqtt5.text("$share/g/$iothub/commands") + b"\1"
    device.send(mqtt5.packet(mqtt5.SUBSCRIBE, number, 2))
    assert device.ended().code == 0x9E

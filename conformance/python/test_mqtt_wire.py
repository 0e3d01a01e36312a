"""The packets of MQTT as Azure treats them, seen by a plain client."""

import ssl
from urllib.parse import quote

import pytest

from harness import sas
from harness.events import body_of, properties_of, text
from harness.raw_mqtt import RawDevice, connect_packet, tls_stream


@pytest.fixture
def device(hub, registry, name):
    with RawDevice(hub, name, registry.create(name).token()) as device:
        assert device.connack == 0
        yield device


@pytest.mark.parametrize(
    "bag, expected",
    [
        ("", {}),
        ("/", {}),
        ("?a=1", {"a": "1"}),
        ("a=1/", {"a": "1"}),
        ("a=1&a=2", {"a": "2"}),
        ("a=1=2", {"a": "1=2"}),
        ("a%2Bb=c%2Bd", {"a+b": "c+d"}),
        ("a=%", {"a": "%"}),
        ("a=%zz", {"a": "%zz"}),
        ("a=/x/y", {"a": "/x/y"}),
        ("bare", {"bare": ""}),
        ("empty=", {"empty": ""}),
        ("a=%E6%B0%B4", {"a": "水"}),
        ("a=水", {"a": "水"}),
    ],
)
def test_a_property_bag_is_read_as_the_documents_say(bag, expected, device, reader, name):
    topic = f"devices/{name}/messages/events" + ("" if bag == "" else "/" if bag == "/" else f"/{bag}")
    assert device.publish(topic, b"bag")
    [event] = reader.from_device(name)
    assert properties_of(event) == expected


@pytest.mark.parametrize("prefix", ["%24.", "$."], ids=["escaped", "raw"])
def test_system_properties_are_known_with_the_dollar_escaped_or_not(prefix, device, reader, name):
    bag = f"{prefix}ct=application/json&{prefix}ce=utf-8&{prefix}mid=m 1&{prefix}cid=c%201&{prefix}uid=u&{prefix}to=/x"
    assert device.publish(f"devices/{name}/messages/events/{bag}", b"{}")
    [event] = reader.from_device(name)
    system = {text(key): text(value) for key, value in event.system_properties.items()}
    expected = {
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "message-id": "m 1",
        "correlation-id": "c 1",
        "user-id": "u",
        "to": "/x",
    }
    assert {key: system.get(key) for key in expected} == expected


def test_a_retained_message_is_marked_and_not_kept(device, reader, name):
    assert device.publish(f"devices/{name}/messages/events/a=1", b"kept?", retain=True)
    [event] = reader.from_device(name)
    assert properties_of(event) == {"a": "1", "mqtt-retain": "true"}


def test_a_message_of_qos_0_arrives(device, reader, name):
    device.send(f"devices/{name}/messages/events/", b"at most once")
    [event] = reader.from_device(name)
    assert body_of(event) == b"at most once"


def test_a_thousand_messages_in_one_write_are_all_acknowledged_in_order(hub, registry, name):
    """Node sends so when an application does not await each message."""
    topic = f"devices/{name}/messages/events/".encode()
    bodies = (len(topic).to_bytes(2) + topic + number.to_bytes(2) + b"x" for number in range(1, 1001))
    with tls_stream(hub) as stream:
        stream.sendall(connect_packet(hub, name, registry.create(name).token()))
        assert stream.recv(4) == b"\x20\x02\x00\x00"
        stream.sendall(b"".join(b"\x32" + bytes([len(body)]) + body for body in bodies))
        stream.settimeout(10)
        answer = b""
        while len(answer) < 4000:
            answer += stream.recv(4096)
    assert answer == b"".join(b"\x40\x02" + number.to_bytes(2) for number in range(1, 1001))


def test_the_senders_name_in_the_bag_is_not_believed(device, reader, name):
    assert device.publish(f"devices/{name}/messages/events/%24.cdid=somebody&%24.cmid=else", b"x")
    [event] = reader.from_device(name)
    assert event.system_properties[b"iothub-connection-device-id"].decode() == name
    assert b"iothub-connection-module-id" not in event.system_properties


@pytest.mark.parametrize("qos, granted", [(0, (0,)), (1, (1,)), (2, (1,))])
def test_a_subscription_is_granted_up_to_qos_1(qos, granted, device, name):
    assert device.subscribe(f"devices/{name}/messages/devicebound/#", qos) == granted


@pytest.mark.parametrize(
    "topic",
    [
        "devices/another/messages/events/",
        "devices/{name}/modules/m/messages/events/",
        "devices/{upper}/messages/events/",
        "devices/{name}/messages/devicebound/",
        "devices/{name}/messages",
        "$iothub/unknown/",
        "$SYS/broker",
        "home/kitchen",
    ],
)
def test_a_publish_outside_ones_own_topics_closes_the_connection(topic, device, reader, name):
    topic = topic.format(name=name, upper=name.upper())
    assert not device.publish(topic, b"not mine")
    assert device.closed.wait(5)


@pytest.mark.parametrize(
    "filter",
    [
        "#",
        "+/+/messages/devicebound/#",
        "devices/another/messages/devicebound/#",
        "devices/{name}/messages/events/#",
        "devices/+/messages/devicebound/#",
        "$SYS/#",
        "home/kitchen",
    ],
)
def test_a_subscription_outside_ones_own_topics_closes_the_connection(filter, device, name):
    assert device.subscribe(filter.format(name=name)) is None
    assert device.closed.wait(5)


@pytest.mark.parametrize(
    "filter",
    [
        "devices/{name}/messages/devicebound/#",
        "$iothub/methods/POST/#",
        "$iothub/methods/POST/reboot/#",
        "$iothub/twin/res/#",
        "$iothub/twin/PATCH/properties/desired/#",
    ],
)
def test_the_documented_subscriptions_are_granted(filter, device, name):
    assert device.subscribe(filter.format(name=name)) == (1,)
    assert not device.closed.is_set()


def test_a_publish_of_qos_2_closes_the_connection(device, name):
    assert not device.publish(f"devices/{name}/messages/events/", b"x", qos=2)
    assert device.closed.wait(5)


def test_nobody_receives_what_another_device_sends(hub, registry, name):
    other = registry.create(f"{name}-other")
    with RawDevice(hub, name, registry.create(name).token()) as listener:
        listener.subscribe(f"devices/{name}/messages/devicebound/#")
        with RawDevice(hub, other.device, other.token()) as sender:
            assert sender.publish(f"devices/{other.device}/messages/events/", b"private")
        assert listener.publish(f"devices/{name}/messages/events/", b"still here")
        assert listener.messages == []


@pytest.mark.parametrize(
    "client_id, user_name",
    [
        ("{name}-other", "{host}/{name}/?api-version=2021-04-12"),
        ("{name}", "{host}/{name}-other/?api-version=2021-04-12"),
        ("{name}", "other.example.net/{name}/?api-version=2021-04-12"),
        ("{name}", "{name}"),
    ],
    ids=["client id of another", "user name of another", "another hub", "no hub"],
)
def test_a_connect_that_names_somebody_else_is_refused_with_5(client_id, user_name, hub, registry, name):
    identity = registry.create(name)
    registry.create(f"{name}-other")
    values = {"name": name, "host": hub.hostname}
    with RawDevice(hub, client_id.format(**values), identity.token(), user_name.format(**values)) as device:
        assert device.connack == 5
        assert device.closed.wait(5)


@pytest.mark.parametrize(
    "user_name",
    [
        "{host}/{name}/?api-version=2019-10-01&DeviceClientType=py%2F2.14.0%28x%29",
        "{host}/{name}/api-version=2016-11-14",
        "{host}/{name}",
        "{host}/{name}/?api-version=2021-04-12&model-id=dtmi:com:x;1&DeviceClientType=node",
        "{host}/{name}/DeviceClientType=azure-iot-device%2F1.0.14",
        "{host}/{name}/api-version=2016-11-14&DeviceClientType=azure-iot-device/1.0.14",
        "{host}/{name}/?DeviceClientType=c%2f1.0&api-version=2020-09-30&unknown=1",
    ],
)
def test_the_user_names_of_old_and_new_sdks_are_accepted(user_name, hub, registry, name):
    identity = registry.create(name)
    with RawDevice(hub, name, identity.token(), user_name.format(name=name, host=hub.hostname)) as device:
        assert device.connack == 0


@pytest.mark.parametrize("order", ["sig,se,sr", "se,sr,sig", "sr,sig,skn,se"])
def test_the_fields_of_a_token_come_in_any_order(order, hub, registry, name):
    identity = registry.create(name)
    fields = dict(part.split("=", 1) for part in identity.token().split(" ", 1)[1].split("&"))
    fields["skn"] = ""
    token = "SharedAccessSignature " + "&".join(f"{field}={fields[field]}" for field in order.split(","))
    with RawDevice(hub, name, token) as device:
        assert device.connack == 0


def test_a_token_over_an_unescaped_resource_is_accepted(hub, registry, name):
    identity = registry.create(name)
    token = sas.token(identity.resource, identity.key, escape=False)
    assert f"sr={hub.hostname}/devices/{name}&" in token
    with RawDevice(hub, name, token) as device:
        assert device.connack == 0


@pytest.mark.parametrize("scope", ["{host}", "{host}/devices", "{host}/devices/{name}"])
def test_a_policy_token_may_cover_the_device_by_any_prefix(scope, hub, registry, name):
    registry.create(name)
    scope = scope.format(host=hub.hostname, name=name)
    with RawDevice(hub, name, sas.token(scope, hub.policy_key("device"), "device")) as device:
        assert device.connack == 0


@pytest.mark.parametrize("scope", ["{host}/devices/{name}x", "{host}/devic", "{host}/devices/{name}/modules/m", "x"])
def test_a_token_for_another_scope_is_refused(scope, hub, registry, name):
    registry.create(name)
    scope = scope.format(host=hub.hostname, name=name)
    with RawDevice(hub, name, sas.token(scope, hub.policy_key("device"), "device")) as device:
        assert device.connack == 5


@pytest.mark.parametrize("escape", [lambda text: text, lambda text: quote(text, safe="")], ids=["as it is", "escaped"])
def test_a_token_names_an_odd_device_as_it_is_or_escaped_as_net_clients_do(escape, hub, registry, name):
    identity = registry.create(f"{name}%25?,")
    resource = f"{hub.hostname}/devices/{escape(identity.device)}"
    with RawDevice(hub, identity.device, sas.token(resource, identity.key)) as device:
        assert device.connack == 0


def test_the_secondary_key_signs_as_well_as_the_primary(hub, registry, name):
    identity = registry.create(name)
    secondary = identity.record["authentication"]["symmetricKey"]["secondaryKey"]
    with RawDevice(hub, name, identity.token(key=secondary)) as device:
        assert device.connack == 0


def test_anything_before_connect_closes_the_connection(hub):
    with tls_stream(hub) as stream:
        stream.sendall(b"\xc0\x00")  # PINGREQ
        assert ends(stream)


def test_a_second_connect_closes_the_connection(hub, registry, name):
    identity = registry.create(name)
    with RawDevice(hub, name, identity.token()) as device:
        device.connect_again()
        assert device.closed.wait(5)


def test_mqtt_3_1_is_refused_with_code_1(hub):
    with tls_stream(hub) as stream:
        stream.sendall(b"\x10\x10\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x02d1")
        assert stream.recv(4) in (b"\x20\x02\x00\x01", b"")


@pytest.mark.parametrize(
    "data",
    [b"\x10\xff\xff\xff\xff\xff", b"\x10\xff\xff\xff\x7f", b"\x00\x00", b"\x10\x02\x00\x09"],
    ids=["endless length", "256 MiB announced", "packet type 0", "truncated name"],
)
def test_bytes_that_are_no_mqtt_close_the_connection(data, hub):
    with tls_stream(hub) as stream:
        stream.sendall(data)
        if data[1:] == b"\xff\xff\xff\x7f":
            stream.sendall(b"\x00\x04MQTT\x04\x02\x00\x3c" + bytes(1024))
        assert ends(stream)


def ends(stream) -> bool:
    """Whether the hub closes the stream without an answer, soon."""
    stream.settimeout(5)
    try:
        return stream.recv(1) == b""
    except (ConnectionResetError, ssl.SSLEOFError):
        return True

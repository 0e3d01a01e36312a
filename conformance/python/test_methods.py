"""Direct methods: the unmodified azure-iot-hub calls, the unmodified azure-iot-device answers."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import requests
from azure.iot.device import MethodResponse
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import CloudToDeviceMethod
from msrest.exceptions import HttpOperationError

from harness import devices, sas
from harness.hub import Hub
from harness.raw_mqtt import RawDevice
from harness.rest import Registry, Rest, device_path
from harness.wait import until

TRANSPORTS = {"mqtt": False, "mqtt-ws": True}
PAYLOADS = [None, True, 0, -1.5, "", "text ü", [], [1, None], {}, {"deep": {"a": [1, {"b": None}]}}]


@pytest.fixture(scope="module")
def manager(hub):
    return IoTHubRegistryManager.from_connection_string(hub.service_connection_string)


def method(name: str, payload=None, **times) -> CloudToDeviceMethod:
    return CloudToDeviceMethod(method_name=name, payload=payload, **times)


def answering(client, respond) -> None:
    """Has a client of the SDK answer each call with what `respond` gives: status and payload."""

    def handle(request):
        status, payload = respond(request)
        client.send_method_response(MethodResponse.create_from_method_request(request, status, payload))

    client.on_method_request_received = handle


@contextmanager
def raw(hub, identity, answers: bytes | None = None, status: str = "200"):
    """A connected device by hand that answers every call with the same bytes; with none when there are none."""
    name = identity.device
    with RawDevice(hub, name, identity.token()) as device:
        if answers is not None:
            device._client.on_message = lambda _c, _u, message: (
                device.messages.append(message),
                device.send(f"$iothub/methods/res/{status}/?$rid={request_id(message)}", answers),
            )
        device.subscribe("$iothub/methods/POST/#", qos=0)
        yield device


def request_id(message) -> str:
    return message.topic.rpartition("/?$rid=")[2]


# What both SDKs do.


@pytest.mark.parametrize("websockets", TRANSPORTS.values(), ids=TRANSPORTS)
@pytest.mark.parametrize("kind", ["device", "module"])
def test_a_method_is_called_and_answered(hub, registry, manager, name, kind, websockets):
    identity = registry.create(name)
    if kind == "module":
        identity = registry.create_module(name, "m1")
    with devices.connected(devices.by_key(hub, identity, websockets)) as client:
        answering(client, lambda request: (207, {"name": request.name, "echo": request.payload}))
        for payload in PAYLOADS:
            called = method("doIt", payload, response_timeout_in_seconds=10)
            result = (
                manager.invoke_device_method(name, called)
                if kind == "device"
                else manager.invoke_device_module_method(name, "m1", called)
            )
            # azure-iot-hub sends "" in place of None.
            echo = "" if payload is None else payload
            assert (result.status, result.payload) == (207, {"name": "doIt", "echo": echo})


def test_calls_to_one_device_run_at_the_same_time(hub, registry, manager, name):
    with devices.connected(devices.by_key(hub, registry.create(name))) as client:
        together = threading.Barrier(5)

        def respond(request):
            together.wait(10)
            return 200, request.payload

        def handle(request):
            threading.Thread(target=lambda: send(client, request, *respond(request))).start()

        client.on_method_request_received = handle
        with ThreadPoolExecutor(5) as pool:
            call = lambda n: manager.invoke_device_method(name, method("m", n)).payload
            assert list(pool.map(call, range(5))) == list(range(5))


def send(client, request, status, payload):
    client.send_method_response(MethodResponse.create_from_method_request(request, status, payload))


@pytest.mark.parametrize("status", [0, 404, 500, -1])
def test_the_status_of_the_device_is_not_that_of_http(hub, registry, name, status):
    with raw(hub, registry.create(name), b'"x"', str(status)):
        answer = call(Rest(hub, "service"), name)
    assert (answer.status, answer.body) == (200, {"status": status, "payload": "x"})


def call(rest: Rest, name: str, **body):
    return rest.call("POST", f"/twins/{name}/methods", {"methodName": "m", **body})


# Failures.


def failure(answer) -> dict:
    """The failure inside an answer, which Azure writes as JSON within JSON."""
    assert set(answer.body) == {"Message", "ExceptionMessage"} and answer.body["ExceptionMessage"] == ""
    inner = json.loads(answer.body["Message"])
    assert set(inner) == {"errorCode", "trackingId", "message", "info", "timestampUtc"}
    assert inner["info"] is None, "the .NET SDK does not find the code beside an object"
    return inner


def test_a_device_that_is_offline_is_told_at_once(hub, registry, name):
    registry.create(name)
    begun = time.monotonic()
    answer = call(Rest(hub), name)
    assert time.monotonic() - begun < 2
    assert (answer.status, answer.error) == (404, "DeviceNotOnline")
    assert failure(answer)["errorCode"] == 404103
    assert failure(answer)["message"] == "Timed out waiting for device to connect."


def test_a_connected_device_that_did_not_subscribe_is_offline_for_methods(hub, registry, name):
    with RawDevice(hub, name, registry.create(name).token()) as device:
        device.subscribe("$iothub/twin/res/#")
        assert call(Rest(hub), name).error == "DeviceNotOnline"
        assert device.messages == []


def test_a_device_that_does_not_answer_times_out(hub, registry, name):
    with raw(hub, registry.create(name)) as device:
        begun = time.monotonic()
        answer = call(Rest(hub), name, responseTimeoutInSeconds=5)
        took = time.monotonic() - begun
        assert (answer.status, answer.error) == (504, "GatewayTimeout")
        assert failure(answer)["errorCode"] == 504101
        assert 4.5 < took < 5, "a little before the deadline, for Node waits no longer"
        # The answer that comes too late, or twice, is passed over.
        [message] = device.messages
        for _ in range(2):
            assert device.publish(f"$iothub/methods/res/200/?$rid={request_id(message)}", b"{}")
        assert not device.closed.is_set()


def test_a_connection_that_is_lost_ends_the_call_at_once(hub, registry, name):
    identity = registry.create(name)
    with raw(hub, identity) as device, ThreadPoolExecutor(1) as pool:
        pending = pool.submit(call, Rest(hub), name)
        until(lambda: device.messages, 10, "the call")
        device.close()
        answer = pending.result(10)
    assert (answer.status, answer.error) == (404, "DeviceConnectionClosedRemotely")
    assert failure(answer)["errorCode"] == 404104


def test_a_takeover_ends_the_calls_of_the_older_connection(hub, registry, name):
    identity = registry.create(name)
    with raw(hub, identity) as device, ThreadPoolExecutor(1) as pool:
        pending = pool.submit(call, Rest(hub), name)
        until(lambda: device.messages, 10, "the call")
        with RawDevice(hub, name, identity.token()):
            assert pending.result(10).error == "DeviceConnectionClosedRemotely"


@pytest.mark.parametrize("answers", [b"{", b"plain text", b"\xff"])
def test_an_answer_that_is_no_json_is_502_and_the_device_stays(hub, registry, name, answers):
    with raw(hub, registry.create(name), answers) as device:
        answer = call(Rest(hub), name)
        assert (answer.status, answer.error, failure(answer)["errorCode"]) == (502, "GenericBadGateway", 502000)
        assert not device.closed.is_set()


def test_an_empty_answer_is_null(hub, registry, name):
    with raw(hub, registry.create(name), b""):
        assert call(Rest(hub), name).body == {"status": 200, "payload": None}


def test_an_answer_over_128_kib_is_413(hub, registry, name):
    with raw(hub, registry.create(name), b'"' + b"x" * (128 * 1024) + b'"') as device:
        assert (call(Rest(hub), name).status, device.closed.is_set()) == (413, False)


def test_the_largest_payload_goes_both_ways(hub, registry, manager, name):
    largest = "x" * (128 * 1024 - 2)
    with devices.connected(devices.by_key(hub, registry.create(name))) as client:
        answering(client, lambda request: (200, request.payload))
        assert manager.invoke_device_method(name, method("m", largest)).payload == largest
        with pytest.raises(HttpOperationError) as refused:
            manager.invoke_device_method(name, method("m", largest + "x"))
    assert refused.value.response.status_code == 413


@pytest.mark.parametrize(
    "body, code",
    [
        ({"methodName": ""}, "ArgumentNull"),
        ({"methodName": "a/b"}, "ArgumentInvalid"),
        ({"methodName": "a#"}, "ArgumentInvalid"),
        ({"methodName": "x" * 101}, "ArgumentInvalid"),
        ({"responseTimeoutInSeconds": 4}, "ArgumentInvalid"),
        ({"responseTimeoutInSeconds": 301}, "ArgumentInvalid"),
        ({"connectTimeoutInSeconds": 301}, "ArgumentInvalid"),
        ({"connectTimeoutInSeconds": "five"}, "ArgumentInvalid"),
    ],
    ids=str,
)
def test_a_call_that_cannot_be_made_says_what_is_wrong(hub, registry, name, body, code):
    registry.create(name)
    answer = call(Rest(hub), name, **body)
    assert (answer.status, answer.error) == (400, code)
    assert answer.body["Message"].startswith(f"ErrorCode:{code};")


def test_who_is_not_registered_or_disabled_is_not_found(hub, registry, name):
    rest = Rest(hub)
    assert (call(rest, name).status, call(rest, name).error) == (404, "DeviceNotFound")
    registry.create(name)
    answer = rest.call("POST", f"/twins/{name}/modules/none/methods", {"methodName": "m"})
    assert (answer.status, answer.error) == (404, "ModuleNotFound")
    registry.update(name, status="disabled")
    assert call(rest, name).error == "DeviceNotFound"


def test_ten_calls_may_wait_for_one_device(hub, registry, name):
    with raw(hub, registry.create(name)) as device, ThreadPoolExecutor(10) as pool:
        waiting = [pool.submit(call, Rest(hub), name) for _ in range(10)]
        until(lambda: len(device.messages) == 10, 10, "ten calls")
        answer = call(Rest(hub), name)
        assert (answer.status, answer.error) == (403, "DeviceMaximumInflightMethodExceeded")
        for message in device.messages:
            device.send(f"$iothub/methods/res/200/?$rid={request_id(message)}", b"1")
        assert [one.result(10).status for one in waiting] == [200] * 10


# What implementers miss.


def test_a_call_waits_for_a_device_that_is_just_connecting(hub, registry, manager, name):
    identity = registry.create(name)
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(manager.invoke_device_method, name, method("m", 1, connect_timeout_in_seconds=20))
        with devices.connected(devices.by_key(hub, identity)) as client:
            assert not pending.done()
            answering(client, lambda request: (200, request.payload))
            assert pending.result(10).payload == 1


def test_a_call_waits_for_a_session_that_is_restored(hub, registry, name):
    # Python subscribes once and never again: the subscription of the stored session has to do.
    identity = registry.create(name)
    with raw(hub, identity):
        pass
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(call, Rest(hub), name, connectTimeoutInSeconds=20)
        with RawDevice(hub, name, identity.token()) as device:
            assert device.session_present
            until(lambda: device.messages, 10, "the call")
            device.send(f"$iothub/methods/res/200/?$rid={request_id(device.messages[0])}", b"1")
            assert pending.result(10).body == {"status": 200, "payload": 1}


def test_a_call_that_waited_in_vain_says_so_when_the_connect_time_is_over(hub, registry, name):
    registry.create(name)
    begun = time.monotonic()
    assert call(Rest(hub), name, connectTimeoutInSeconds=2).error == "DeviceNotOnline"
    assert 1.5 < time.monotonic() - begun < 2


def test_a_call_is_sent_with_qos_0_a_plain_request_id_and_an_empty_body_for_no_payload(hub, registry, name):
    with raw(hub, registry.create(name), b"{}") as device:
        call(Rest(hub), name)
        call(Rest(hub), name, payload=None)
        call(Rest(hub), name, payload="")
    assert [message.payload for message in device.messages] == [b"", b"null", b'""']
    for message in device.messages:
        head, _, rid = message.topic.rpartition("/?$rid=")
        assert head == "$iothub/methods/POST/m" and message.qos == 0 and not message.retain
        assert rid.replace("-", "").isalnum() and len(rid) == 36


def test_a_payload_goes_both_ways_byte_for_byte(hub, registry, name):
    written = b'{"b": [1,  2.50, 1E+2], "a":"\\u00e9", "n": 123456789012345678901234567890}'
    with raw(hub, registry.create(name), written) as device:
        body = b'{"methodName":"m","payload":' + written + b"}"
        token = sas.token(hub.hostname, hub.policy_key("service"), "service")

        answer = requests.post(
            f"https://{hub.hostname}{device_path(name).replace('/devices/', '/twins/')}/methods?api-version=2021-04-12",
            data=body,
            headers={"Authorization": token},
            verify=hub.ca_file,
            timeout=15,
        )
    assert device.messages[0].payload == written
    assert answer.content == b'{"status":200,"payload":' + written + b"}"


@pytest.mark.parametrize("status", [2**31, -(2**31) - 1, 2**63, 10**30])
def test_a_status_beyond_32_bits_is_a_bad_answer(hub, registry, name, status):
    with raw(hub, registry.create(name), b"{}", status=str(status)):
        answer = call(Rest(hub), name)
        assert (answer.status, answer.error) == (502, "GenericBadGateway")


@pytest.mark.parametrize("status", [2**31 - 1, -(2**31)])
def test_a_status_of_32_bits_goes_on(hub, registry, name, status):
    with raw(hub, registry.create(name), b"{}", status=str(status)):
        assert call(Rest(hub), name).body == {"status": status, "payload": {}}


def test_times_may_be_texts_as_az_iot_sends_them(hub, registry, name):
    with raw(hub, registry.create(name), b"{}"):
        assert call(Rest(hub), name, responseTimeoutInSeconds="10", connectTimeoutInSeconds="0").status == 200
        refused = call(Rest(hub), name, responseTimeoutInSeconds="ten")
        assert (refused.status, refused.error) == (400, "ArgumentInvalid")
        assert "`responseTimeoutInSeconds`" in refused.body["Message"]


def test_a_device_that_subscribed_to_one_method_gets_that_one_only(hub, registry, name):
    with RawDevice(hub, name, registry.create(name).token()) as device:
        device.subscribe("$iothub/methods/POST/reboot/#")
        assert call(Rest(hub), name).error == "DeviceNotOnline"
        assert device.messages == []


@pytest.mark.parametrize("topic", ["ok/?$rid=1", "200/", "200/?$rid=", ""])
def test_an_answer_on_a_topic_that_does_not_exist_ends_the_connection(hub, registry, name, topic):
    with raw(hub, registry.create(name)) as device:
        device.send(f"$iothub/methods/res/{topic}", b"{}")
        assert device.closed.wait(5)


def test_a_service_that_goes_leaves_nothing_behind(hub, registry, name):
    # Its places are free again: ten services that gave up do not lock the device.
    with raw(hub, registry.create(name)) as device:
        for n in range(12):
            with pytest.raises(Exception):
                impatient(hub, name)
            until(lambda: len(device.messages) == n + 1, 10, "the call")


def impatient(hub, name):

    token = sas.token(hub.hostname, hub.policy_key("service"), "service")
    url = f"https://{hub.hostname}/twins/{name}/methods?api-version=2021-04-12"
    requests.post(url, json={"methodName": "m"}, headers={"Authorization": token}, verify=hub.ca_file, timeout=0.3)


def test_a_hub_that_stops_waits_for_no_device(tmp_path):
    hub = Hub(data=tmp_path).start()
    Registry(hub).create("away")
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(call, Rest(hub), "away", connectTimeoutInSeconds=300)
        # The call is on record once it is admitted.
        until(lambda: any("methods" in record["act"].get("name", "") for record in hub.cli("audit", "list")), 10)
        begun = time.monotonic()
        hub.stop()
        assert time.monotonic() - begun < 4, "sooner than connections are cut"
        assert pending.result(10).error == "ServiceUnavailable"

"""What the binary promises to those who start it and to those who script it."""

import os
import queue
import signal
import socket
import stat
import subprocess

import pytest
from azure.iot.device import MethodResponse

from harness import devices
from harness.address import fresh_address
from harness.events import body_of
from harness.hub import Hub, HubFailure, binary, connection_string_parts
from harness.raw_mqtt import RawDevice
from harness.rest import Identity, Registry
from harness.wait import until


def test_the_ready_file_says_all_that_a_script_needs(hub):
    ready = hub.ready
    assert os.kill(ready["pid"], 0) is None
    assert ready["hostname"] == hub.address
    assert ready["ports"] == {"https": 443, "mqtt": 8883, "amqp": 5671}
    assert "BEGIN CERTIFICATE" in hub.ca_text
    assert set(ready["policies"]) == {"iothubowner", "service", "device", "registryRead", "registryReadWrite"}
    for policy, text in ready["policies"].items():
        parts = connection_string_parts(text)
        assert (parts["HostName"], parts["SharedAccessKeyName"]) == (hub.address, policy)
    assert ready["service_connection_string"] == ready["policies"]["iothubowner"]
    assert connection_string_parts(ready["eventhub_connection_string"])["EntityPath"]
    assert stat.S_IMODE(os.stat(ready["management_credential_file"]).st_mode) == 0o600


def test_a_ready_file_that_outlived_its_hub_is_refused_and_replaced(tmp_path):
    hub = Hub(data=tmp_path).start()
    left = hub.ready_file.read_text()
    second = [binary(), "dev", "--listen", fresh_address(), "--ready-file", str(hub.ready_file)]
    refused = subprocess.run(second, capture_output=True, text=True, timeout=20)
    assert refused.returncode == 1 and "ready file of a hub that runs" in refused.stderr
    hub.kill()
    assert hub.ready_file.read_text() == left
    with pytest.raises(HubFailure, match="is left over: the hub that wrote it .* ended"):
        hub.cli("device", "list")
    hub.start()
    try:
        assert hub.cli("device", "list") == []
    finally:
        hub.stop()
    assert not hub.ready_file.exists()


def test_the_keys_of_the_policies_differ(hub):
    assert len({hub.policy_key(policy) for policy in hub.ready["policies"]}) == 5


def test_a_device_made_on_the_command_line_connects_and_sends(hub, reader, name):
    made = hub.cli("device", "create", name)
    identity = Identity(hub, made)
    with devices.connected(devices.by_key(hub, identity)) as client:
        client.send_message("hello")
    [event] = reader.from_device(name)
    assert body_of(event) == b"hello"


def test_a_twin_is_shown_changed_and_replaced_on_the_command_line(hub, registry, name, tmp_path):
    registry.create(name)
    registry.create_module(name, "m1")
    assert hub.cli("twin", "get", name)["properties"]["desired"]["$version"] == 1
    tags = tmp_path / "tags.json"
    tags.write_text('{"site": "north"}')
    updated = hub.cli("twin", "update", name, "--desired", '{"rate": 5, "old": 1}', "--tags", f"@{tags}")
    assert (updated["tags"], updated["properties"]["desired"]["rate"]) == ({"site": "north"}, 5)
    replaced = hub.cli("twin", "replace", name, "--desired", '{"rate": 6}', "--etag", updated["etag"])
    assert "old" not in replaced["properties"]["desired"] and replaced["tags"] == {"site": "north"}
    assert hub.cli("twin", "update", name, "--module", "m1", "--tags", '{"a": 1}')["moduleId"] == "m1"
    for arguments, words in [
        (["update", name, "--tags", "north"], "--tags is not JSON"),
        (["update", name, "--desired", '{"n": 18446744073709551616}'], "`--desired.n` is 18446744073709551616, a whole number"),
        (["update", name, "--tags", "5"], "it takes a JSON object"),
        (["update", name, "--desired", '{"a.b": 1}'], "`properties.desired.a.b` has '.' in its key"),
        (["update", name, "--tags", "{}", "--etag", updated["etag"]], "the ETag does not match"),
        (["update", name], "--tags"),
        (["get", "nobody"], "'nobody' is not registered"),
    ]:
        assert words in complaint(hub, "twin", *arguments)


def complaint(hub, *arguments) -> str:
    """What a command that has to fail says."""
    command = [binary(), *arguments, "--ready-file", str(hub.ready_file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode != 0 and "panicked" not in done.stderr
    return done.stderr


def test_a_method_is_called_on_the_command_line(hub, registry, name):
    assert "not connected" not in complaint(hub, "method", "call", name, "m")
    client = devices.by_key(hub, registry.create(name))
    offline = complaint(hub, "method", "call", name, "m")
    assert "the device is not connected" in offline and "--connect-timeout" in offline
    with devices.connected(client):
        client.on_method_request_received = lambda request: client.send_method_response(
            MethodResponse.create_from_method_request(request, 201, {"echo": request.payload})
        )
        answer = hub.cli("method", "call", name, "m", "--payload", '{"rate": [5, null]}', "--connect-timeout", "10")
    assert answer == {"status": 201, "payload": {"echo": {"rate": [5, None]}}}
    assert "--payload is not JSON" in complaint(hub, "method", "call", name, "m", "--payload", "rate")
    assert "lies between 5 and 300" in complaint(hub, "method", "call", name, "m", "--response-timeout", "1")


def test_messages_are_sent_listed_and_purged_on_the_command_line(hub, registry, name):
    identity = registry.create(name)
    options = ["--message-id", "m-1", "--property", "unit=°C", "--content-type", "application/json", "--ack", "full"]
    sent = hub.cli("c2d", "send", name, '{"rate":5}', *options, "--expires-in", "600")
    hub.cli("c2d", "send", name, "second")
    waiting = hub.cli("c2d", "list", name)["waiting"]
    assert [(m["sequence"], m["messageId"], m["ack"], m["deliveries"]) for m in waiting] == [
        (sent["sequence"], "m-1", "full", 0),
        (sent["sequence"] + 1, None, "none", 0),
    ]

    arrived = queue.Queue()
    client = devices.by_key(hub, identity)
    client.on_message_received = arrived.put
    with devices.connected(client):
        first, second = arrived.get(timeout=15), arrived.get(timeout=15)
    assert (first.data, first.message_id, first.content_type) == (b'{"rate":5}', "m-1", "application/json")
    assert first.custom_properties == {"unit": "°C"}
    assert second.data == b"second"
    until(lambda: hub.cli("c2d", "list", name)["waiting"] == [])

    hub.cli("c2d", "send", name, "third")
    assert hub.cli("c2d", "purge", name)["totalMessagesPurged"] == 1
    counts = {"sent": 3, "completed": 2, "rejected": 0, "expired": 0, "deliveryCountExceeded": 0, "purged": 1}
    listed = hub.cli("c2d", "list", name)
    # Those with an id are remembered by name when they are gone.
    assert [(m["messageId"], m["fate"]) for m in listed.pop("passed")] == [("m-1", "completed")]
    assert listed == {**counts, "waiting": []}


def test_a_module_has_a_queue_of_its_own_on_the_command_line(hub, registry, name):
    registry.create(name)
    registry.create_module(name, "m1")
    hub.cli("c2d", "send", name, "for the module", "--module", "m1")
    assert hub.cli("c2d", "list", name)["waiting"] == []
    assert len(hub.cli("c2d", "list", name, "--module", "m1")["waiting"]) == 1


def test_a_message_for_nobody_is_an_error_that_names_whom(hub, name):
    for arguments in (["send", name, "x"], ["list", name]):
        with pytest.raises(HubFailure, match=name):
            hub.cli("c2d", *arguments)


def test_an_error_of_the_command_line_ends_with_a_status_and_a_sentence(hub, name):
    hub.cli("device", "create", name)
    command = [binary(), "device", "create", name, "--ready-file", str(hub.ready_file), "-o", "json"]
    again = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert again.returncode != 0
    assert name in again.stderr and "panicked" not in again.stderr


def test_two_hubs_run_side_by_side_on_the_same_ports(hub, tmp_path):
    other = Hub(data=tmp_path).start()
    try:
        assert other.ports == hub.ports
        assert other.policy_key("iothubowner") != hub.policy_key("iothubowner")
    finally:
        other.stop()


def test_an_address_that_is_taken_is_named_in_the_refusal_to_start(hub, tmp_path):
    command = [binary(), "dev", "--listen", hub.address, "--ready-file", str(tmp_path / "ready"), "--data", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode != 0
    assert hub.address in done.stderr
    assert not (tmp_path / "ready").exists()


def test_a_data_directory_serves_one_hub_at_a_time(hub, tmp_path):
    ready_file = tmp_path / "ready"
    command = [binary(), "dev", "--listen", fresh_address(), "--ready-file", str(ready_file), "--data", str(hub.data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode != 0
    assert not ready_file.exists()


def test_another_host_name_is_served_when_asked_for(tmp_path):
    named = Hub(data=tmp_path, hostnames=("hub.conformance.test",)).start()
    try:
        assert named.hostname == "hub.conformance.test"
        assert connection_string_parts(named.service_connection_string)["HostName"] == "hub.conformance.test"
    finally:
        named.stop()


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT], ids=lambda value: value.name)
@pytest.mark.parametrize("peer", ["a device", "a socket that says nothing"])
def test_a_signal_ends_the_hub_while_somebody_is_connected(peer, sent, tmp_path):
    hub = Hub(data=tmp_path).start()
    if peer == "a device":
        with RawDevice(hub, "d1", Registry(hub).create("d1").token()) as device:
            assert hub.end(sent) == 0
            assert device.closed.wait(2)
    else:
        with socket.create_connection((hub.address, hub.ports["mqtt"])):
            assert hub.end(sent) == 0


def test_no_key_and_no_token_is_printed(hub, registry, name):
    identity = registry.create(name)
    token = identity.token()
    with RawDevice(hub, name, token) as device:
        assert device.connack == 0
    with RawDevice(hub, name, token + "x") as device:
        assert device.connack == 5
    printed = (hub.folder / "stderr").read_text() + (hub.folder / "stdout").read_text()
    for secret in (identity.key, token, token.split("sig=")[1].split("&")[0]):
        assert secret not in printed


def test_a_reader_that_goes_early_is_no_fault(hub):
    command = f"{os.environ['HOLDFAST_BIN']} posture checks --ready-file {hub.ready_file} | true"
    for _ in range(5):
        done = subprocess.run(["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True, timeout=20)
        assert done.returncode in (0, 141) and done.stderr == "", (done.returncode, done.stderr)

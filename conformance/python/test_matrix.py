"""Everything that azure-iot-device for Python can say, on each of its transports, with each kind of credential, as device and as
module. docs/sdk.md has the table of it. What is particular stands in the tests of each feature; here nothing may be missing.
"""

import queue

import pytest
from azure.iot.device import IoTHubDeviceClient, IoTHubModuleClient, Message, MethodResponse, X509
from azure.iot.hub.models import CloudToDeviceMethod, Twin, TwinProperties
from azure.storage.blob import BlobClient

from harness import devices
from harness.certificates import Authority, self_signed
from harness.events import device_of, properties_of
from harness.wait import until

TRANSPORTS = {"mqtt": False, "mqtt-ws": True}
CREDENTIALS = ("a key", "a thumbprint", "a CA")


@pytest.fixture(scope="module")
def authority(hub, tmp_path_factory):
    root = Authority(tmp_path_factory.mktemp("certificates"), "matrix root")
    hub.cli("certificate", "add", str(root.certificate_file), "--verified")
    return root


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("credential", CREDENTIALS)
@pytest.mark.parametrize("kind", ("device", "module"))
def test_all_that_the_sdk_has(kind, credential, transport, hub, registry, reader, service, authority, name, tmp_path):
    client = made(kind, credential, TRANSPORTS[transport], hub, registry, authority, name, tmp_path)
    ids = (name, "m1") if kind == "module" else (name,)
    messages = queue.Queue()
    if kind == "device":
        client.on_message_received = messages.put
    with devices.connected(client):
        telemetry(client, reader, name)
        method(client, service, ids)
        twin(client, service, ids)
        if kind == "device":
            message(messages, service, hub, name)
            upload(client, hub, name)


def made(kind, credential, websockets, hub, registry, authority, name, tmp_path):
    """A client of a new device or module."""
    common = devices.common(hub, websockets, {})
    module = {"module_id": "m1"} if kind == "module" else {}
    authentication, own = None, None
    if credential == "a thumbprint":
        own = self_signed(tmp_path, name)
        authentication = {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": own.sha256}}
    if credential == "a CA":
        own = authority.issue(name if kind == "device" else f"{name}/m1", file_name=name)
        authentication = {"type": "certificateAuthority"}
    identity = registry.create(name, authentication if kind == "device" else None)
    if kind == "module":
        body = {"deviceId": name, "moduleId": "m1"} | ({"authentication": authentication} if authentication else {})
        answer = registry.rest.call("PUT", f"/devices/{name}/modules/m1", body)
        assert answer.status in (200, 201), answer
        identity = type(identity)(hub, answer.body)
    if own is None:
        return devices.by_key(hub, identity, websockets)
    x509 = X509(cert_file=str(own.chain_file), key_file=str(own.key_file))
    create = (IoTHubModuleClient if module else IoTHubDeviceClient).create_from_x509_certificate
    return create(x509=x509, hostname=hub.hostname, device_id=name, **module, **common)


def telemetry(client, reader, name):
    sent = Message('{"a":1}')
    sent.message_id, sent.custom_properties["color"] = f"of {name}", "red & blue"
    client.send_message(sent)
    event = reader.first(lambda event: device_of(event) == name)
    assert properties_of(event) == {"color": "red & blue"}


def method(client, service, ids):
    client.on_method_request_received = lambda request: client.send_method_response(
        MethodResponse.create_from_method_request(request, 201, {"echo": request.payload})
    )
    call = CloudToDeviceMethod(method_name="echo", payload={"n": 1}, connect_timeout_in_seconds=15, response_timeout_in_seconds=15)
    invoke = service.invoke_device_module_method if len(ids) == 2 else service.invoke_device_method
    answer = invoke(*ids, call)
    assert (answer.status, answer.payload) == (201, {"echo": {"n": 1}})


def twin(client, service, ids):
    told = queue.Queue()
    client.on_twin_desired_properties_patch_received = told.put
    assert client.get_twin()["desired"] == {"$version": 1}
    client.patch_twin_reported_properties({"rate": 5})
    kind = "module_twin" if len(ids) == 2 else "twin"
    assert getattr(service, f"get_{kind}")(*ids).properties.reported["rate"] == 5
    getattr(service, f"update_{kind}")(*ids, Twin(properties=TwinProperties(desired={"rate": 6})), "*")
    assert told.get(timeout=10) == {"rate": 6, "$version": 2}


def message(messages, service, hub, name):
    service.send_c2d_message(name, "open", {"messageId": "m1", "color": "red"})
    got = messages.get(timeout=10)
    assert (got.data, got.message_id, got.custom_properties) == (b"open", "m1", {"color": "red"})
    # The SDK acknowledges by itself, and MQTT has no other outcome.
    until(lambda: hub.cli("c2d", "list", name)["completed"] == 1, what="the acknowledgement")


def upload(client, hub, name):
    info = client.get_storage_info_for_blob("a.bin")
    link = f"https://{info['hostName']}/{info['containerName']}/{info['blobName']}{info['sasToken']}"
    BlobClient.from_blob_url(link, connection_verify=hub.ca_file).upload_blob(b"x" * 300_000)
    client.notify_blob_upload_status(info["correlationId"], True, 200, "Created")
    assert [(file["name"], file["bytes"]) for file in hub.cli("file", "list", name)] == [("a.bin", 300_000)]

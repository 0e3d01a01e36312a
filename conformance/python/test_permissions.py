"""The permission matrix: each right alone against each operation, nothing more and nothing less."""

import uuid

import pytest
import requests

from azure.eventhub import EventHubConsumerClient
from azure.eventhub.exceptions import EventHubError

from harness import sas
from harness.events import consumer
from harness.hub import connection_string_parts
from harness.raw_amqp import open_link, put_token
from harness.raw_mqtt import RawDevice
from harness.rest import API_VERSION, Answer, Rest

RIGHTS = {
    "registryRead": {"RegistryRead"},
    "registryReadWrite": {"RegistryRead", "RegistryWrite"},
    "service": {"ServiceConnect"},
    "device": {"DeviceConnect"},
    "iothubowner": {"RegistryRead", "RegistryWrite", "ServiceConnect", "DeviceConnect"},
}

# The operation, the right that opens it, and what it answers to that right.
OPERATIONS = [
    ("GET", "/devices?top=5", None, "RegistryRead", 200),
    ("GET", "/devices/{there}", None, "RegistryRead", 200),
    ("GET", "/devices/{there}/modules", None, "RegistryRead", 200),
    ("GET", "/devices/{there}/modules/m1", None, "RegistryRead", 200),
    ("GET", "/statistics/devices", None, "RegistryRead", 200),
    ("PUT", "/devices/{new}", {"deviceId": "{new}"}, "RegistryWrite", 200),
    ("PUT", "/devices/{there}/modules/{new}", {"deviceId": "{there}", "moduleId": "{new}"}, "RegistryWrite", (200, 201)),
    ("POST", "/devices", [{"id": "{new}", "importMode": "create"}], "RegistryWrite", 200),
    (
        "POST",
        "/devices/keys/regenerate",
        {"policyKey": "secondaryKey", "devices": [{"id": "{there}"}]},
        "RegistryWrite",
        200,
    ),
    ("DELETE", "/devices/{doomed}/modules/m1", None, "RegistryWrite", 204),
    ("DELETE", "/devices/{doomed}", None, "RegistryWrite", 204),
    ("GET", "/statistics/service", None, "ServiceConnect", 200),
    ("GET", "/twins/{there}", None, "ServiceConnect", 200),
    ("PATCH", "/twins/{there}", {"tags": {"changed": "{new}"}}, "ServiceConnect", 200),
    ("PUT", "/twins/{there}/modules/m1", {"tags": {"changed": "{new}"}}, "ServiceConnect", 200),
    # Nobody is connected there.
    ("POST", "/twins/{there}/methods", {"methodName": "m"}, "ServiceConnect", 404),
    ("POST", "/twins/{there}/modules/m1/methods", {"methodName": "m"}, "ServiceConnect", 404),
    ("POST", "/devices/{there}/messages/events", "telemetry", "DeviceConnect", 204),
]


@pytest.mark.parametrize("policy", RIGHTS)
@pytest.mark.parametrize("method, path, body, right, success", OPERATIONS, ids=lambda value: str(value)[:48])
def test_a_policy_opens_exactly_what_its_rights_name(policy, method, path, body, right, success, hub, registry, names):
    answer = Rest(hub, policy).call(method, names.fill(path), names.fill(body))
    if right in RIGHTS[policy]:
        assert answer.status in (success if isinstance(success, tuple) else (success,)), answer
    else:
        assert_unauthorized(answer)
        names.assert_untouched()


@pytest.fixture(scope="module")
def writer(hub):
    return hub.cli("policy", "create", "writer", "--rights", "RegistryWrite")["primaryKey"]


@pytest.mark.parametrize("method, path, body, right, success", OPERATIONS, ids=lambda value: str(value)[:48])
def test_registry_write_alone_writes_and_reads_nothing(
    method, path, body, right, success, hub, registry, names, writer
):
    rest = Rest(hub, authorization=sas.token(hub.hostname, writer, "writer"))
    answer = rest.call(method, names.fill(path), names.fill(body))
    if right == "RegistryWrite":
        assert answer.status in (success if isinstance(success, tuple) else (success,)), answer
    else:
        assert_unauthorized(answer)


@pytest.mark.parametrize(
    "change",
    [
        ("rotate-key", "{policy}", "--slot", "primary"),
        ("update", "{policy}", "--rights", "ServiceConnect"),
        ("delete", "{policy}"),
    ],
    ids=lambda change: change[0],
)
def test_a_device_on_a_policy_key_is_closed_when_the_policy_changes(change, hub, registry, names):
    policy = f"fleet-{uuid.uuid4().hex[:8]}"
    key = hub.cli("policy", "create", policy, "--rights", "DeviceConnect")["primaryKey"]
    own = registry.rest.expect(200, "GET", f"/devices/{names.doomed}")["authentication"]["symmetricKey"]["primaryKey"]
    own_token = sas.token(f"{hub.hostname}/devices/{names.doomed}", own)
    with (
        RawDevice(hub, names.there, sas.token(hub.hostname, key, policy)) as device,
        RawDevice(hub, names.doomed, own_token) as other,
    ):
        assert device.connack == 0
        hub.cli("policy", *(part.format(policy=policy) for part in change))
        assert device.closed.wait(2)
        assert other.publish(f"devices/{names.doomed}/messages/events/", b"still here")


@pytest.mark.parametrize("policy", RIGHTS)
def test_telemetry_is_read_with_service_connect_only(policy, hub):
    client = EventHubConsumerClient.from_connection_string(
        event_hub_string(hub, policy), "$Default", connection_verify=hub.ca_file, retry_total=0
    )
    with client:
        if "ServiceConnect" in RIGHTS[policy]:
            assert client.get_partition_ids()
        else:
            with pytest.raises(EventHubError):
                client.get_partition_ids()


@pytest.mark.parametrize("policy", RIGHTS)
def test_a_device_connects_with_device_connect_only(policy, hub, names):
    token = sas.token(hub.hostname, hub.policy_key(policy), policy)
    with RawDevice(hub, names.there, token) as device:
        assert device.connack == (0 if "DeviceConnect" in RIGHTS[policy] else 5)


@pytest.mark.parametrize(
    "scope, opens",
    [
        ("{host}", {"list", "one", "other", "modules", "statistics"}),
        ("{host}/devices", {"list", "one", "other", "modules"}),
        ("{host}/DEVICES", {"list", "one", "other", "modules"}),
        ("{host}/devices/{there}", {"one", "modules"}),
        ("{host}/devices/{there}/modules", {"modules"}),
        ("{host}/devices/{upper}", set()),
        ("{host}/Devices/{there}/Modules", {"modules"}),
        ("{host}/devices/{there}x", set()),
        ("{host}/dev", set()),
        ("{host}/twins", set()),
        ("{host}/statistics", {"statistics"}),
        ("other.example.net", set()),
        ("", set()),
    ],
)
def test_a_token_opens_only_what_lies_under_its_resource(scope, opens, hub, names):
    paths = {
        "list": "/devices?top=5",
        "one": f"/devices/{names.there}",
        "other": f"/devices/{names.doomed}",
        "modules": f"/devices/{names.there}/modules",
        "statistics": "/statistics/devices",
    }
    resource = scope.format(host=hub.hostname, there=names.there, upper=names.there.upper())
    rest = Rest(hub, authorization=sas.token(resource, hub.policy_key("iothubowner"), "iothubowner"))
    answered = {what: rest.call("GET", path) for what, path in paths.items()}
    assert {what for what, answer in answered.items() if answer.status == 200} == opens
    for what in paths.keys() - opens:
        assert_unauthorized(answered[what])


# Every kind of link that a policy may open: whether the client sends, and its address.
LINKS = {
    "to devices": (True, "/messages/devicebound"),
    "feedback": (False, "/messages/serviceBound/feedback"),
    "files": (False, "/messages/serviceBound/filenotifications"),
    "management": (True, "$management"),
    "properties": (False, "{hub}/$management"),
    "partition 0": (False, "{hub}/ConsumerGroups/$Default/Partitions/0"),
    "partition 1": (False, "{hub}/ConsumerGroups/$Default/Partitions/1"),
    "telemetry": (True, "/devices/{there}/messages/events"),
    "messages": (False, "/devices/{there}/messages/devicebound"),
    "calls": (False, "/devices/{there}/methods/devicebound"),
    "twin": (True, "/devices/{there}/twin"),
    "module": (True, "/devices/{there}/modules/m1/messages/events"),
    "other": (True, "/devices/{doomed}/messages/events"),
}
STREAM = {"management", "properties", "partition 0", "partition 1"}
DEVICE = {"telemetry", "messages", "calls", "twin", "module"}
SERVICE = {"to devices", "feedback", "files"}


@pytest.mark.parametrize(
    "scope, opens",
    [
        ("{host}", STREAM | DEVICE | SERVICE | {"other"}),
        ("sb://{host}:5671/", STREAM | DEVICE | SERVICE | {"other"}),
        ("{host}/devices", DEVICE | {"other"}),
        ("{host}/devices/{there}", DEVICE),
        ("{host}/devices/{there}/modules/m1", {"module"}),
        ("{host}/devices/{upper}", set()),
        ("{host}/twins/{there}", set()),
        ("{host}/twins", set()),
        ("{host}/statistics", set()),
        ("{host}/messages/devicebound", {"to devices"}),
        ("{host}/messages/servicebound/feedback", {"feedback"}),
        ("{host}/messages", SERVICE | STREAM),
        ("sb://{host}/{hub}", STREAM),
        ("sb://{host}/{hub}/consumergroups/$default", STREAM),
        ("sb://{host}/{hub}/ConsumerGroups/$Default/Partitions/1", STREAM - {"partition 0"}),
        ("sb://{host}/{hub}/ConsumerGroups/other", STREAM - {"partition 0", "partition 1"}),
        ("sb://{host}/{hub}/$management", STREAM - {"partition 0", "partition 1"}),
        ("sb://{host}/another", set()),
        ("other.example.net", set()),
    ],
)
def test_a_token_opens_only_the_links_that_lie_under_its_resource(scope, opens, hub, names):
    words = {"host": hub.hostname, "there": names.there, "upper": names.there.upper(), "doomed": names.doomed}
    words["hub"] = connection_string_parts(hub.eventhub_connection_string)["EntityPath"]
    token = sas.token(scope.format(**words), hub.policy_key("iothubowner"), "iothubowner")
    opened = set()
    for link, (sends, address) in LINKS.items():
        answer = open_link(hub, token, address.format(**words), sends)
        assert b"link" in answer, answer
        if b"amqp:" not in answer:
            opened.add(link)
        else:
            assert b"amqp:unauthorized-access" in answer, answer
    assert opened == opens


def test_a_token_for_an_event_hub_that_does_not_exist_is_refused_when_it_is_put(hub):
    for entity in ("another", "another/ConsumerGroups/$Default/Partitions/0", "another/$management"):
        token = sas.token(f"sb://{hub.hostname}/{entity}", hub.policy_key("service"), "service")
        answer = put_token(hub, token)
        assert b"\x71" + (404).to_bytes(4) in answer, answer
        assert b"The messaging entity 'another' could not be found." in answer, answer
        # Whoever has no key learns nothing of names.
        guessed = put_token(hub, sas.token(f"sb://{hub.hostname}/{entity}", sas.new_key(), "service"))
        assert b"\x71" + (401).to_bytes(4) in guessed, guessed


def test_a_device_key_opens_its_own_modules_and_nothing_else_of_the_service_api(hub, registry, names):
    key = registry.rest.expect(200, "GET", f"/devices/{names.there}")["authentication"]["symmetricKey"]["primaryKey"]
    for resource in (hub.hostname, f"{hub.hostname}/devices/{names.there}"):
        rest = Rest(hub, authorization=sas.token(resource, key))
        for method, path, body, right, _success in OPERATIONS:
            if right == "DeviceConnect":
                continue
            answer = rest.call(method, names.fill(path), names.fill(body))
            if path.startswith("/devices/{there}/modules"):
                assert answer.status in (200, 201, 409), answer
            else:
                assert_unauthorized(answer)


@pytest.mark.parametrize(
    "broken",
    [
        lambda good: good.replace("sig=", "sig=A"),
        lambda good: good.replace("&se=", "&se=9"),
        lambda good: good.replace("skn=iothubowner", "skn=nobody"),
        lambda good: good.replace("skn=iothubowner", "skn=service"),
        lambda good: good.replace("&skn=iothubowner", ""),
        lambda good: good.replace("SharedAccessSignature ", "Bearer "),
        lambda good: good.replace("SharedAccessSignature ", ""),
        lambda good: "SharedAccessSignature sr=&sig=&se=",
        lambda good: "SharedAccessSignature",
        lambda good: "Basic aGk6aG8=",
    ],
    ids=[
        *("signature", "expiry moved", "policy unknown", "policy of another key", "no policy"),
        *("Bearer", "no scheme", "all empty", "scheme alone", "Basic"),
    ],
)
def test_a_broken_token_is_refused(broken, hub):
    good = sas.token(hub.hostname, hub.policy_key("iothubowner"), "iothubowner")
    assert Rest(hub, authorization=good).call("GET", "/devices?top=1").status == 200
    assert_unauthorized(Rest(hub, authorization=broken(good)).call("GET", "/devices?top=1"))


def test_no_token_at_all_is_refused(hub):
    response = requests.get(
        f"https://{hub.hostname}/devices", params={"api-version": API_VERSION}, verify=hub.ca_file, timeout=10
    )
    assert_unauthorized(Answer(response.status_code, response.headers, response.json()))


@pytest.mark.parametrize("seconds, opens", [(-240, True), (-360, False), (60, True)])
def test_a_token_is_taken_until_five_minutes_past_its_end(seconds, opens, hub):
    token = sas.token(hub.hostname, hub.policy_key("iothubowner"), "iothubowner", seconds)
    answer = Rest(hub, authorization=token).call("GET", "/devices?top=1")
    assert answer.status == (200 if opens else 401)


def test_no_azure_right_opens_the_hubs_own_api(hub):
    """Whatever path that API has, the owner's token alone must not be what the command line uses."""
    credential = hub.ready["management_credential_file"]
    assert credential
    import os
    import stat

    assert stat.S_IMODE(os.stat(credential).st_mode) == 0o600


def test_an_unknown_event_hub_name_is_refused(hub):
    client = consumer(hub, eventhub_name="another", retry_total=0)
    with client, pytest.raises(EventHubError):
        client.get_partition_ids()


class Names:
    """Ids for one row of the matrix: one device that stays, one to delete, one that does not exist yet."""

    def __init__(self, registry):
        tag = uuid.uuid4().hex[:10]
        self.there, self.doomed, self.new = f"there-{tag}", f"doomed-{tag}", f"new-{tag}"
        self._registry = registry
        for device in (self.there, self.doomed):
            registry.create(device)
            registry.create_module(device, "m1")

    def fill(self, value):
        if isinstance(value, str):
            names = {"{there}": self.there, "{doomed}": self.doomed, "{new}": self.new}
            for placeholder, device in names.items():
                value = value.replace(placeholder, device)
            return value
        if isinstance(value, list):
            return [self.fill(item) for item in value]
        if isinstance(value, dict):
            return {key: self.fill(item) for key, item in value.items()}
        return value

    def assert_untouched(self) -> None:
        rest = self._registry.rest
        assert rest.call("GET", f"/devices/{self.new}").status == 404
        assert rest.call("GET", f"/devices/{self.doomed}/modules/m1").status == 200
        assert rest.call("GET", f"/devices/{self.there}/modules/{self.new}").status == 404


@pytest.fixture
def names(registry):
    return Names(registry)


def event_hub_string(hub, policy: str) -> str:
    parts = connection_string_parts(hub.eventhub_connection_string)
    parts |= {"SharedAccessKeyName": policy, "SharedAccessKey": hub.policy_key(policy)}
    return ";".join(f"{key}={value}" for key, value in parts.items())


def assert_unauthorized(answer: Answer) -> None:
    """401 for every missing right, with an Azure code and without a word of what would have opened it."""
    assert answer.status == 401, answer
    assert answer.error in ("IotHubUnauthorizedAccess", "IotHubUnauthorized"), answer
    assert answer.body["Message"].startswith(f"ErrorCode:{answer.error};")

"""Sixty clients, each with one small mistake that a real person makes: `holdfast why` names it."""

import itertools
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import paho.mqtt.client as paho
import requests
from azure.eventhub import EventHubConsumerClient

from harness import devices, mistakes, sas
from harness.certificates import Authority, Validity, self_signed
from harness.hub import Hub
from harness.raw_mqtt import RawDevice, tls_stream
from harness.rest import Identity, Registry, Rest
from harness.why import Refusals, tried

CLIENTS: list[tuple[str, str, Callable]] = []


def mistake(cause: str, what: str):
    """Puts a client on the list: the cause that has to be named first, and the mistake in a few words."""

    def put(client: Callable) -> Callable:
        CLIENTS.append((cause, what, client))
        return client

    return put


@dataclass
class Scene:
    """A hub, and what most clients need of it."""

    hub: Hub
    registry: Registry
    folder: Path
    _numbers: itertools.count = field(default_factory=lambda: itertools.count(1))

    def name(self) -> str:
        return f"pump-{next(self._numbers)}a"

    def device(self, **fields) -> Identity:
        return self.registry.create(self.name(), **fields)

    def device_of_authority(self) -> str:
        return self.registry.create(self.name(), {"type": "certificateAuthority"}).device

    def authority(self) -> Authority:
        name = f"{self.name()} CA"
        made = Authority(self.folder, name)
        self.hub.cli("certificate", "add", str(made.certificate_file), "--name", name.replace(" ", "-"), "--verified")
        return made

    def connect(self, client_id: str, password: str | None = None, **options) -> None:
        """CONNECT by paho, and good-bye where it is let in."""
        with suppress(OSError), RawDevice(self.hub, client_id, password, **options):
            pass

    def post(self, device: str, query: str = "", **headers) -> int:
        url = f"https://{self.hub.hostname}/devices/{device}/messages/events?api-version=2021-04-12{query}"
        return requests.post(url, data=b"{}", headers=headers, verify=self.hub.ca_file, timeout=10).status_code

    def get(self, path: str, **headers) -> requests.Response:
        url = f"https://{self.hub.hostname}{path}"
        return requests.get(url, headers=headers, verify=self.hub.ca_file, timeout=10)

    def owner(self) -> str:
        return sas.token(self.hub.hostname, self.hub.policy_key("iothubowner"), "iothubowner")

    def read(self, partition: str = "0", group: str = "$Default", **parts) -> None:
        """Reads by the Event Hubs SDK until it complains."""
        text = self.hub.eventhub_connection_string
        for name, value in parts.items():
            old = dict(part.split("=", 1) for part in text.split(";"))[name]
            text = text.replace(f"{name}={old}", f"{name}={value}")
        client = EventHubConsumerClient.from_connection_string(
            text, group, connection_verify=self.hub.ca_file, retry_total=0
        )
        read_to_an_error(client, partition)


def read_to_an_error(client: EventHubConsumerClient, partition: str) -> None:
    def stop(*_) -> None:
        client.close()

    with suppress(Exception):
        client.receive(on_event=stop, on_error=stop, partition_id=partition, starting_position="-1", max_wait_time=3)
    client.close()


def with_key(the: Scene, identity: Identity, key: str) -> Identity:
    return Identity(the.hub, {**identity.record, "authentication": {"symmetricKey": {"primaryKey": key}}})


# Keys


@mistake("wrong-key", "a letter of the key is lost in copying it by hand")
def _(the):
    identity = the.device()
    changed = ("A" if identity.key[3] != "A" else "B").join([identity.key[:3], identity.key[4:]])
    tried(devices.by_key(the.hub, with_key(the, identity, changed)))


@mistake("wrong-key", "the key was regenerated, the device has the old one")
def _(the):
    identity = the.device()
    keys = {"primaryKey": sas.new_key(), "secondaryKey": sas.new_key()}
    the.registry.update(identity.device, authentication={"type": "sas", "symmetricKey": keys})
    tried(devices.by_key(the.hub, identity))


@mistake("key-of-another", "the connection string has the key of another device")
def _(the):
    tried(devices.by_key(the.hub, with_key(the, the.device(), the.device().key)))


@mistake("key-of-another", "a module with the key of another module of its device")
def _(the):
    device = the.device().device
    module, other = (the.registry.create_module(device, name) for name in ("reader", "writer"))
    tried(devices.by_key(the.hub, with_key(the, module, other.key)))


@mistake("key-of-another", "a device with the key of its module")
def _(the):
    identity = the.device()
    module = the.registry.create_module(identity.device, "reader")
    tried(devices.by_key(the.hub, with_key(the, identity, module.key)))


@mistake("key-of-another", "a service names one policy and has the key of another")
def _(the):
    Rest(the.hub, authorization=sas.token(the.hub.hostname, the.hub.policy_key("device"), "registryRead")).call(
        "GET", "/devices"
    )


@mistake("key-not-decoded", "own code signs with the text of the key")
def _(the):
    identity = the.device()
    the.connect(identity.device, mistakes.token(identity.resource, identity.key, key_is_text=True))


@mistake("key-not-decoded", "the same over HTTPS")
def _(the):
    identity = the.device()
    the.post(identity.device, Authorization=mistakes.token(identity.resource, identity.key, key_is_text=True))


@mistake("hub-key-without-skn", "the key of a policy in the connection string of a device")
def _(the):
    tried(devices.by_key(the.hub, with_key(the, the.device(), the.hub.policy_key("device"))))


@mistake("hub-key-without-skn", "a token of the owner's key without skn, over HTTPS")
def _(the):
    identity = the.device()
    the.post(identity.device, Authorization=identity.token(key=the.hub.policy_key("iothubowner")))


# Tokens made by hand


@mistake("token-signed-other-sr", "signed before the resource was encoded")
def _(the):
    identity = the.device()
    the.connect(identity.device, mistakes.token(identity.resource, identity.key, signed=identity.resource))


@mistake("token-signed-other-sr", "signed encoded, sent plain")
def _(the):
    identity = the.device()
    signed = identity.resource.replace("/", "%2F")
    the.connect(
        identity.device, mistakes.token(identity.resource, identity.key, sr=identity.resource, signed=signed)
    )


@mistake("token-signed-other-sr", "signed in lower case, as the documents once said, and sent as it is")
def _(the):
    identity = the.registry.create(the.name().upper())
    signed = identity.resource.lower().replace("/", "%2f")
    the.connect(identity.device, mistakes.token(identity.resource, identity.key, signed=signed))


@mistake("token-signed-other-sr", "signed after a second encoding")
def _(the):
    identity = the.device()
    signed = identity.resource.replace("/", "%252F")
    the.connect(identity.device, mistakes.token(identity.resource, identity.key, signed=signed))


@mistake("token-signed-other-text", "a shell script signs the output of echo")
def _(the):
    identity = the.device()
    the.connect(identity.device, mistakes.token(identity.resource, identity.key, text="{sr}\n{se}\n"))


@mistake("token-signed-other-text", "a Windows line end")
def _(the):
    identity = the.device()
    the.connect(identity.device, mistakes.token(identity.resource, identity.key, text="{sr}\r\n{se}"))


@mistake("token-signed-other-text", "a line feed in single quotes")
def _(the):
    identity = the.device()
    the.post(identity.device, Authorization=mistakes.token(identity.resource, identity.key, text="{sr}\\n{se}"))


@mistake("token-signed-other-text", "the digest is written in hexadecimal")
def _(the):
    identity = the.device()
    the.connect(identity.device, mistakes.token(identity.resource, identity.key, hexadecimal=True))


@mistake("token-expired", "the clock of the device is two hours behind")
def _(the):
    identity = the.device()
    the.connect(identity.device, identity.token(seconds=3600 - 2 * 3600))


@mistake("token-expired", "a token from last week in a script")
def _(the):
    identity = the.device()
    the.post(identity.device, Authorization=identity.token(seconds=-7 * 86400))


@mistake("token-lifetime-as-end", "the lifetime stands where the end has to")
def _(the):
    identity = the.device()
    the.connect(identity.device, mistakes.token(identity.resource, identity.key, se=3600))


@mistake("token-in-milliseconds", "JavaScript's Date.now() as the end, on a hub that caps the life of tokens")
def _(the):
    identity = the.device()
    the.hub.cli("settings", "set", "maxTokenLifetime", "365d")
    try:
        the.connect(
            identity.device, mistakes.token(identity.resource, identity.key, se=int(time.time() * 1000) + 3_600_000)
        )
    finally:
        the.hub.cli("settings", "set", "maxTokenLifetime", "none")


@mistake("token-malformed", "the token is pasted with its quotes")
def _(the):
    identity = the.device()
    the.connect(identity.device, f'"{identity.token()}"')


@mistake("token-malformed", "the end of the token is cut off")
def _(the):
    identity = the.device()
    the.connect(identity.device, identity.token().split("&se=")[0])


@mistake("key-as-password", "the key as MQTT password")
def _(the):
    identity = the.device()
    the.connect(identity.device, identity.key)


@mistake("connection-string-as-password", "the connection string as MQTT password")
def _(the):
    identity = the.device()
    the.connect(identity.device, identity.connection_string)


@mistake("token-scope", "the token of another device")
def _(the):
    the.connect(the.device().device, the.device().token())


@mistake("token-host", "a token that was made for the hub in the cloud")
def _(the):
    identity = the.device()
    the.connect(
        identity.device, sas.token(f"plant.azure-devices.net/devices/{identity.device}", identity.key)
    )


@mistake("unknown-policy", "the name of the policy is misspelt")
def _(the):
    token = sas.token(the.hub.hostname, the.hub.policy_key("iothubowner"), "iothubowners")
    Rest(the.hub, authorization=token).call("GET", "/devices")


@mistake("missing-right", "a device with the key of the policy for services")
def _(the):
    identity = the.device()
    tried(devices.by_token(the.hub, sas.token(identity.resource, the.hub.policy_key("service"), "service")))


@mistake("missing-right", "a service that may only read registers a device")
def _(the):
    Rest(the.hub, "registryRead").call("PUT", f"/devices/{the.name()}", {"deviceId": "x"})


@mistake("no-credential", "no password at all")
def _(the):
    the.connect(the.device().device)


@mistake("no-credential", "no Authorization header")
def _(the):
    the.post(the.device().device)


@mistake("token-in-query", "the token in the query of the URL")
def _(the):
    identity = the.device()
    the.post(identity.device, "&" + identity.token().removeprefix("SharedAccessSignature "))


@mistake("entra-token", "a token of Entra ID")
def _(the):
    the.get("/devices?api-version=2021-04-12", Authorization="Bearer eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJ4In0.c2ln")


# Names


@mistake("unknown-device", "a digit of the id is wrong")
def _(the):
    identity = the.device()
    tried(devices.by_key(the.hub, Identity(the.hub, {**identity.record, "deviceId": f"{identity.device}0"})))


@mistake("unknown-device", "the id in capitals")
def _(the):
    identity = the.device()
    tried(devices.by_key(the.hub, Identity(the.hub, {**identity.record, "deviceId": identity.device.upper()})))


@mistake("deleted-device", "the device was deleted")
def _(the):
    identity = the.device()
    the.registry.delete(identity.device)
    tried(devices.by_key(the.hub, identity))


@mistake("unknown-module", "the module was never made")
def _(the):
    identity = the.device()
    tried(devices.by_key(the.hub, Identity(the.hub, {**identity.record, "moduleId": "camera"})))


@mistake("disabled", "the device is disabled")
def _(the):
    tried(devices.by_key(the.hub, the.device(status="disabled", statusReason="returned")))


@mistake("unknown-host", "the user name still names the hub in the cloud")
def _(the):
    identity = the.device()
    user_name = f"plant.azure-devices.net/{identity.device}/?api-version=2021-04-12"
    the.connect(identity.device, identity.token(), user_name=user_name)


@mistake("client-id", "a random client id, as MQTT tools choose it")
def _(the):
    identity = the.device()
    user_name = f"{the.hub.hostname}/{identity.device}/?api-version=2021-04-12"
    the.connect("mqttx_8f3c21", identity.token(), user_name=user_name)


@mistake("user-name", "the device id as user name")
def _(the):
    identity = the.device()
    the.connect(identity.device, identity.token(), user_name=identity.device)


# Certificates


@mistake("thumbprint-mismatch", "the certificate was renewed, its thumbprint was not registered")
def _(the):
    name = the.name()
    old, new = self_signed(the.folder, name), self_signed(the.folder, f"{name}-new")
    the.registry.create(name, {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": old.sha256}})
    tried(devices.by_certificate(the.hub, name, new))


@mistake("credential-kind", "a certificate for a device that is registered with keys")
def _(the):
    name = the.device().device
    tried(devices.by_certificate(the.hub, name, self_signed(the.folder, name)))


@mistake("intermediate-missing", "the intermediate is not in the client's file")
def _(the):
    name = the.device_of_authority()
    issued = Authority(the.folder, f"{name} issuing", parent=the.authority()).issue(name)
    first = issued.chain_file.read_text().split("-----END CERTIFICATE-----")[0]
    issued.chain_file.write_text(f"{first}-----END CERTIFICATE-----\n")
    tried(devices.by_certificate(the.hub, name, issued))


@mistake("untrusted-chain", "an authority that was never added")
def _(the):
    name = the.device_of_authority()
    tried(devices.by_certificate(the.hub, name, Authority(the.folder, f"{name} Root CA").issue(name)))


@mistake("self-signed", "a self-signed certificate for a device of an authority")
def _(the):
    name = the.device_of_authority()
    tried(devices.by_certificate(the.hub, name, self_signed(the.folder, name)))


@mistake("certificate-name", "the certificate of the neighbour")
def _(the):
    name = the.device_of_authority()
    tried(devices.by_certificate(the.hub, name, the.authority().issue(f"{name}-neighbour")))


@mistake("certificate-expired", "the certificate has run out")
def _(the):
    name = the.device_of_authority()
    tried(devices.by_certificate(the.hub, name, the.authority().issue(name, validity=Validity.past())))


# Behaviour


@mistake("topic", "a topic of one's own, as on a broker")
def _(the):
    identity = the.device()
    with RawDevice(the.hub, identity.device, identity.token()) as device:
        device.publish("plant/hall-3/temperature", b"21")


@mistake("topic-filter", "a subscription to everything")
def _(the):
    identity = the.device()
    with RawDevice(the.hub, identity.device, identity.token()) as device:
        device.subscribe("#")


@mistake("message-too-large", "a picture as a message")
def _(the):
    identity = the.device()
    with RawDevice(the.hub, identity.device, identity.token()) as device:
        device.publish(f"devices/{identity.device}/messages/events/", bytes(300_000))


@mistake("taken-over", "two programs with one connection string")
def _(the):
    identity = the.device()
    with devices.connected(devices.by_key(the.hub, identity, auto_connect=False)):
        with RawDevice(the.hub, identity.device, identity.token()):
            pass


# Doors


@mistake("plain-text", "port 8883 without TLS")
def _(the):
    client = paho.Client(client_id="x")
    with suppress(OSError):
        client.connect(the.hub.address, the.hub.ports["mqtt"])
        client.loop(2)


@mistake("wrong-port", "MQTT on port 443")
def _(the):
    with tls_stream(the.hub, "https") as stream:
        stream.sendall(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04dev1")
        stream.settimeout(5)
        stream.recv(100)


@mistake("tls-server-not-trusted", "the CA file is not given to the client")
def _(the):
    identity = the.device()
    with suppress(Exception):
        devices.IoTHubDeviceClient.create_from_connection_string(
            identity.connection_string, connection_retry=False
        ).connect()


@mistake("websocket-path", "the WebSocket path of an ordinary broker")
def _(the):
    the.get(
        "/mqtt",
        Upgrade="websocket",
        Connection="Upgrade",
        **{"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Protocol": "mqtt"},
    )


@mistake("unknown-consumer-group", "a consumer group that nobody made")
def _(the):
    the.read(group="dashboards")


@mistake("unknown-event-hub", "the EntityPath of another hub")
def _(the):
    the.read(EntityPath="iothub-ehub-plant")


def test_sixty_broken_clients(hub, registry, tmp_path, record_property):
    assert len(CLIENTS) == 60
    scene = Scene(hub, registry, tmp_path)
    wrong = []
    for cause, what, client in CLIENTS:
        refusals = Refusals(hub)
        try:
            client(scene)
            named = refusals.top()["cause"]
        except Exception as error:  # counted as not named: the table says which
            named = f"nothing ({error!r:.200})"
        if named != cause:
            wrong.append(f"{what}: {named}, not {cause}")
    named = len(CLIENTS) - len(wrong)
    record_property("figure", f"broken clients: {named} of {len(CLIENTS)} named right")
    assert len(wrong) <= 0.05 * len(CLIENTS), "\n".join(wrong)

"""A client learns from a refusal that it was refused: for all causes of a class, the same bytes (docs/why.md)."""

import re
import socket
import time

import pytest

from harness import mistakes, mqtt5, sas
from harness.certificates import Authority, Validity, self_signed
from harness.raw_amqp import attach_sender, put_token, sign_in, to_the_end
from harness.raw_mqtt import connect_packet, tls_stream
from harness.rest import Identity
from harness.why import Refusals


class Attempts:
    """What the hub sent to each client of a class, by the cause that it named."""

    def __init__(self, hub):
        self.hub = hub
        self.received: dict[str, bytes] = {}

    def add(self, cause: str, received: bytes, refusals: Refusals) -> None:
        refusals.of(cause)
        self.received[cause] = received

    def are_alike(self, *causes: str) -> None:
        assert set(self.received) == set(causes)
        different = {received: [c for c in causes if self.received[c] == received] for received in self.received.values()}
        assert len(different) == 1, different


@pytest.fixture(scope="module")
def root(hub, tmp_path_factory):
    root = Authority(tmp_path_factory.mktemp("authority"), "plant Root CA")
    hub.cli("certificate", "add", str(root.certificate_file), "--verified")
    return root


@pytest.fixture
def capped(hub):
    """A hub that minds the life of tokens and whose keys sign them."""
    hub.cli("settings", "set", "maxTokenLifetime", "24h")
    hub.cli("settings", "set", "deviceScopedTokensOnly", "true")
    yield
    hub.cli("settings", "set", "maxTokenLifetime", "none")
    hub.cli("settings", "set", "deviceScopedTokensOnly", "false")


def tokens(hub, registry, name) -> dict[str, tuple[str, str | None]]:
    """A device and a token for each cause that a token can be refused for."""
    own = registry.create(name)
    other, disabled = registry.create(f"{name}-2"), registry.create(f"{name}-off", status="disabled")
    deleted = registry.create(f"{name}-gone")
    registry.delete(deleted.device)
    by_hand = lambda **what: mistakes.token(own.resource, own.key, **what)  # noqa: E731
    unknown = f"{name}-unknown"
    policy = lambda policy: sas.token(own.resource, hub.policy_key(policy), policy)  # noqa: E731
    return {
        "wrong-key": (name, own.token(key=sas.new_key())),
        "key-of-another": (name, own.token(key=other.key)),
        "key-not-decoded": (name, by_hand(key_is_text=True)),
        "hub-key-without-skn": (name, own.token(key=hub.policy_key("device"))),
        "token-signed-other-sr": (name, by_hand(signed=own.resource)),
        "token-signed-other-text": (name, by_hand(text="{sr}\n{se}\n")),
        "token-expired": (name, own.token(seconds=-7200)),
        "token-lifetime-as-end": (name, by_hand(se=3600)),
        "token-malformed": (name, "SharedAccessSignature sr=x"),
        "token-scope": (name, other.token()),
        "token-host": (name, sas.token(f"elsewhere.net/devices/{name}", own.key)),
        "token-too-long": (name, own.token(seconds=30 * 86400)),
        "token-in-milliseconds": (name, by_hand(se=int(time.time() * 1000))),
        "hub-key-not-allowed": (name, policy("device")),
        "missing-right": (name, policy("service")),
        "unknown-policy": (name, sas.token(own.resource, sas.new_key(), "nobody")),
        "key-as-password": (name, own.key),
        "connection-string-as-password": (name, own.connection_string),
        "entra-token": (name, "Bearer eyJhbGciOiJub25lIn0.e30."),
        "no-credential": (name, None),
        "disabled": (disabled.device, disabled.token()),
        "deleted-device": (deleted.device, deleted.token()),
        "unknown-device": (unknown, Identity(hub, {"deviceId": unknown}).token(key=sas.new_key())),
    }


def gateways(hub, registry, name) -> dict[str, tuple[str, str]]:
    """A child and a gateway's token for each cause that it can be refused for."""
    edge = lambda title, **fields: registry.create(f"{name}-{title}", capabilities={"iotEdge": True}, **fields)  # noqa: E731
    child = lambda title, parent: registry.create(f"{name}-{title}", deviceScope=parent.record["deviceScope"]).device  # noqa: E731

    def signed(gateway) -> str:
        path = f"/devices/{gateway.device}/modules/$edgeHub"
        return Identity(hub, registry.rest.expect(200, "GET", path)).token()

    top = edge("top")
    middle = edge("mid", parentScopes=[top.record["deviceScope"]])
    off = edge("dark")
    hidden = child("hidden", off)
    registry.update(off.device, status="disabled")
    nobody = sas.token(f"{hub.hostname}/devices/{name}-nobody/modules/$edgeHub", sas.new_key())
    return {
        "unknown-gateway": (child("lost", top), nobody),
        "not-its-gateway": (registry.create(f"{name}-alone").device, signed(top)),
        "auth-chain": (child("deep", middle), signed(top)),
        "gateway-disabled": (hidden, signed(off)),
    }


def certificates(hub, registry, root, name, folder):
    """A device and a certificate for each cause that a certificate can be refused for."""
    signed = lambda suffix: registry.create(f"{name}-{suffix}", {"type": "certificateAuthority"}).device  # noqa: E731
    thumbprint = {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": "0" * 64}}
    registry.create(f"{name}-print", thumbprint)
    registry.create(f"{name}-keys")
    middle = Authority(folder, f"{name} issuing", parent=root).issue(signed("middle"))
    first = middle.chain_file.read_text().split("-----END CERTIFICATE-----")[0]
    middle.chain_file.write_text(f"{first}-----END CERTIFICATE-----\n")
    return {
        "credential-kind": (f"{name}-keys", self_signed(folder, f"{name}-keys")),
        "thumbprint-mismatch": (f"{name}-print", self_signed(folder, f"{name}-print")),
        "untrusted-chain": (signed("far"), Authority(folder, f"{name} far Root").issue(f"{name}-far")),
        "intermediate-missing": (f"{name}-middle", middle),
        "self-signed": (signed("self"), self_signed(folder, f"{name}-self")),
        "certificate-name": (signed("named"), root.issue(f"{name}-other")),
        "certificate-expired": (signed("old"), root.issue(f"{name}-old", validity=Validity.past())),
        "certificate-not-yet-valid": (
            signed("new"),
            root.issue(f"{name}-new", validity=Validity.days_from_now(2, 9)),
        ),
    }


def test_over_mqtt_every_refused_connect_gets_the_same_bytes(hub, registry, root, capped, name, tmp_path):
    attempts = Attempts(hub)

    def connect(cause, device, password, user_name=None, credential=None) -> None:
        refusals = Refusals(hub)
        with tls_stream(hub, credential=credential) as stream:
            stream.sendall(connect_packet(hub, device, password or "", user_name=user_name))
            attempts.add(cause, to_the_end(stream), refusals)

    presented = tokens(hub, registry, name)
    for cause, (device, token) in presented.items():
        connect(cause, device, token)
    offered = certificates(hub, registry, root, name, tmp_path)
    for cause, (device, credential) in offered.items():
        connect(cause, device, None, credential=credential)
    good = presented["wrong-key"][0]
    connect("unknown-module", f"{name}/camera", Identity(hub, {"deviceId": name}).token(key=sas.new_key()))
    connect("client-id", f"{name}-x", "x", f"{hub.hostname}/{good}/?api-version=2021-04-12")
    connect("user-name", good, "x", good)
    connect("unknown-host", good, "x", f"elsewhere.net/{good}/?api-version=2021-04-12")
    behind = gateways(hub, registry, name)
    for cause, (device, token) in behind.items():
        connect(cause, device, token)
    attempts.are_alike(*presented, *offered, *behind, "unknown-module", "client-id", "user-name", "unknown-host")
    assert set(attempts.received.values()) == {b"\x20\x02\x00\x05"}


def test_over_mqtt_5_every_credential_that_does_not_admit_gets_the_same_bytes(
    hub, registry, root, capped, name, tmp_path
):
    attempts = Attempts(hub)
    own, other = registry.create(name), registry.create(f"{name}-2")
    disabled, deleted = registry.create(f"{name}-off", status="disabled"), registry.create(f"{name}-gone")
    registry.delete(deleted.device)

    def connect(cause, device, authentication, credential=None) -> None:
        refusals = Refusals(hub)
        with tls_stream(hub, credential=credential) as stream:
            stream.sendall(mqtt5.connect(device, *authentication))
            attempts.add(cause, to_the_end(stream), refusals)

    by_key = lambda key, device=name, **what: mqtt5.sas(hub, device, key, **what)  # noqa: E731
    seconds = str(int(time.time() + 3600))
    in_seconds = {"authentication-data": mqtt5.signature(own.key, hub.hostname, name, expiry=seconds)}
    user = [("api-version", mqtt5.API_VERSION), ("host", hub.hostname), ("sas-expiry", seconds)]
    presented = {
        "wrong-key": by_key(sas.new_key()),
        "key-of-another": by_key(other.key),
        "hub-key-without-skn": by_key(hub.policy_key("device")),
        "hub-key-not-allowed": by_key(hub.policy_key("device"), policy="device"),
        "missing-right": by_key(hub.policy_key("service"), policy="service"),
        "unknown-policy": by_key(sas.new_key(), policy="nobody"),
        "token-expired": by_key(own.key, seconds=-7200),
        "token-too-long": by_key(own.key, seconds=30 * 86400),
        "token-in-seconds": ({"authentication-method": "SAS", **in_seconds}, user),
        "unknown-host": by_key(own.key, host="elsewhere.net"),
        "no-credential": mqtt5.x509(hub),
    }
    for cause, authentication in presented.items():
        connect(cause, name, authentication)
    connect("disabled", disabled.device, by_key(disabled.key, disabled.device))
    connect("deleted-device", deleted.device, by_key(deleted.key, deleted.device))
    connect("unknown-device", f"{name}-no", by_key(sas.new_key(), f"{name}-no"))
    connect("unknown-module", f"{name}/camera", by_key(sas.new_key(), f"{name}/camera"))
    offered = certificates(hub, registry, root, name, tmp_path)
    for cause, (device, credential) in offered.items():
        connect(cause, device, mqtt5.x509(hub), credential)
    others = ("disabled", "deleted-device", "unknown-device", "unknown-module")
    attempts.are_alike(*presented, *others, *offered)
    assert next(iter(attempts.received.values())) == b"\x20\x03\x00\x87\x00"


def test_over_mqtt_5_every_refused_auth_gets_the_same_bytes(hub, registry, capped, name):
    attempts = Attempts(hub)
    identity = registry.create(name)
    presented = {
        "wrong-key": mqtt5.again(hub, name, sas.new_key()),
        "hub-key-without-skn": mqtt5.again(hub, name, hub.policy_key("device")),
        "token-expired": mqtt5.again(hub, name, identity.key, seconds=-7200),
        "token-too-long": mqtt5.again(hub, name, identity.key, seconds=30 * 86400),
        "authentication-properties": ({"authentication-method": "X509"}, []),
    }
    for cause, authentication in presented.items():
        refusals = Refusals(hub)
        with tls_stream(hub) as stream:
            stream.sendall(mqtt5.connect(name, *mqtt5.sas(hub, name, identity.key)))
            stream.sendall(mqtt5.packet(mqtt5.AUTH, b"\x19" + mqtt5.encoded(*authentication)))
            received = to_the_end(stream)
        attempts.add(cause, received, refusals)
    attempts.are_alike(*presented)
    assert next(iter(attempts.received.values())).endswith(b"\xe0\x02\x87\x00")


def test_over_mqtt_every_end_of_an_admitted_connection_is_a_bare_close(hub, registry, name):
    attempts = Attempts(hub)

    def online(cause, token_seconds: float = 600, keep_alive: int = 60, then=lambda _stream, _device: None) -> None:
        identity = registry.create(f"{name}-{cause}")
        refusals = Refusals(hub)
        with tls_stream(hub) as stream:
            stream.sendall(connect_packet(hub, identity.device, identity.token(token_seconds), keep_alive))
            stream.settimeout(10)
            assert stream.recv(4) == b"\x20\x02\x00\x00"
            again = then(stream, identity)
            attempts.add(cause, to_the_end(stream), refusals)
            if again:
                again.close()

    def publish(topic: str, payload: bytes = b"", qos: int = 0) -> bytes:
        body = len(topic).to_bytes(2) + topic.encode() + (b"\x00\x01" if qos else b"") + payload
        length, digits = len(body), bytearray()
        while length > 127:
            digits.append(length % 128 | 128)
            length //= 128
        return bytes([0x30 | qos << 1]) + bytes(digits) + bytes([length]) + body

    def second(_stream, identity):
        newer = tls_stream(hub)
        newer.sendall(connect_packet(hub, identity.device, identity.token()))
        return newer

    subscription = b"\x82\x06\x00\x01\x00\x01#\x01"
    online("topic", then=lambda s, _: s.sendall(publish("plant/7", b"x")))
    online("topic-filter", then=lambda s, _: s.sendall(subscription))
    online("qos-two", then=lambda s, d: s.sendall(publish(f"devices/{d.device}/messages/events/", b"x", 2)))
    online(
        "message-too-large",
        then=lambda s, d: s.sendall(publish(f"devices/{d.device}/messages/events/", bytes(262_145))),
    )
    online("protocol", then=lambda s, d: s.sendall(connect_packet(hub, d.device)))
    online("keep-alive-missed", keep_alive=1)
    online("token-ended", token_seconds=2)
    online("taken-over", then=second)
    online("right-ended", then=lambda _, d: registry.delete(d.device))
    attempts.are_alike(
        "topic", "topic-filter", "qos-two", "message-too-large", "protocol", "keep-alive-missed",
        "token-ended", "taken-over", "right-ended",
    )  # fmt: skip
    assert set(attempts.received.values()) == {b""}


# What differs from answer to answer, whatever the cause: the time, and the ids by which an answer is found again.
CHANGING = [
    rb"(?im)^date: .*$",
    rb"(?im)^x-ms-request-id: .*$",
    rb"Tracking ID:[0-9a-f]{32}-G:0-TimeStamp:[0-9/]{10} [0-9:]{8}",
]


def normalised(answer: bytes) -> bytes:
    for pattern in CHANGING:
        answer, count = re.subn(pattern, b"<changing>", answer)
        assert count == 1, f"{pattern} stands {count} times in {answer}"
    return answer


def test_over_https_every_refusal_is_the_same_answer(hub, registry, root, capped, name, tmp_path):
    attempts = Attempts(hub)

    def ask(cause, device, token, credential=None, query="") -> None:
        refusals = Refusals(hub)
        with tls_stream(hub, "https", credential=credential) as stream:
            authorization = f"Authorization: {token}\r\n" if token else ""
            path = f"/devices/{device}/messages/events?api-version=2021-04-12{query}"
            head = f"POST {path} HTTP/1.1\r\nHost: {hub.hostname}\r\nContent-Length: 2\r\n{authorization}"
            stream.sendall(f"{head}Connection: close\r\n\r\n{{}}".encode())
            attempts.add(cause, normalised(to_the_end(stream)), refusals)

    presented = tokens(hub, registry, name)
    for cause, (device, token) in presented.items():
        ask(cause, device, token)
    offered = certificates(hub, registry, root, name, tmp_path)
    for cause, (device, credential) in offered.items():
        ask(cause, device, None, credential)
    query = "&" + presented["token-expired"][1].removeprefix("SharedAccessSignature ")
    ask("token-in-query", name, None, query=query)
    ask("unknown-module", f"{name}/modules/camera", Identity(hub, {"deviceId": name}).token(key=sas.new_key()))
    attempts.are_alike(*presented, *offered, "token-in-query", "unknown-module")
    assert next(iter(attempts.received.values())).startswith(b"HTTP/1.1 401 Unauthorized\r\n")


def test_a_service_learns_no_more_over_https(hub, registry, capped, name):
    attempts = Attempts(hub)

    def ask(cause, token, path="/devices") -> None:
        refusals = Refusals(hub)
        with tls_stream(hub, "https") as stream:
            authorization = f"Authorization: {token}\r\n" if token else ""
            head = f"GET {path}?api-version=2021-04-12 HTTP/1.1\r\nHost: {hub.hostname}\r\n{authorization}"
            stream.sendall(f"{head}Connection: close\r\n\r\n".encode())
            attempts.add(cause, normalised(to_the_end(stream)), refusals)

    host, key = hub.hostname, hub.policy_key("registryRead")
    ask("no-credential", None)
    ask("wrong-key", sas.token(host, sas.new_key(), "registryRead"))
    ask("key-of-another", sas.token(host, hub.policy_key("device"), "registryRead"))
    ask("token-expired", sas.token(host, key, "registryRead", seconds=-7200))
    ask("token-too-long", sas.token(host, key, "registryRead", seconds=30 * 86400))
    ask("token-scope", sas.token(f"{host}/twins", key, "registryRead"))
    ask("token-host", sas.token("elsewhere.net", key, "registryRead"))
    ask("unknown-policy", sas.token(host, key, "nobody"))
    ask("missing-right", sas.token(host, hub.policy_key("device"), "device"))
    ask("entra-token", "Bearer eyJhbGciOiJub25lIn0.e30.")
    ask("management-credential", "Bearer x", "/holdfast/v1/why")
    attempts.are_alike(
        "no-credential", "wrong-key", "key-of-another", "token-expired", "token-too-long", "token-scope",
        "token-host", "unknown-policy", "missing-right", "entra-token", "management-credential",
    )  # fmt: skip


def test_over_amqp_every_refused_token_gets_the_same_answer(hub, registry, capped, name):
    attempts = Attempts(hub)
    resource, key = f"sb://{hub.hostname}/holdfast", hub.policy_key("service")
    presented = {
        "wrong-key": sas.token(resource, sas.new_key(), "service"),
        "key-of-another": sas.token(resource, hub.policy_key("device"), "service"),
        "token-signed-other-sr": mistakes.token(resource, key, signed=resource, skn="service"),
        "token-signed-other-text": mistakes.token(resource, key, text="{sr}{se}", skn="service"),
        "token-expired": sas.token(resource, key, "service", seconds=-7200),
        "token-lifetime-as-end": mistakes.token(resource, key, se=3600, skn="service"),
        "token-in-milliseconds": mistakes.token(resource, key, se=int(time.time() * 1000), skn="service"),
        "token-too-long": sas.token(resource, key, "service", seconds=30 * 86400),
        "token-malformed": "SharedAccessSignature sr=x",
        "token-host": sas.token("sb://elsewhere.net/holdfast", key, "service"),
        "unknown-policy": sas.token(resource, key, "nobody"),
        "missing-right": sas.token(resource, hub.policy_key("device"), "device"),
        "key-as-password": key,
        "entra-token": "Bearer eyJhbGciOiJub25lIn0.e30.",
        "connection-string-as-password": hub.service_connection_string,
    }
    for cause, token in presented.items():
        refusals = Refusals(hub)
        attempts.add(cause, put_token(hub, token), refusals)
    attempts.are_alike(*presented)
    assert b"Unauthorized access." in next(iter(attempts.received.values()))


def test_over_amqp_every_refused_token_of_a_device_gets_the_same_answer(hub, registry, capped, name):
    attempts = Attempts(hub)
    presented = tokens(hub, registry, name)
    # A token for another device is a good one, until a link is attached; and what is not put is not answered.
    for cause in ("token-scope", "no-credential"):
        del presented[cause]
    unknown = f"{hub.hostname}/devices/{name}/modules/camera"
    presented["unknown-module"] = (f"{name}/camera", sas.token(unknown, sas.new_key()))
    for cause, (_, token) in presented.items():
        refusals = Refusals(hub)
        attempts.add(cause, put_token(hub, token), refusals)
    attempts.are_alike(*presented)
    assert b"Unauthorized access." in next(iter(attempts.received.values()))


def test_over_amqp_every_refused_certificate_gets_the_same_answer(hub, registry, root, name, tmp_path):
    attempts = Attempts(hub)
    offered = certificates(hub, registry, root, name, tmp_path)
    gone = registry.create(f"{name}-gone", {"type": "certificateAuthority"})
    registry.delete(gone.device)
    off = registry.create(f"{name}-off", {"type": "certificateAuthority"}, status="disabled")
    offered["deleted-device"] = (gone.device, root.issue(gone.device))
    offered["disabled"] = (off.device, root.issue(off.device))
    offered["unknown-device"] = (f"{name}-unknown", root.issue(f"{name}-unknown"))
    offered["no-credential"] = (registry.create(name).device, None)
    for cause, (device, credential) in offered.items():
        refusals = Refusals(hub)
        attempts.add(cause, attach_sender(hub, device, credential), refusals)
    attempts.are_alike(*offered)


def test_over_sasl_plain_every_refusal_is_the_same_outcome(hub):
    attempts = Attempts(hub)
    presented = {
        "wrong-key": f"\0service\0{sas.new_key()}",
        "unknown-policy": f"\0nobody\0{sas.new_key()}",
        "missing-right": f"\0device\0{hub.policy_key('device')}",
        "token-expired": f"\0service\0{sas.token(hub.hostname, hub.policy_key('service'), 'service', seconds=-7200)}",
        "protocol": "no zero byte in it",
    }
    for cause, response in presented.items():
        refusals = Refusals(hub)
        attempts.add(cause, sign_in(hub, "PLAIN", response.encode()), refusals)
    refusals = Refusals(hub)
    attempts.add("sasl-mechanism", sign_in(hub, "SCRAM-SHA-256", b"n,,n=x"), refusals)
    attempts.are_alike(*presented, "sasl-mechanism")


def test_before_tls_every_protocol_in_clear_is_closed_without_a_byte(hub):
    greetings = [b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04dev1", b"AMQP\x03\x01\x00\x00", b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n"]
    for greeting in greetings:
        refusals = Refusals(hub)
        with socket.create_connection((hub.address, hub.ports["mqtt"]), 5) as stream:
            stream.sendall(greeting)
            assert to_the_end(stream) == b""
        refusals.of("plain-text")

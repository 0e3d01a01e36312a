"""The TLS floor on every port: 1.2 and 1.3 with strong suites, and nothing else."""

import re
import socket
import subprocess
import time

import pytest

from harness.address import fresh_address
from harness.certificates import self_signed

PORTS = ["https", "mqtt", "amqp"]

# What an old or careless client offers. `@SECLEVEL=0` lifts this machine's own floor, not the hub's.
WEAK_SUITES_OF_TLS_1_2 = [
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA384",
    "ECDHE-RSA-AES128-SHA",
    "AES128-SHA",
    "AES256-SHA256",
    "AES128-GCM-SHA256",
    "DHE-RSA-AES256-SHA",
    "ECDHE-ECDSA-NULL-SHA",
    "NULL-SHA256",
    "AECDH-AES128-SHA",
    "ADH-AES128-SHA",
    "PSK-AES128-CBC-SHA",
]

STRONG_SUITES_OF_TLS_1_2 = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
]


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_the_current_versions_are_accepted(version, port, hub):
    shown = handshake(hub.address, hub.ports[port], version, "-CAfile", hub.ca_file)
    assert negotiated(shown) == {"-tls1_2": "TLSv1.2", "-tls1_3": "TLSv1.3"}[version]
    assert "Verify return code: 0 (ok)" in shown


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_the_old_versions_are_refused(version, port, hub):
    shown = handshake(hub.address, hub.ports[port], version, "-cipher", "ALL:@SECLEVEL=0")
    assert negotiated(shown) is None, shown


@pytest.mark.parametrize("version, name", [("-tls1", "TLSv1"), ("-tls1_1", "TLSv1.1")])
def test_the_judge_can_speak_the_old_versions_at_all(version, name, tmp_path):
    """Without this control, a client that cannot offer TLS 1.0 would make the refusals above worthless."""
    credential = self_signed(tmp_path, "old server", "RSA-2048")
    address = fresh_address()
    server = subprocess.Popen(
        ["openssl", "s_server", "-accept", f"{address}:8883", "-cert", credential.chain_file, "-key", credential.key_file]
        + [version, "-cipher", "ALL:@SECLEVEL=0", "-quiet"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        await_port(address, 8883)
        assert negotiated(handshake(address, 8883, version, "-cipher", "ALL:@SECLEVEL=0")) == name
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("suite", WEAK_SUITES_OF_TLS_1_2)
def test_weak_suites_are_refused(suite, port, hub):
    shown = handshake(hub.address, hub.ports[port], "-tls1_2", "-cipher", f"{suite}:@SECLEVEL=0")
    assert negotiated(shown) is None, shown


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("suite", STRONG_SUITES_OF_TLS_1_2)
def test_strong_suites_are_accepted(suite, port, hub):
    assert negotiated(handshake(hub.address, hub.ports[port], "-tls1_2", "-cipher", suite)) == "TLSv1.2"


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize(
    "greeting",
    [
        b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04dev1",
        b"AMQP\x03\x01\x00\x00",
        b"AMQP\x00\x01\x00\x00",
        b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n",
    ],
    ids=["MQTT", "AMQP with SASL", "AMQP", "HTTP"],
)
def test_plain_text_is_refused(greeting, port, hub):
    with socket.create_connection((hub.address, hub.ports[port]), 5) as stream:
        stream.sendall(greeting)
        answer = read_to_the_end(stream)
    assert answer == b"" or answer[0] == 0x15, "nothing but a TLS alert goes out in clear"


@pytest.mark.parametrize("port", [1883, 80, 5672])
def test_no_port_of_a_plain_protocol_is_open(port, hub):
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((hub.address, port), 2).close()


@pytest.mark.parametrize("port", PORTS)
def test_the_server_proves_every_name_that_a_connection_string_may_carry(port, hub):
    for flag, name in [("-verify_hostname", "localhost"), ("-verify_hostname", "holdfast.localhost")]:
        assert verified(handshake(hub.address, hub.ports[port], "-CAfile", hub.ca_file, flag, name)), name
    assert verified(handshake(hub.address, hub.ports[port], "-CAfile", hub.ca_file, "-verify_ip", hub.address))
    assert verified(handshake(hub.address, hub.ports[port], "-CAfile", hub.ca_file, "-verify_ip", "127.0.0.1"))
    assert not verified(handshake(hub.address, hub.ports[port], "-CAfile", hub.ca_file, "-verify_ip", "10.9.8.7"))


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_the_server_sends_its_chain_without_the_root(version, port, hub):
    shown = handshake(hub.address, hub.ports[port], version, "-showcerts", "-CAfile", hub.ca_file)
    assert verified(shown) and shown.count("BEGIN CERTIFICATE") == 1, shown


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_client_certificate_is_asked_for_without_naming_authorities(version, port, hub):
    shown = handshake(hub.address, hub.ports[port], version, "-msg")
    assert "CertificateRequest" in shown
    assert "No client certificate CA names sent" in shown


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("name", ["localhost", "hub.example.net", "127.0.0.1"])
def test_any_server_name_is_answered_also_an_address_as_event_hubs_for_node_sends_it(name, port, hub):
    assert negotiated(handshake(hub.address, hub.ports[port], "-servername", name)) == "TLSv1.3"


def test_https_agrees_on_http_1_1_by_alpn(hub):
    assert "ALPN protocol: http/1.1" in handshake(hub.address, hub.ports["https"], "-alpn", "h2,http/1.1")


@pytest.mark.parametrize("port", PORTS)
def test_a_client_that_says_nothing_is_let_go_and_delays_nobody(port, hub):
    silent = [socket.create_connection((hub.address, hub.ports[port]), 5) for _ in range(50)]
    try:
        started = time.monotonic()
        assert negotiated(handshake(hub.address, hub.ports[port])) == "TLSv1.3"
        assert time.monotonic() - started < 2
    finally:
        for stream in silent:
            stream.close()


def handshake(address: str, port: int, *options: str) -> str:
    """What `openssl s_client` shows of one handshake, whatever its outcome."""
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"{address}:{port}", *options],
        input=b"",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=15,
    )
    shown = done.stdout.decode(errors="replace")
    assert "CONNECTED(" in shown, f"nobody listens: {shown}"
    assert "no cipher match" not in shown and "Call to SSL_CONF_cmd" not in shown, f"the judge cannot offer this: {shown}"
    return shown


def negotiated(shown: str) -> str | None:
    """The version agreed on; none when the handshake failed."""
    match = re.search(r"^New, .*, Cipher is (\S+)$", shown, re.MULTILINE)
    if not match or match[1] == "(NONE)":
        return None
    version = re.search(r"^\s*Protocol\s*: (\S+)$|^New, (TLSv1\.3),", shown, re.MULTILINE)
    return version[1] or version[2]


def verified(shown: str) -> bool:
    return "Verify return code: 0 (ok)" in shown and "Verification error" not in shown


def read_to_the_end(stream: socket.socket) -> bytes:
    """All that comes until the peer closes, which it must do soon."""
    stream.settimeout(10)
    answer = b""
    try:
        while chunk := stream.recv(1024):
            answer += chunk
    except ConnectionResetError:
        pass
    return answer


def await_port(address: str, port: int) -> None:
    from harness.wait import until

    def open_now() -> bool:
        try:
            socket.create_connection((address, port), 1).close()
            return True
        except OSError:
            return False

    until(open_now, 5, f"port {port}")

"""Twenty guesses in a minute: the answers to the later ones wait, a good token never does, and who did not guess neither."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from harness import sas
from harness.hub import Hub
from harness.raw_amqp import SASL_HEADER, put_token, sasl_init
from harness.raw_mqtt import connect_packet, tls_stream
from harness.rest import Registry
from harness.wait import until

# The longest that an answer waits, and what a busy machine may add. A client of uamqp has 10 s of patience.
WAIT_SECONDS_MAX, LATE_SECONDS_MAX = 8, 4
PATIENCE_SECONDS = WAIT_SECONDS_MAX + LATE_SECONDS_MAX


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    hub = Hub(data=tmp_path_factory.mktemp("data"), refusals_per_minute=10).start()
    yield hub
    hub.stop()


class Mqtt:
    """A way in, with names of its own: in one name all doors count together."""

    def __init__(self, hub):
        self.hub, self.device = hub, Registry(hub).create(f"pump-{uuid.uuid4().hex[:8]}")

    def good(self) -> str:
        return self.device.token()

    def bad(self) -> str:
        return self.device.token(key=sas.new_key())

    def knock(self, token: str, source: str) -> bool | None:
        """Whether the hub lets somebody in who comes from an address; none when it closes without an answer."""
        with tls_stream(self.hub, source=source) as stream:
            stream.settimeout(PATIENCE_SECONDS)
            stream.sendall(connect_packet(self.hub, self.device.device, token))
            return {b"\x20\x02\x00\x00": True, b"\x20\x02\x00\x05": False, b"": None}[stream.recv(4)]


class Https(Mqtt):
    def knock(self, token, source):
        with tls_stream(self.hub, "https", source) as stream:
            stream.settimeout(PATIENCE_SECONDS)
            path = f"/devices/{self.device.device}/messages/events?api-version=2021-04-12"
            head = f"POST {path} HTTP/1.1\r\nHost: {self.hub.hostname}\r\nAuthorization: {token}\r\n"
            stream.sendall(f"{head}Content-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode())
            return {b"HTTP/1.1 204": True, b"HTTP/1.1 401": False, b"": None}[stream.recv(12)]


class Cbs:
    def __init__(self, hub):
        self.hub, self.resource = hub, f"sb://{hub.hostname}/holdfast"

    def good(self):
        return sas.token(self.resource, self.hub.policy_key("service"), "service")

    def bad(self):
        return sas.token(self.resource, sas.new_key(), "service")

    def knock(self, token, source):
        try:
            return b"Unauthorized" not in put_token(self.hub, token, origin=source, seconds=PATIENCE_SECONDS)
        except AssertionError as error:
            assert "the hub closed" in str(error)
            return None


class SaslPlain:
    def __init__(self, hub):
        self.hub = hub

    def good(self):
        return f"\0iothubowner\0{self.hub.policy_key('iothubowner')}"

    def bad(self):
        return f"\0iothubowner\0{sas.new_key()}"

    def knock(self, token, source):
        with tls_stream(self.hub, "amqp", source) as stream:
            stream.settimeout(PATIENCE_SECONDS)
            stream.sendall(SASL_HEADER + sasl_init("PLAIN", token.encode()))
            received = b""
            while b"\x00\x53\x44" not in received and (chunk := stream.recv(4096)):
                received += chunk
            return b"Welcome!" in received if b"\x00\x53\x44" in received else None


@pytest.mark.parametrize("door", [Mqtt, Https, Cbs, SaslPlain])
def test_the_later_of_twenty_bad_tokens_wait_and_good_ones_do_not(hub, door):
    way, at = door(hub), [Mqtt, Https, Cbs, SaslPlain].index(door)
    attacker, other = f"127.0.51.{at + 10}", f"127.0.51.{at + 20}"

    def knock(token: str, source: str) -> tuple[float, bool | None]:
        begun = time.monotonic()
        let_in = way.knock(token, source)
        return time.monotonic() - begun, let_in

    first = [knock(way.bad(), attacker) for _ in range(10)]
    with ThreadPoolExecutor(10) as pool:
        waiting = [pool.submit(knock, way.bad(), attacker) for _ in range(10)]
        good = [knock(way.good(), source) for source in (other, attacker)]
        rest = sorted(one.result() for one in waiting)
    assert all(let_in and seconds < LATE_SECONDS_MAX for seconds, let_in in good), good
    assert all(let_in is False and seconds < LATE_SECONDS_MAX for seconds, let_in in first), first
    for (seconds, let_in), least in zip(rest, [0.25, 0.5, 1, 2, 4, 8, 8, 8, 8, 8], strict=True):
        assert let_in is False and least <= seconds < least + LATE_SECONDS_MAX, rest

    entries = [entry for entry in hub.why("--from", attacker, "--limit", "20") if "slowed" in entry["facts"]]
    last = max(entries, key=lambda entry: entry["facts"]["slowed"]["refusals"])
    assert "The answer waited 8s, for it was refusal 20 of this address" in last["explanation"]


def test_few_may_wait_from_one_address_and_who_goes_leaves_a_place(hub):
    way, source = Mqtt(hub), "127.0.51.30"

    def come():
        stream = tls_stream(hub, source=source)
        stream.sendall(connect_packet(hub, way.device.device, way.bad()))
        return stream

    def is_answered(stream, seconds: float = 0.3) -> bool:
        stream.settimeout(seconds)
        try:
            return stream.recv(4) == b"\x20\x02\x00\x05"
        except TimeoutError:
            return False

    def come_until_one_is_answered() -> int:
        """How many came; all of them leave then."""
        waiting = [come()]
        while not is_answered(waiting[-1]) and len(waiting) < 40:
            waiting.append(come())
        for stream in waiting:
            stream.close()
        return len(waiting)

    for _ in range(20):
        come().close()
    # Places are free again once the hub has seen who left.
    until(lambda: come_until_one_is_answered() == 17, 30, "sixteen places and no more")
    until(lambda: not is_answered(come(), 2), 10, "a place")


def test_who_did_not_guess_is_answered_at_once_beside_somebody_who_does(hub):
    way, source = Https(hub), "127.0.51.40"
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda _: way.knock(way.bad(), source), range(12)))
    expired = way.device.token(seconds=-3600)
    no_right = sas.token(hub.hostname, hub.policy_key("service"), "service")
    gone = sas.token(hub.hostname, hub.policy_key("device"), "device")
    begun = time.monotonic()
    for token in (expired, no_right, "", "SharedAccessKey=x"):
        for _ in range(15):
            assert way.knock(token, source) is False
    other = Https(hub)
    other.device = SimpleNamespace(device="never-registered")
    assert all(knocks_404(other, gone, source) for _ in range(15))
    assert time.monotonic() - begun < 2 * LATE_SECONDS_MAX
    assert way.knock(way.bad(), source) is False, "an honest mistake is answered in time too"


def knocks_404(way, token: str, source: str) -> bool:
    try:
        way.knock(token, source)
    except KeyError as error:
        return b"404" in error.args[0]
    return False


def test_a_hub_for_development_slows_nobody_down(tmp_path):
    hub = Hub(data=tmp_path).start()
    try:
        for way in (Mqtt(hub), Https(hub), Cbs(hub), SaslPlain(hub)):
            begun = time.monotonic()
            assert not any(way.knock(way.bad(), "127.0.51.50") for _ in range(30))
            assert time.monotonic() - begun < 2 * LATE_SECONDS_MAX
    finally:
        hub.stop()

"""The posture engine: every check fires by real traffic and clears, every fix is undone to the same state."""

import base64
import hashlib
import json
import os
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from harness import sas
from harness.certificates import Authority, Validity, self_signed
from harness.hub import Hub, HubFailure
from harness.raw_mqtt import RawDevice
from harness.rest import Registry, Rest
from harness.wait import until

HOUR, DAY = 3_600, 86_400
# The issue's promise; nearly all are there at once.
VISIBLE_SECONDS_MAX = 60


def findings(hub: Hub, check: str, about: str = "") -> list[dict]:
    """The findings of a check that concern a resource and count."""
    report = hub.posture()
    return [
        finding
        for finding in report["findings"]
        if finding["check"] == check
        and finding["state"] == "open"
        and (not about or any(about == resource.split("/", 1)[1] for resource in finding["resources"]))
    ]


def fired(hub: Hub, check: str, about: str = "") -> dict:
    [finding] = until(lambda: findings(hub, check, about), VISIBLE_SECONDS_MAX, f"{check} of {about}")
    for member in ("id", "check", "resource", "severity", "evidence", "fix", "summary"):
        assert finding[member], f"`{member}` says nothing: {finding}"
    assert finding["fix"]["advice"]
    return finding


def cleared(hub: Hub, check: str, about: str = "") -> None:
    until(lambda: not findings(hub, check, about), VISIBLE_SECONDS_MAX, f"the end of {check} of {about}")


def fixed_and_undone(hub: Hub, finding: dict, about: str = "", stays: bool = False) -> dict:
    """Dry run, fix, undo and fix again; the state after the undo is the one before the fix, and a dry run changes none.
    `stays` says that the finding closes only after something else happened."""
    before = hub.cli("export")
    proposal = hub.cli("posture", "fix", finding["id"], "--dry-run")
    assert proposal["changes"]
    assert hub.cli("export") == before
    done = hub.cli("posture", "fix", finding["id"])
    assert done["changes"] == proposal["changes"]
    if not stays:
        cleared(hub, finding["check"], about)
    hub.cli("posture", "undo", done["fix"])
    assert hub.cli("export") == before
    if not stays:
        fired(hub, finding["check"], about)
    with pytest.raises(HubFailure, match="undone"):
        hub.cli("posture", "undo", done["fix"])
    again = hub.cli("posture", "fix", finding["id"])
    if not stays:
        cleared(hub, finding["check"], about)
    return again


def connect(hub: Hub, name: str, token: str) -> None:
    with RawDevice(hub, name, token) as device:
        assert device.connack == 0
        assert device.publish(f"devices/{name}/messages/events/", b"x")


@pytest.fixture(scope="module")
def later(tmp_path_factory):
    """A hub whose clock can be moved."""
    hub = Hub(data=tmp_path_factory.mktemp("moved"), moves_clock=True).start()
    yield hub
    hub.stop()


def test_a_fresh_hub_has_no_finding(tmp_path):
    fresh = Hub(data=tmp_path).start()
    try:
        report = fresh.posture()
        assert (report["score"], report["findings"]) == (100.0, [])
        assert len(report["checks"]) == 19
    finally:
        fresh.stop()


def test_a_shared_key(hub, registry, name):
    key = sas.new_key()
    keys = lambda: {"type": "sas", "symmetricKey": {"primaryKey": key, "secondaryKey": sas.new_key()}}  # noqa: E731
    kept, other = registry.create(name, keys()), registry.create(f"{name}-copy", keys())
    connect(hub, name, kept.token())
    finding = fired(hub, "id-shared-credential", name)
    assert finding["severity"] == "critical"
    assert sorted(finding["resources"]) == [f"device/{name}", f"device/{name}-copy"]
    assert key not in json.dumps(finding)
    assert {holder["slot"] for holder in finding["evidence"]["identities"]} == {"primary"}
    with RawDevice(hub, other.device, other.token()) as live:
        assert live.connack == 0
        # The one that was active last keeps its key.
        done = fixed_and_undone(hub, finding, name)
        assert done["cutsOff"] == [name]
        assert not live.closed.is_set()
    with RawDevice(hub, name, kept.token()) as device:
        assert device.connack == 5


def test_a_shared_thumbprint_has_no_fix_and_says_what_to_do(hub, registry, name, tmp_path):
    thumbprint = self_signed(tmp_path, name).sha256
    for device in (name, f"{name}-copy"):
        x509 = {"primaryThumbprint": thumbprint, "secondaryThumbprint": None}
        registry.create(device, {"type": "selfSigned", "x509Thumbprint": x509})
    finding = fired(hub, "id-shared-credential", name)
    assert finding["fix"]["command"] is None
    with pytest.raises(HubFailure, match="cannot fix"):
        hub.cli("posture", "fix", finding["id"])
    registry.delete(f"{name}-copy")
    cleared(hub, "id-shared-credential", name)


def test_one_certificate_used_as_two_devices(hub, registry, name, tmp_path):
    """A CA-signed certificate names one device, so the key is shared through two certificates."""
    authority = Authority(tmp_path, f"{name} root")
    hub.cli("certificate", "add", str(authority.certificate_file), "--name", name, "--verified")
    first = authority.issue(name)
    second = authority.issue(f"{name}-copy", key_of=first)
    for device, credential in ((name, first), (f"{name}-copy", second)):
        registry.create(device, {"type": "certificateAuthority"})
        with RawDevice(hub, device, credential=credential) as live:
            assert live.connack == 0
    finding = fired(hub, "id-shared-credential", name)
    assert finding["evidence"]["credential"] == "certificate key"
    registry.delete(f"{name}-copy")
    cleared(hub, "id-shared-credential", name)


def test_two_clients_fight_for_one_identity(later, name):
    identity = Registry(later).create(name)
    token = identity.token(seconds=later.clock.seconds + HOUR)
    live = [RawDevice(later, name, token).open() for _ in range(4)]
    assert all(device.closed.wait(5) for device in live[:3])
    finding = fired(later, "id-conflicting-connection", name)
    assert len(finding["evidence"]["takeovers"]) == 3
    live[3].close()
    fixed_and_undone(later, finding, name, stays=True)
    # It outlives a restart, and closes when it has been quiet.
    later.restart()
    fired(later, "id-conflicting-connection", name)
    later.clock.advance(31 * 60)
    cleared(later, "id-conflicting-connection", name)


def test_an_identity_that_never_connected(later, name):
    registry = Registry(later)
    identity = registry.create(name)
    registry.create(f"{name}-idle")
    registry.create(f"{name}-off", status="disabled")
    assert findings(later, "id-never-connected", name) == []
    later.clock.advance(31 * DAY)
    finding = fired(later, "id-never-connected", name)
    connect(later, name, identity.token(seconds=later.clock.seconds + HOUR))
    cleared(later, "id-never-connected", name)
    assert findings(later, "id-never-connected", f"{name}-off") == []
    fixed_and_undone(later, fired(later, "id-never-connected", f"{name}-idle"), f"{name}-idle")
    assert finding["severity"] == "low"


def test_the_owner_policy_in_daily_use(later):
    def service():
        read_registry(later, "iothubowner", HOUR)

    service()
    assert findings(later, "auth-owner-in-use", "iothubowner") == []
    later.clock.advance(DAY)
    service()
    finding = fired(later, "auth-owner-in-use", "iothubowner")
    assert "RegistryRead" in finding["evidence"]["rightsUsed"]
    done = fixed_and_undone(later, finding, "iothubowner", stays=True)
    policy = later.cli("policy", "show", "iothubowner-observed", "--keys")
    assert "RegistryRead" in policy["rights"] and "DeviceConnect" not in policy["rights"]
    assert done["next"] == ["holdfast policy show iothubowner-observed --keys"]
    later.clock.advance(8 * DAY)
    cleared(later, "auth-owner-in-use", "iothubowner")


def test_a_device_with_the_key_of_a_policy(hub, registry, name):
    identity = registry.create(name)
    with RawDevice(hub, name, sas.token(identity.resource, hub.policy_key("device"), "device")) as live:
        assert live.connack == 0
        finding = fired(hub, "auth-hub-key-on-device", name)
        assert finding["evidence"]["policy"] == "device"
        proposal = hub.cli("posture", "fix", finding["id"], "--dry-run")
        assert proposal["cutsOff"] == [name]
        before = hub.cli("export")
        done = hub.cli("posture", "fix", finding["id"])
        assert live.closed.wait(5)
        cleared(hub, "auth-hub-key-on-device", name)
    hub.cli("posture", "undo", done["fix"])
    assert hub.cli("export") == before
    fired(hub, "auth-hub-key-on-device", name)
    connect(hub, name, identity.token())
    cleared(hub, "auth-hub-key-on-device", name)


def test_a_python_device_that_is_given_the_string_of_a_policy(hub, registry, name):
    """That SDK leaves the name of the policy out, so the token is one that a hub key signed."""
    identity = registry.create(name)
    with RawDevice(hub, name, sas.token(identity.resource, hub.policy_key("registryRead"))) as device:
        assert device.connack == 5
    finding = fired(hub, "auth-hub-key-leaked", name)
    assert (finding["evidence"]["policy"], finding["evidence"]["slot"]) == ("registryRead", "primary")
    before = hub.cli("export")
    done = fixed_and_undone(hub, finding, name)
    assert hub.cli("export") != before
    assert done["next"] == ["holdfast policy show registryRead --keys"]


def test_a_token_that_lives_for_a_year(hub, registry, name):
    identity = registry.create(name)
    with RawDevice(hub, name, identity.token(seconds=365 * DAY)) as live:
        assert live.connack == 0
        finding = fired(hub, "auth-sas-ttl", name)
        assert finding["evidence"]["seconds"] > 364 * DAY
        before = hub.cli("export")
        done = hub.cli("posture", "fix", finding["id"])
        assert done["cutsOff"] == [name]
        assert live.closed.wait(5)
        cleared(hub, "auth-sas-ttl", name)
    hub.cli("posture", "undo", done["fix"])
    assert hub.cli("export") == before
    fired(hub, "auth-sas-ttl", name)
    connect(hub, name, identity.token())
    cleared(hub, "auth-sas-ttl", name)


def test_a_service_with_a_token_for_a_month(later):
    read_registry(later, "registryRead", 30 * DAY)
    finding = fired(later, "auth-sas-ttl", "registryRead")
    assert finding["fix"]["command"] is None
    later.clock.advance(8 * DAY)
    cleared(later, "auth-sas-ttl", "registryRead")


def read_registry(hub: Hub, policy: str, seconds: int) -> None:
    """As a service does, with a token that ends so long after the time of the hub."""
    token = sas.token(hub.hostname, hub.policy_key(policy), policy, hub.clock.seconds + seconds)
    Rest(hub, authorization=token).expect(200, "GET", "/devices")


def test_guessing_and_guessing_that_succeeds(later, name):
    registry = Registry(later)
    identity = registry.create(name)
    seconds = later.clock.seconds + HOUR
    for _ in range(10):
        with RawDevice(later, name, identity.token(seconds=seconds, key=sas.new_key())) as device:
            assert device.connack == 5
    finding = fired(later, "auth-bruteforce", name)
    assert finding["severity"] == "low"
    connect(later, name, identity.token(seconds=seconds))
    finding = until(
        lambda: next((f for f in findings(later, "auth-bruteforce", name) if f["severity"] == "high"), None), 10
    )
    assert finding["evidence"]["succeeded"] is True
    fixed_and_undone(later, finding, name, stays=True)
    later.clock.advance(61 * 60)
    cleared(later, "auth-bruteforce")


def test_a_device_certificate_near_its_end(hub, registry, name, tmp_path):
    authority = Authority(tmp_path, f"{name} root")
    hub.cli("certificate", "add", str(authority.certificate_file), "--name", name, "--verified")
    registry.create(name, {"type": "certificateAuthority"})
    unknown = tally(hub, "key-cert-expiring")["unknown"]
    for days, severity in ((10, "medium"), (3, "high")):
        credential = authority.issue(name, f"{days}", Validity.days_from_now(-400, days))
        with RawDevice(hub, name, credential=credential) as live:
            assert live.connack == 0
        assert fired(hub, "key-cert-expiring", name)["severity"] == severity
    assert tally(hub, "key-cert-expiring")["unknown"] == unknown - 1
    renewed = authority.issue(name, "renewed", Validity.days_from_now(-1, 300))
    with RawDevice(hub, name, credential=renewed) as live:
        assert live.connack == 0
    cleared(hub, "key-cert-expiring", name)


def tally(hub: Hub, check: str) -> dict:
    return next(tally for tally in hub.posture()["checks"] if tally["check"] == check)


def test_the_certificate_of_the_hub_near_its_end(tmp_path):
    hub = Hub(data=tmp_path, moves_clock=True).start()
    try:
        identity = Registry(hub).create("d1")
        hub.clock.advance(365 * DAY)
        live = RawDevice(hub, "d1", identity.token(seconds=hub.clock.seconds + HOUR)).open()
        assert live.connack == 0
        finding = fired(hub, "key-server-cert-expiring", "server")
        before = presented(hub)
        fixed_and_undone(hub, finding, "server")
        assert presented(hub) != before
        assert not live.closed.is_set(), "a live connection goes on"
    finally:
        hub.stop()


def presented(hub: Hub) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((hub.address, hub.ports["mqtt"])) as plain, context.wrap_socket(plain) as tls:
        return hashlib.sha256(tls.getpeercert(binary_form=True)).hexdigest()


@pytest.mark.parametrize(
    "weak",
    [base64.b64encode(os.urandom(16)).decode(), base64.b64encode(bytes(32)).decode(), "derived"],
    ids=["short", "patterned", "made from the name"],
)
def test_a_weak_key(weak, hub, registry, name):
    if weak == "derived":
        weak = base64.b64encode(hashlib.sha256(name.encode()).digest()).decode()
    keys = {"primaryKey": sas.new_key(), "secondaryKey": weak}
    registry.create(name, {"type": "sas", "symmetricKey": keys})
    finding = fired(hub, "key-sym-weak", name)
    assert finding["evidence"]["keys"][0]["slot"] == "secondary"
    assert weak not in json.dumps(finding)
    fixed_and_undone(hub, finding, name)


def test_one_key_in_both_slots(hub, registry, name):
    key = sas.new_key()
    registry.create(name, {"type": "sas", "symmetricKey": {"primaryKey": key, "secondaryKey": key}})
    finding = fired(hub, "key-sym-weak", name)
    fixed_and_undone(hub, finding, name)


def test_a_key_of_the_documentation(hub, registry, name):
    key = "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw=="
    registry.create(name, {"type": "sas", "symmetricKey": {"primaryKey": key, "secondaryKey": sas.new_key()}})
    finding = fired(hub, "key-public-sample", name)
    assert finding["severity"] == "critical"
    fixed_and_undone(hub, finding, name)
    assert registry.update(name)["status"] == "disabled"


def test_an_authority_of_a_tutorial(hub, registry, name, tmp_path):
    authority = Authority(tmp_path, "Azure IoT Hub CA Cert Test Only")
    hub.cli("certificate", "add", str(authority.certificate_file), "--name", name, "--verified")
    registry.create(name, {"type": "certificateAuthority"})
    with RawDevice(hub, name, credential=authority.issue(name)) as live:
        assert live.connack == 0
        finding = fired(hub, "key-public-sample", name)
        fixed_and_undone(hub, finding, name)
        assert live.closed.wait(5)
    hub.cli("certificate", "delete", name)


@pytest.fixture
def moved(tmp_path):
    """A hub of a test's own, whose clock can be moved, for what was made today."""
    hub = Hub(data=tmp_path / "data", moves_clock=True).start()
    yield hub
    hub.stop()


def test_a_revocation_list_that_is_out_of_date(moved, tmp_path):
    registry = Registry(moved)
    authority = Authority(tmp_path, "plant with lists")
    moved.cli("certificate", "add", str(authority.certificate_file), "--name", "plant", "--verified")
    lost, kept = authority.issue("lost"), authority.issue("kept")
    for device in ("lost", "kept"):
        registry.create(device, {"type": "certificateAuthority"})
    moved.cli("certificate", "revoke", "plant", str(authority.revoke(lost, days=1)))
    cleared(moved, "key-crl-stale", "plant")
    moved.clock.advance(25 * HOUR)
    finding = fired(moved, "key-crl-stale", "plant")
    assert "was due at" in finding["summary"]
    # It goes on counting, and who is not on it is admitted.
    for name, credential, connack in (("lost", lost, 5), ("kept", kept, 0)):
        with RawDevice(moved, name, credential=credential) as device:
            assert device.connack == connack
    moved.cli("certificate", "revoke", "plant", "--remove", "all certificates")
    cleared(moved, "key-crl-stale", "plant")


def test_a_secret_in_the_configuration(tmp_path):
    key = base64.b64encode(os.urandom(32)).decode()
    config, file = tmp_path / "hub.toml", tmp_path / "key"
    config.write_text(f'master-key = "{key}"\n')
    refused = subprocess.run([os.environ["HOLDFAST_BIN"], "serve", "--config", config], capture_output=True, text=True)
    assert refused.returncode == 1 and "file:PATH" in refused.stderr and key not in refused.stderr
    hub = Hub(data=tmp_path / "data", config=config).start()
    try:
        finding = fired(hub, "key-in-config", "master-key")
        assert key not in json.dumps(finding)
        file.write_text(key)
        config.write_text(f'master-key = "file:{file}"\n')
        hub.restart()
        cleared(hub, "key-in-config", "master-key")
    finally:
        hub.stop()


@pytest.mark.parametrize("name_of", ["server.key", "registry.db", "."])
def test_a_file_that_others_may_read(name_of, hub):
    path = Path(hub.data) / name_of
    path.chmod(path.stat().st_mode | 0o044)
    fixed_and_undone(hub, fired(hub, "key-file-perms", name_of), name_of)
    assert path.stat().st_mode & 0o077 == 0


def test_an_old_client(later):
    port = str(later.ports["mqtt"])
    old = ["openssl", "s_client", "-connect", f"{later.address}:{port}", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]
    subprocess.run(old, capture_output=True, stdin=subprocess.DEVNULL, timeout=20)
    finding = fired(later, "tls-legacy-client", "127.0.0.1")
    assert "1.1" in finding["summary"]
    later.clock.advance(25 * HOUR)
    cleared(later, "tls-legacy-client", "127.0.0.1")


def test_a_finding_is_seen_without_being_asked_for(hub, registry, name):
    """The promise is that it is visible, in the log as well, within a minute of its cause."""
    keys = {"primaryKey": sas.new_key(), "secondaryKey": base64.b64encode(bytes(32)).decode()}
    registry.create(name, {"type": "sas", "symmetricKey": keys})
    log = lambda: f"device/{name}" in (hub.folder / "stderr").read_text()  # noqa: E731
    until(log, VISIBLE_SECONDS_MAX, "a line in the hub's own log")


def test_a_waiver_has_an_owner_a_reason_and_an_end(hub, registry, name):
    key = sas.new_key()
    for device in (name, f"{name}-copy"):
        keys = {"primaryKey": key, "secondaryKey": sas.new_key()}
        registry.create(device, {"type": "sas", "symmetricKey": keys})
    finding = fired(hub, "id-shared-credential", name)
    before = hub.posture()["score"]
    waive = lambda *more: hub.cli("posture", "waive", finding["id"], "--owner", "anna", "--reason", *more)  # noqa: E731
    for wrong in (("", "--days", "30"), ("a rig", "--until", "2020-01-01"), ("a rig", "--days", "100")):
        with pytest.raises(HubFailure):
            waive(*wrong)
    assert waive("a rig", "--days", "30")["state"] == "waived"
    cleared(hub, "id-shared-credential", name)
    assert hub.posture()["score"] > before
    assert hub.cli("posture", "end-waiver", finding["id"])["state"] == "open"
    assert hub.posture()["score"] == before


def test_what_was_changed_since_is_not_lost_by_an_undo(hub, registry, name):
    keys = {"primaryKey": sas.new_key(), "secondaryKey": base64.b64encode(bytes(32)).decode()}
    registry.create(name, {"type": "sas", "symmetricKey": keys})
    done = hub.cli("posture", "fix", fired(hub, "key-sym-weak", name)["id"])
    registry.update(name, statusReason="changed by a person")
    before = hub.cli("export")
    with pytest.raises(HubFailure, match="changed after the fix"):
        hub.cli("posture", "undo", done["fix"])
    assert hub.cli("export") == before


def test_the_report_has_every_recommendation_of_the_seeds(hub, tmp_path):
    report = hub.cli("posture", "report", "--format", "json")
    assert [row["id"] for row in report["rows"]] == [f"S{number:02}" for number in range(1, 39)]
    for row in report["rows"]:
        assert row["state"] in ("doneByHub", "verified", "yours", "unknown")
        assert row["evidence"] and row["date"]
        if not row["exists"]:
            assert row["state"] == "unknown" and "does not have this yet" in row["evidence"]
    page = tmp_path / "report.html"
    command = [os.environ["HOLDFAST_BIN"], "posture", "report", "--ready-file", hub.ready_file, "--format", "html"]
    subprocess.run([*command, "--out", page], check=True, timeout=20)
    assert page.read_text().count("<tr class=") == 38


def test_a_finding_stands_against_its_recommendation(hub, registry, name):
    key = sas.new_key()
    for device in (name, f"{name}-copy"):
        keys = {"primaryKey": key, "secondaryKey": sas.new_key()}
        registry.create(device, {"type": "sas", "symmetricKey": keys})
    finding = fired(hub, "id-shared-credential", name)
    row = next(row for row in hub.cli("posture", "report")["rows"] if row["id"] == "S16")
    assert row["state"] == "yours" and finding["id"] in row["findings"]

"""`holdfast why` on client certificates."""

import pytest

from harness import devices
from harness.certificates import LEAF_EXTENSIONS, Authority, Credential, Validity, key, self_signed, sign
from harness.raw_mqtt import RawDevice
from harness.why import refused, the_refusal


@pytest.fixture(scope="module")
def root(hub, tmp_path_factory):
    root = Authority(tmp_path_factory.mktemp("authority"), "plant Root CA")
    hub.cli("certificate", "add", str(root.certificate_file), "--verified")
    return root


@pytest.fixture
def signed(registry, name):
    """A device that needs a certificate of an authority."""
    return registry.create(name, {"type": "certificateAuthority"}).device


def leaf_only(credential: Credential) -> Credential:
    first = credential.chain_file.read_text().split("-----END CERTIFICATE-----")[0]
    credential.chain_file.write_text(f"{first}-----END CERTIFICATE-----\n")
    return credential


def test_a_thumbprint_that_does_not_match_is_registered_by_the_command_that_is_named(hub, registry, name, tmp_path):
    registered, presented = self_signed(tmp_path, name), self_signed(tmp_path, f"{name}-new")
    registry.create(name, {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": registered.sha256}})
    refused(devices.by_certificate(hub, name, presented))
    entry = the_refusal(hub, name)
    assert entry["cause"] == "thumbprint-mismatch"
    assert presented.sha256 in entry["presented"].upper()
    assert registered.sha256 in entry["expected"].upper()
    hub.cli(*entry["fix"].split()[1:])
    with devices.connected(devices.by_certificate(hub, name, presented)):
        pass


def test_a_chain_that_nobody_vouches_for(hub, root, signed, tmp_path):
    refused(devices.by_certificate(hub, signed, Authority(tmp_path, "Backyard Root").issue(signed)))
    entry = the_refusal(hub, signed)
    assert entry["cause"] == "untrusted-chain"
    assert "Backyard Root" in entry["presented"] + entry["explanation"]


def test_a_missing_intermediate(hub, root, signed, tmp_path):
    issued = Authority(tmp_path, "line 3 issuing", parent=root).issue(signed)
    refused(devices.by_certificate(hub, signed, leaf_only(issued)))
    entry = the_refusal(hub, signed)
    assert entry["cause"] == "intermediate-missing"
    assert "line 3 issuing" in entry["explanation"] and "behind" in entry["change"]


def test_a_root_by_name_is_known_for_an_intermediate_once_another_client_has_sent_it(hub, registry, root, name, tmp_path):
    middle = Authority(tmp_path, "a Root by name only", parent=root)
    for device in (name, f"{name}-2"):
        registry.create(device, {"type": "certificateAuthority"})
    refused(devices.by_certificate(hub, name, leaf_only(middle.issue(name))))
    assert the_refusal(hub, name)["cause"] == "untrusted-chain"
    with devices.connected(devices.by_certificate(hub, f"{name}-2", middle.issue(f"{name}-2"))):
        pass
    assert the_refusal(hub, name)["cause"] == "intermediate-missing"


def test_an_authority_that_is_not_verified(hub, signed, tmp_path):
    authority = Authority(tmp_path, f"{signed} Root")
    hub.cli("certificate", "add", str(authority.certificate_file), "--name", signed)
    issued = authority.issue(signed)
    refused(devices.by_certificate(hub, signed, issued))
    entry = the_refusal(hub, signed)
    assert entry["cause"] == "authority-not-verified"
    hub.cli(*entry["fix"].split()[1:])
    with devices.connected(devices.by_certificate(hub, signed, issued)):
        pass


def test_a_certificate_that_signs_itself_where_one_of_an_authority_is_needed(hub, root, signed, tmp_path):
    own = self_signed(tmp_path, signed)
    refused(devices.by_certificate(hub, signed, own))
    entry = the_refusal(hub, signed)
    assert entry["cause"] == "self-signed"
    hub.cli(*entry["fix"].split()[1:])
    with devices.connected(devices.by_certificate(hub, signed, own)):
        pass


def test_a_certificate_that_has_ended(hub, root, signed):
    refused(devices.by_certificate(hub, signed, root.issue(signed, validity=Validity.past())))
    entry = the_refusal(hub, signed)
    assert entry["cause"] == "certificate-expired"
    assert "ago" in entry["explanation"]


def test_a_certificate_that_has_not_begun(hub, root, signed):
    refused(devices.by_certificate(hub, signed, root.issue(signed, validity=Validity.days_from_now(3, 9))))
    entry = the_refusal(hub, signed)
    assert entry["cause"] == "certificate-not-yet-valid"
    assert "2 d" in entry["explanation"]


def test_a_certificate_for_another_name(hub, root, signed):
    refused(devices.by_certificate(hub, signed, root.issue(f"{signed}-other")))
    entry = the_refusal(hub, signed)
    assert entry["cause"] == "certificate-name"
    assert entry["expected"] == f"CN={signed}"


def test_a_certificate_for_servers(hub, root, signed, tmp_path):
    credential = Credential(tmp_path / "server.key", tmp_path / "server.pem")
    key(credential.key_file)
    extensions = LEAF_EXTENSIONS.replace("clientAuth", "serverAuth")
    sign(signed, credential.key_file, credential.chain_file, extensions, issuer=(root.certificate_file, root.key_file))
    refused(devices.by_certificate(hub, signed, credential))
    assert the_refusal(hub, signed)["cause"] == "certificate-purpose"


def test_a_revoked_certificate(hub, signed, tmp_path):
    authority = Authority(tmp_path, f"{signed} Root")
    hub.cli("certificate", "add", str(authority.certificate_file), "--name", signed, "--verified")
    issued = authority.issue(signed)
    hub.cli("certificate", "revoke", signed, str(authority.revoke(issued)))
    refused(devices.by_certificate(hub, signed, issued))
    assert the_refusal(hub, signed)["cause"] == "certificate-revoked"


def test_a_weak_certificate(hub, registry, name, tmp_path):
    own = self_signed(tmp_path, name, "RSA-1024")
    registry.create(name, {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": own.sha256}})
    with RawDevice(hub, name, credential=own, security_level=0) as device:
        assert device.connack == 5
    entry = the_refusal(hub, name)
    assert entry["cause"] == "certificate-weak"
    assert "1024" in entry["presented"]


def test_a_certificate_where_keys_are_registered(hub, registry, name, tmp_path):
    registry.create(name)
    refused(devices.by_certificate(hub, name, self_signed(tmp_path, name)))
    entry = the_refusal(hub, name)
    assert entry["cause"] == "credential-kind"
    assert "certificate" in entry["presented"] and "keys" in entry["expected"]

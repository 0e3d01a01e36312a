"""Chains that other tools make: X.509 v1 leaves, and certificates that were made a little wrong."""

from datetime import datetime, timedelta, timezone

import pytest

from harness import devices
from harness.certificates import AUTHORITY_EXTENSIONS, LEAF_EXTENSIONS, Credential, Validity, key, openssl, sign, subject
from harness.hub import HubFailure
from harness.raw_mqtt import RawDevice
from harness.why import the_refusal

NO_SIGN = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,digitalSignature,cRLSign\n"
CA = "basicConstraints=critical,CA:TRUE"


class Plant:
    """A root of a test's own, and what it issues."""

    def __init__(self, hub, folder, name, extensions=AUTHORITY_EXTENSIONS, verified=True, validity=None):
        self.folder, self.name = folder, name
        self.made = {}
        self.make("root", f"{name} root", extensions, validity=validity)
        flags = ["--verified"] if verified else []
        self.added = hub.cli("certificate", "add", str(self.made["root"].chain_file), "--name", name, *flags)

    def make(self, label, common_name, extensions, issuer=None, validity=None) -> Credential:
        one = Credential(self.folder / f"{label}.key", self.folder / f"{label}.pem")
        key(one.key_file)
        by = (self.made[issuer].chain_file, self.made[issuer].key_file) if issuer else None
        sign(common_name, one.key_file, one.chain_file, extensions, validity, by)
        self.made[label] = one
        return one

    def make_v1(self, label, common_name, issuer="root", digest="-sha256") -> Credential:
        """What `openssl x509 -req` and npm's pem make when no extensions are asked for."""
        one = Credential(self.folder / f"{label}.key", self.folder / f"{label}.pem")
        key(one.key_file)
        request, by = self.folder / f"{label}.csr", self.made[issuer]
        openssl("req", "-new", "-key", one.key_file, "-subj", subject(common_name), "-out", request)
        signer = ("-CA", by.chain_file, "-CAkey", by.key_file, "-CAcreateserial", digest)
        openssl("x509", "-req", "-in", request, *signer, "-days", "30", "-out", one.chain_file)
        assert "Version: 1" in openssl("x509", "-in", one.chain_file, "-noout", "-text")
        self.made[label] = one
        return one

    def chain(self, *labels) -> Credential:
        """A credential of the first that sends all of these."""
        leaf = self.made[labels[0]]
        out = Credential(leaf.key_file, self.folder / "chain.pem")
        out.chain_file.write_text("".join(self.made[label].chain_file.read_text() for label in labels))
        return out


@pytest.fixture
def plant(hub, registry, name, tmp_path):
    registry.create(name, {"type": "certificateAuthority"})
    return Plant(hub, tmp_path, name)


def connack(hub, name, credential) -> int:
    # At its usual level OpenSSL itself does not send what is signed with SHA-1.
    with RawDevice(hub, name, credential=credential, security_level=0) as device:
        return device.connack


@pytest.mark.parametrize("way", ["the root", "an intermediate"])
def test_a_version_1_leaf_is_admitted_under_an_authority(way, hub, plant, name):
    if way == "the root":
        credential = plant.make_v1("leaf", name)
    else:
        plant.make("middle", "middle", AUTHORITY_EXTENSIONS, "root")
        plant.make_v1("leaf", name, "middle")
        credential = plant.chain("leaf", "middle")
    with devices.connected(devices.by_certificate(hub, name, credential)) as client:
        client.send_message("as old as 1988")


def test_a_version_1_leaf_of_another_name_or_key_is_refused(hub, plant, name, tmp_path):
    assert connack(hub, name, plant.make_v1("other", f"{name}-other")) == 5
    assert the_refusal(hub, name)["cause"] == "certificate-name"
    plant.make("impostor", f"{name} root", AUTHORITY_EXTENSIONS)
    assert connack(hub, name, plant.make_v1("leaf", name, "impostor")) == 5
    assert hub.why(name)[0]["cause"] == "untrusted-chain"


def test_a_version_1_certificate_proves_possession(hub, name, tmp_path):
    plant = Plant(hub, tmp_path, name, verified=False)
    wrong = plant.make_v1("wrong", "not the code")
    with pytest.raises(HubFailure, match="verification code"):
        hub.cli("certificate", "verify", name, str(wrong.chain_file))
    proof = plant.make_v1("proof", plant.added["verificationCode"])
    assert hub.cli("certificate", "verify", name, str(proof.chain_file))["verified"] is True


def refused_for(hub, name, credential) -> dict:
    assert connack(hub, name, credential) == 5
    entry = the_refusal(hub, name)
    assert "certificate add" not in entry["fix"], "its authority is there"
    return entry


@pytest.mark.parametrize(
    "extensions, cause, cure",
    [
        ("1.2.3.4.5=critical,DER:0500\n", "certificate-critical-extension", "without this extension"),
        (f"{CA}\n", "certificate-is-authority", "CA:FALSE"),
        ("extendedKeyUsage=serverAuth\n", "certificate-purpose", "for clients"),
    ],
)
def test_a_leaf_that_was_made_wrong_is_named(extensions, cause, cure, hub, plant, name):
    plant.make("leaf", name, extensions, "root")
    for sent in [("leaf",), ("leaf", "root")]:
        assert connack(hub, name, plant.chain(*sent)) == 5
    for entry in hub.why(name):
        assert (entry["cause"], cure in entry["change"], "certificate add" in entry["fix"]) == (cause, True, False)


@pytest.mark.parametrize(
    "middle, cause, cure",
    [
        (LEAF_EXTENSIONS, "issuer-no-authority", "CA:TRUE"),
        (NO_SIGN, "issuer-may-not-sign", "keyCertSign"),
        (f"{AUTHORITY_EXTENSIONS}1.2.3.4.5=critical,DER:0500\n", "certificate-critical-extension", "without"),
        (f"{AUTHORITY_EXTENSIONS}extendedKeyUsage=serverAuth\n", "certificate-purpose", "clients"),
        (f"{AUTHORITY_EXTENSIONS}nameConstraints=critical,permitted;DNS:example.com\n", "name-constraint", "names"),
    ],
)
def test_an_intermediate_that_was_made_wrong_is_named(middle, cause, cure, hub, plant, name):
    plant.make("middle", "the middle", middle, "root")
    plant.make("leaf", name, f"{LEAF_EXTENSIONS}subjectAltName=DNS:device.example.net\n", "middle")
    entry = refused_for(hub, name, plant.chain("leaf", "middle", "root"))
    assert (entry["cause"], cure in entry["change"]) == (cause, True), entry
    if cause != "name-constraint":
        assert "the middle" in entry["explanation"]


def test_a_version_1_intermediate_is_no_issuer(hub, plant, name):
    plant.make_v1("middle", "the middle")
    plant.make("leaf", name, LEAF_EXTENSIONS, "middle")
    entry = refused_for(hub, name, plant.chain("leaf", "middle", "root"))
    assert entry["cause"] == "issuer-no-authority" and "v1" in entry["explanation"]


def test_a_version_1_leaf_under_name_constraints_is_refused(hub, plant, name):
    plant.make("middle", "middle", f"{AUTHORITY_EXTENSIONS}nameConstraints=critical,permitted;DNS:example.com\n", "root")
    plant.make_v1("leaf", name, "middle")
    assert refused_for(hub, name, plant.chain("leaf", "middle"))["cause"] == "name-constraint"


def test_an_intermediate_that_ended_is_named(hub, plant, name):
    plant.make("middle", "the middle", AUTHORITY_EXTENSIONS, "root", Validity.past())
    plant.make("leaf", name, LEAF_EXTENSIONS, "middle")
    entry = refused_for(hub, name, plant.chain("leaf", "middle", "root"))
    assert entry["cause"] == "certificate-expired" and "the middle" in entry["explanation"]


def test_a_weak_signature_is_named(hub, plant, name):
    entry = refused_for(hub, name, plant.make_v1("leaf", name, digest="-sha1"))
    assert entry["cause"] == "certificate-weak" and "SHA1" in entry["explanation"].upper()


@pytest.mark.parametrize("bounded, admitted", [("root", 5), ("middle", 5), ("none", 0)])
def test_a_path_length_counts_at_every_height(bounded, admitted, hub, registry, name, tmp_path):
    registry.create(name, {"type": "certificateAuthority"})
    usage = "\nkeyUsage=critical,keyCertSign,cRLSign\n"
    bound = lambda here, longest: f"{CA}{f',pathlen:{longest}' if here == bounded else ''}{usage}"
    plant = Plant(hub, tmp_path, name, bound("root", 1))
    plant.make("middle", "middle", bound("middle", 0), "root")
    plant.make("lower", "lower", f"{CA}{usage}", "middle")
    plant.make("leaf", name, LEAF_EXTENSIONS, "lower")
    assert connack(hub, name, plant.chain("leaf", "lower", "middle")) == admitted
    if admitted:
        entry = the_refusal(hub, name)
        assert entry["cause"] == "path-too-long" and bounded in entry["explanation"]


def test_an_authority_that_may_not_sign_is_not_added(hub, name, tmp_path):
    with pytest.raises(HubFailure, match="keyCertSign"):
        Plant(hub, tmp_path, name, NO_SIGN)


def test_several_common_names_are_refused(hub, plant, name):
    one = Credential(plant.folder / "leaf.key", plant.folder / "leaf.pem")
    key(one.key_file)
    request, root = plant.folder / "leaf.csr", plant.made["root"]
    openssl("req", "-new", "-key", one.key_file, "-subj", f"/CN=another/CN={name}", "-out", request)
    signer = ("-CA", root.chain_file, "-CAkey", root.key_file, "-CAcreateserial")
    openssl("x509", "-req", "-in", request, *signer, "-days", "30", "-out", one.chain_file)
    assert refused_for(hub, name, one)["cause"] == "certificate-several-names"


def ends_in(seconds: int) -> Validity:
    now = datetime.now(timezone.utc)
    return Validity(*((now + timedelta(seconds=s)).strftime("%Y%m%d%H%M%SZ") for s in (-86_400, seconds)))


@pytest.mark.parametrize("soon", ["root", "leaf"])
def test_a_connection_ends_with_its_certificate_or_the_authority(soon, hub, registry, name, tmp_path):
    registry.create(name, {"type": "certificateAuthority"})
    validity = {soon: ends_in(4)}
    plant = Plant(hub, tmp_path, name, validity=validity.get("root"))
    credential = plant.make("leaf", name, LEAF_EXTENSIONS, "root", validity.get("leaf"))
    with RawDevice(hub, name, credential=credential) as device:
        assert device.connack == 0
        assert device.closed.wait(15), "it outlives its certificate"
    assert the_refusal(hub, name)["cause"] == "certificate-ended"
    assert connack(hub, name, credential) == 5
    assert hub.why(name)[0]["cause"] == "certificate-expired"


def test_a_connection_ends_with_the_certificate_whose_thumbprint_is_registered(hub, registry, name, tmp_path):
    one = Credential(tmp_path / "own.key", tmp_path / "own.pem")
    key(one.key_file)
    sign(name, one.key_file, one.chain_file, LEAF_EXTENSIONS, ends_in(4))
    thumbprint = openssl("x509", "-in", one.chain_file, "-noout", "-fingerprint", "-sha256").split("=")[1]
    x509 = {"primaryThumbprint": thumbprint.strip().replace(":", "")}
    registry.create(name, {"type": "selfSigned", "x509Thumbprint": x509})
    with RawDevice(hub, name, credential=one) as device:
        assert device.connack == 0
        assert device.closed.wait(15), "it outlives its certificate"
    assert the_refusal(hub, name)["cause"] == "certificate-ended"

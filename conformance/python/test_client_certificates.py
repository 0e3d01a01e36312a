"""Client certificates of every make, on both TLS versions: admitted or refused by the hub, never by the handshake."""

import ssl

import pytest

from harness import devices
from harness.certificates import Authority, Validity, self_signed, self_signed_v1
from harness.events import body_of
from harness.hub import HubFailure
from harness.raw_mqtt import RawDevice

VERSIONS = {"TLS 1.2": ssl.TLSVersion.TLSv1_2, "TLS 1.3": ssl.TLSVersion.TLSv1_3}


@pytest.fixture(params=VERSIONS)
def tls(request):
    return VERSIONS[request.param]


@pytest.fixture(scope="module")
def root(hub, tmp_path_factory):
    root = Authority(tmp_path_factory.mktemp("authority"), "trusted root")
    hub.cli("certificate", "add", str(root.certificate_file), "--verified")
    return root


def register(registry, name, credential, digest: str = "sha256", slot: str = "primaryThumbprint") -> None:
    thumbprints = {"primaryThumbprint": "0" * 64, "secondaryThumbprint": "1" * 64}
    thumbprints[slot] = getattr(credential, digest)
    registry.create(name, {"type": "selfSigned", "x509Thumbprint": thumbprints})


@pytest.mark.parametrize("algorithm", ["EC", "RSA-2048", "RSA-4096"])
def test_a_self_signed_certificate_is_known_by_its_thumbprint(algorithm, tls, hub, registry, reader, name, tmp_path):
    own = self_signed(tmp_path, name, algorithm)
    register(registry, name, own)
    with RawDevice(hub, name, credential=own, tls=tls) as device:
        assert device.connack == 0
        assert device.publish(f"devices/{name}/messages/events/", b"x")
    assert reader.from_device(name)


@pytest.mark.parametrize("slot", ["primaryThumbprint", "secondaryThumbprint"])
@pytest.mark.parametrize("digest", ["sha1", "sha256"])
def test_either_digest_in_either_slot_will_do(digest, slot, hub, registry, name, tmp_path):
    own = self_signed(tmp_path, name)
    register(registry, name, own, digest, slot)
    with RawDevice(hub, name, credential=own) as device:
        assert device.connack == 0


@pytest.mark.parametrize("algorithm", ["EC", "RSA-2048"])
def test_a_version_1_certificate_is_admitted_by_its_thumbprint(algorithm, tls, hub, registry, name, tmp_path):
    own = self_signed_v1(tmp_path, name, algorithm)
    register(registry, name, own)
    with RawDevice(hub, name, credential=own, tls=tls) as device:
        assert device.connack == 0


@pytest.mark.parametrize("make", [self_signed, self_signed_v1], ids=["v3", "v1"])
def test_an_rsa_1024_certificate_reaches_the_hub_and_gets_its_own_answer(make, tls, hub, registry, name, tmp_path):
    own = make(tmp_path, name, "RSA-1024")
    register(registry, name, own)
    with RawDevice(hub, name, credential=own, tls=tls, security_level=0) as device:
        assert device.connack == 5
    assert [entry["cause"] for entry in hub.why(name)] == ["certificate-weak"]


def test_the_sdk_sends_with_a_version_1_certificate(hub, registry, reader, name, tmp_path):
    own = self_signed_v1(tmp_path, name)
    register(registry, name, own)
    with devices.connected(devices.by_certificate(hub, name, own)) as client:
        client.send_message("as old as 1988")
    [event] = reader.from_device(name)
    assert body_of(event) == b"as old as 1988"


@pytest.mark.parametrize("with_root", [False, True], ids=["to the intermediate", "to the root"])
def test_a_chain_to_a_verified_root_is_admitted(with_root, tls, hub, registry, root, name, tmp_path):
    middle = Authority(tmp_path, "middle", parent=root)
    issued = Authority(tmp_path, "lower", parent=middle).issue(name)
    if with_root:
        with open(issued.chain_file, "a") as chain:
            chain.write(root.certificate_file.read_text())
    registry.create(name, {"type": "certificateAuthority"})
    with RawDevice(hub, name, credential=issued, tls=tls) as device:
        assert device.connack == 0


def test_a_leaf_straight_from_the_root_is_admitted(hub, registry, root, name):
    registry.create(name, {"type": "certificateAuthority"})
    with RawDevice(hub, name, credential=root.issue(name)) as device:
        assert device.connack == 0


def cause_of_refusal(hub, name, credential) -> str:
    with RawDevice(hub, name, credential=credential) as device:
        assert device.connack == 5
        assert device.closed.wait(5)
    return hub.why(name)[0]["cause"]


def test_a_chain_to_an_unknown_root_is_refused(hub, registry, root, name, tmp_path):
    stranger = Authority(tmp_path, "strange root")
    registry.create(name, {"type": "certificateAuthority"})
    assert cause_of_refusal(hub, name, stranger.issue(name)) == "untrusted-chain"


def test_a_root_of_the_same_name_but_another_key_is_refused(hub, registry, root, name, tmp_path):
    impostor = Authority(tmp_path, "trusted root")
    registry.create(name, {"type": "certificateAuthority"})
    assert cause_of_refusal(hub, name, impostor.issue(name)) == "untrusted-chain"


def test_a_chain_without_its_intermediate_is_refused(hub, registry, root, name, tmp_path):
    issued = Authority(tmp_path, "middle", parent=root).issue(name)
    first = issued.chain_file.read_text().split("-----END CERTIFICATE-----")[0]
    issued.chain_file.write_text(f"{first}-----END CERTIFICATE-----\n")
    registry.create(name, {"type": "certificateAuthority"})
    assert cause_of_refusal(hub, name, issued) == "intermediate-missing"


def test_a_device_certificate_may_not_issue_others(hub, registry, root, name, tmp_path):
    parent = root.issue(f"{name}-parent")
    posing = Authority(tmp_path, "posing", parent=root)
    posing.certificate_file, posing.key_file = parent.chain_file, parent.key_file
    registry.create(name, {"type": "certificateAuthority"})
    assert cause_of_refusal(hub, name, posing.issue(name)) == "issuer-no-authority"


def test_a_certificate_for_another_name_is_refused(hub, registry, root, name):
    registry.create(name, {"type": "certificateAuthority"})
    assert cause_of_refusal(hub, name, root.issue(f"{name}-other")) == "certificate-name"


@pytest.mark.parametrize(
    "moved, cause",
    [(Validity.past(), "certificate-expired"), (Validity.days_from_now(10, 20), "certificate-not-yet-valid")],
    ids=["ended", "not begun"],
)
def test_a_certificate_outside_its_time_is_refused(moved, cause, hub, registry, root, name, tmp_path):
    registry.create(name, {"type": "certificateAuthority"})
    assert cause_of_refusal(hub, name, root.issue(name, validity=moved)) == cause
    own = self_signed(tmp_path, f"{name}-own", validity=moved)
    register(registry, f"{name}-own", own)
    assert cause_of_refusal(hub, f"{name}-own", own) == cause


def test_a_thumbprint_of_another_certificate_is_refused(hub, registry, name, tmp_path):
    register(registry, name, self_signed(tmp_path, name))
    assert cause_of_refusal(hub, name, self_signed(tmp_path, f"{name}-2")) == "thumbprint-mismatch"


def test_a_certificate_for_a_device_of_keys_is_refused(hub, registry, name, tmp_path):
    registry.create(name)
    assert cause_of_refusal(hub, name, self_signed(tmp_path, name)) == "credential-kind"


def test_a_key_for_a_device_of_certificates_is_refused(hub, registry, name, tmp_path):
    from harness import sas

    register(registry, name, self_signed(tmp_path, name))
    token = sas.token(f"{hub.hostname}/devices/{name}", sas.new_key())
    with RawDevice(hub, name, token) as device:
        assert device.connack == 5
    assert hub.why(name)[0]["cause"] == "credential-kind"


def test_a_module_signs_in_with_its_own_certificate(hub, registry, name, tmp_path):
    own = self_signed(tmp_path, name)
    registry.create(name)
    authentication = {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": own.sha1}}
    body = {"deviceId": name, "moduleId": "m1", "authentication": authentication}
    assert registry.rest.call("PUT", f"/devices/{name}/modules/m1", body).status in (200, 201)
    with RawDevice(hub, f"{name}/m1", credential=own) as device:
        assert device.connack == 0


def test_a_certificate_of_an_authority_admits_the_module_that_it_names_and_not_its_device_nor_the_other_way_round(
    hub, registry, root, name
):
    authentication = {"type": "certificateAuthority"}
    registry.create(name, authentication)
    body = {"deviceId": name, "moduleId": "m1", "authentication": authentication}
    assert registry.rest.call("PUT", f"/devices/{name}/modules/m1", body).status in (200, 201)
    of_module = root.issue(f"{name}/m1", file_name=f"{name}-m1")
    of_device = root.issue(name)
    for client_id, credential, answer in [
        (f"{name}/m1", of_module, 0),
        (name, of_device, 0),
        (f"{name}/m1", of_device, 5),
        (name, of_module, 5),
    ]:
        with RawDevice(hub, client_id, credential=credential) as device:
            assert device.connack == answer, client_id
    # Those of a device have its modules among them.
    refused = {entry["identity"]: (entry["cause"], entry["expected"]) for entry in hub.why(name)}
    assert refused == {client_id: ("certificate-name", f"CN={client_id}") for client_id in (name, f"{name}/m1")}


def test_an_authority_admits_nobody_until_possession_of_its_key_is_proved(hub, registry, name, tmp_path):
    authority = Authority(tmp_path, f"{name} root")
    added = hub.cli("certificate", "add", str(authority.certificate_file), "--name", name)
    assert added["verified"] is False
    registry.create(name, {"type": "certificateAuthority"})
    issued = authority.issue(name)
    assert cause_of_refusal(hub, name, issued) == "authority-not-verified"
    assert hub.why(name)[0]["fix"] == f"holdfast certificate verify {name} --trust"

    wrong = authority.issue("not the code")
    with pytest.raises(HubFailure, match="verification code"):
        hub.cli("certificate", "verify", name, str(wrong.chain_file))
    proof = authority.issue(added["verificationCode"])
    assert hub.cli("certificate", "verify", name, str(proof.chain_file))["verified"] is True
    with RawDevice(hub, name, credential=issued) as device:
        assert device.connack == 0


def test_a_revoked_certificate_ends_its_session_and_is_refused_while_others_go_on(hub, registry, name, tmp_path):
    authority = Authority(tmp_path, f"{name} root")
    hub.cli("certificate", "add", str(authority.certificate_file), "--name", name, "--verified")
    lost, kept = authority.issue(name), authority.issue(f"{name}-kept")
    for device in (name, f"{name}-kept"):
        registry.create(device, {"type": "certificateAuthority"})
    with RawDevice(hub, name, credential=lost) as device, RawDevice(hub, f"{name}-kept", credential=kept) as other:
        hub.cli("certificate", "revoke", name, str(authority.revoke(lost)))
        assert device.closed.wait(2)
        assert other.publish(f"devices/{name}-kept/messages/events/", b"still here")
    assert cause_of_refusal(hub, name, lost) == "certificate-revoked"


def test_only_a_list_of_the_authority_itself_that_is_new_and_understood_is_taken(hub, name, tmp_path):
    authority, other = Authority(tmp_path, f"{name} root"), Authority(tmp_path, f"{name} other")
    for label, one in ((name, authority), (f"{name}-other", other)):
        hub.cli("certificate", "add", str(one.certificate_file), "--name", label, "--verified")
    # Of the name of the authority, with another key.
    (tmp_path / "second").mkdir()
    impostor = Authority(tmp_path / "second", f"{name} root")
    hub.cli("certificate", "add", str(impostor.certificate_file), "--name", f"{name}-second", "--verified")
    hub.cli("certificate", "revoke", name, str(authority.revoke(number=7)))
    for list_, words in [
        (other.revoke(), "was issued by `CN=.* other`, and the authority is"),
        (impostor.revoke(), f"another key signed it: that of the authority '{name}-second'"),
        (authority.revoke(number=6), "cRLNumber 6.* is older than the one that stands .*cRLNumber 7"),
        (authority.revoke(number=8, extensions="2.5.29.27=critical,DER:020101\n"), "is a delta"),
        (authority.revoke(number=8, extensions="1.2.3.4=critical,DER:0500\n"), "critical extension 1.2.3.4"),
        (authority.certificate_file, "no certificate revocation list in PEM"),
    ]:
        with pytest.raises(HubFailure, match=words):
            hub.cli("certificate", "revoke", name, str(list_))
    [stands] = hub.cli("certificate", "show", name)["revocationLists"]
    assert (stands["number"], stands["scope"], stands["counts"]) == ("7", "all certificates", True)


def test_an_authority_has_a_list_for_each_distribution_point(hub, registry, name, tmp_path):
    authority = Authority(tmp_path, f"{name} root")
    hub.cli("certificate", "add", str(authority.certificate_file), "--name", name, "--verified")
    lost = {label: authority.issue(f"{name}-{label}") for label in ("a", "b")}
    for label, credential in lost.items():
        registry.create(f"{name}-{label}", {"type": "certificateAuthority"})
        point = f"issuingDistributionPoint=critical,@point\n[point]\nfullname=URI:http://ca.example/{label}.crl\n"
        hub.cli("certificate", "revoke", name, str(authority.revoke(credential, extensions=point)))
    for label, credential in lost.items():
        assert cause_of_refusal(hub, f"{name}-{label}", credential) == "certificate-revoked"
    left = hub.cli("certificate", "revoke", name, "--remove", "http://ca.example/a.crl")
    assert [(one["scope"], one["revoked"]) for one in left["revocationLists"]] == [("http://ca.example/b.crl", 1)]
    with RawDevice(hub, f"{name}-a", credential=lost["a"]) as device:
        assert device.connack == 0
    with pytest.raises(HubFailure, match="has no revocation list of the scope"):
        hub.cli("certificate", "revoke", name, "--remove", "http://ca.example/a.crl")


def test_an_authority_that_is_deleted_ends_the_sessions_it_admitted(hub, registry, name, tmp_path):
    authority = Authority(tmp_path, f"{name} root")
    hub.cli("certificate", "add", str(authority.certificate_file), "--name", name, "--verified")
    registry.create(name, {"type": "certificateAuthority"})
    with RawDevice(hub, name, credential=authority.issue(name)) as device:
        assert device.connack == 0
        hub.cli("certificate", "delete", name)
        assert device.closed.wait(2)

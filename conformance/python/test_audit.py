"""The audit log proves itself: to the hub's own command, and to a program that knows nothing of the hub."""

import base64
import json
import shutil

import pytest
from azure.iot.device import exceptions

from harness import audit, devices, sas
from harness.audit import CHANGED, NOT_VERIFIED, SOUND, Log
from harness.hub import Hub
from harness.rest import Identity, Registry
from harness.wait import until

# So many that the log has a whole block of 256 records before the checkpoint and another behind it.
DEVICES = 280
# About where the record is that the tests change: in the whole block that the checkpoint covers.
MIDDLE = 117
CREATION = "body LIKE '%create device%'"


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Log:
    """The log of a hub with real traffic, a kill, and restarts; the hub is stopped."""
    folder = tmp_path_factory.mktemp("audit")
    hub = Hub(data=folder / "data").start()
    registry = Registry(hub)
    traffic(hub, registry, "before")
    key = folder / "hub.vkey"
    key.write_text(hub.cli("audit", "checkpoint", "--key")["key"] + "\n")
    checkpoint = folder / "monday.checkpoint"
    signed = hub.cli("audit", "checkpoint", "--out", str(checkpoint))["size"]
    hub.kill()
    hub.start()
    traffic(hub, Registry(hub), "after")
    hub.restart()
    size = hub.cli("audit", "verify", "--checkpoint", str(checkpoint), "--key", str(key))["size"]
    hub.stop()
    [[change]] = audit.sql(hub.data, f"SELECT min(number) FROM decisions WHERE {CREATION} AND number >= {MIDDLE}")
    assert change < 256 < signed < 512 < size
    return Log(folder / "data", key, checkpoint, signed, size, change)


def edit(log: Log) -> str:
    """What another's hand makes of the record that says that a device was created."""
    return f"UPDATE decisions SET body = replace(body, 'create device', 'delete device') WHERE number = {log.change}"


def traffic(hub: Hub, registry: Registry, prefix: str) -> None:
    """Devices are made, one connects and sends with the unmodified SDK, and one is refused."""
    identities = [registry.create(f"{prefix}-{n}") for n in range(DEVICES)]
    with devices.connected(devices.by_key(hub, identities[0])) as client:
        client.send_message("hello")
    wrong = Identity(hub, json.loads(json.dumps(identities[1].record)))
    wrong.record["authentication"]["symmetricKey"]["primaryKey"] = sas.new_key()
    with pytest.raises((exceptions.CredentialError, exceptions.ConnectionFailedError)):
        with devices.connected(devices.by_key(hub, wrong)):
            pass


@pytest.fixture
def running(log, tmp_path):
    """A hub that goes on with a copy of the log."""
    hub = Hub(data=log.copy(tmp_path)).start()
    yield hub
    hub.stop()


def test_an_untouched_log_is_sound_after_a_kill_and_restarts(log):
    for given in ([], ["--checkpoint", log.checkpoint], ["--checkpoint", log.checkpoint, "--key", log.key]):
        code, verdict = audit.verify("--data", log.data, *given)
        assert (code, verdict["sound"], verdict["findings"]) == (SOUND, True, []), verdict
        assert (verdict["size"], verdict["read"]) == (log.size, log.size)
        assert verdict["checkpoints"] >= 2, "the hub signed one when it was stopped"


def changed(log: Log, tmp_path, *statements: str) -> dict:
    """The verdict on a log that somebody changed at the disk: the exported checkpoint must tell."""
    data = log.copy(tmp_path)
    audit.sql(data, *statements)
    code, verdict = audit.verify("--data", data, "--checkpoint", log.checkpoint, "--key", log.key)
    assert code == CHANGED and verdict["sound"] is False, verdict
    assert verdict["firstBad"] == verdict["lastBad"], "it is named exactly"
    assert str(verdict["firstBad"]) in verdict["explanation"]
    return verdict


def named(verdict: dict) -> tuple[str, int]:
    return verdict["kind"], verdict["firstBad"]


def test_one_edited_byte_of_a_record_is_named(log, tmp_path):
    verdict = changed(log, tmp_path, edit(log))
    assert named(verdict) == ("edited", log.change) and len(verdict["findings"]) == 1


def test_a_record_that_is_edited_together_with_its_hash_is_named(log, tmp_path):
    rehash = f"UPDATE decisions SET leaf = leaf_hash(body) WHERE number = {log.change}"
    assert named(changed(log, tmp_path, edit(log), rehash)) == ("rewritten", log.change)
    # What the hub itself keeps says of a range that it was changed.
    code, verdict = audit.verify("--data", tmp_path / "data")
    assert (code, verdict["kind"]) == (CHANGED, "rewritten")
    assert verdict["firstBad"] <= log.change <= verdict["lastBad"] <= 512


def test_a_deleted_record_is_named(log, tmp_path):
    verdict = changed(log, tmp_path, f"DELETE FROM decisions WHERE number = {log.change}")
    assert named(verdict) == ("deleted", log.change)


def test_a_deleted_record_is_named_when_those_behind_it_moved_up(log, tmp_path):
    gone = f"DELETE FROM decisions WHERE number = {log.change}"
    up = f"UPDATE decisions SET number = number - 1 WHERE number > {log.change}"
    assert changed(log, tmp_path, gone, up)["firstBad"] == log.change


def test_a_cut_end_is_named(log, tmp_path):
    last = log.signed - 20
    cut = [
        f"DELETE FROM decisions WHERE number > {last}",
        f"DELETE FROM checkpoints WHERE size > {last}",
        f"UPDATE audit_edge SET size = {last}",
    ]
    assert named(changed(log, tmp_path, *cut)) == ("truncated", last + 1)
    code, verdict = audit.verify("--data", tmp_path / "data")
    assert code == SOUND, "without the checkpoint it looks like a shorter log"


def test_a_log_rewritten_and_signed_again_by_the_hub_itself_is_named(log, tmp_path):
    data = log.copy(tmp_path)
    audit.sql(data, edit(log))
    audit.forget_the_tree(data)
    hub = Hub(data=data).start()
    hub.cli("audit", "checkpoint")
    hub.stop()
    code, verdict = audit.verify("--data", data)
    assert code == SOUND and verdict["checkpoints"] >= 1, "whoever has the machine can make a log that is sound by itself"
    code, verdict = audit.verify("--data", data, "--checkpoint", log.checkpoint, "--key", log.key)
    assert (code, *named(verdict), verdict["lastBad"]) == (CHANGED, "rewritten", log.change, log.change), verdict
    bare = log.bare_checkpoint(tmp_path)
    code, verdict = audit.verify("--data", data, "--checkpoint", bare, "--key", log.key)
    assert (code, *named(verdict), verdict["lastBad"]) == (CHANGED, "rewritten", 1, log.signed), verdict


def test_a_change_under_a_running_hub_is_named_through_its_api(log, running):
    audit.sql(running.data, edit(log))
    code, verdict = audit.verify("--ready-file", running.ready_file, "--checkpoint", log.checkpoint)
    assert (code, *named(verdict)) == (CHANGED, "edited", log.change), verdict


def test_what_cannot_be_verified_is_not_called_changed(log, tmp_path):
    other = tmp_path / "other.vkey"
    other.write_text(log.key.read_text().replace("+", "x+", 1))
    forged = tmp_path / "forged.checkpoint"
    forged.write_text(log.checkpoint.read_text().replace(f"\n{log.signed}\n", f"\n{log.signed - 1}\n"))
    data = ["--data", log.data]
    for arguments in (
        [*data, "--checkpoint", log.checkpoint, "--key", other],
        [*data, "--checkpoint", forged, "--key", log.key],
        [*data, "--checkpoint", tmp_path / "missing"],
        ["--data", tmp_path],
    ):
        code, verdict = audit.verify(*arguments)
        assert code == NOT_VERIFIED and "panicked" not in verdict["explanation"], verdict
    swapped = tmp_path / "monday.checkpoint"
    shutil.copy(log.checkpoint, swapped)
    lines = (log.checkpoint.parent / "monday.checkpoint.hashes").read_text().splitlines()
    (tmp_path / "monday.checkpoint.hashes").write_text("\n".join([flipped(lines[0], 100), *lines[1:]]))
    code, verdict = audit.verify("--data", log.data, "--checkpoint", swapped)
    assert code == NOT_VERIFIED and "hashes" in verdict["explanation"], verdict


def test_a_proof_holds_for_the_program_that_knows_nothing_of_the_hub(log, running, tmp_path):
    proof = tmp_path / "proof.json"
    for number in (1, log.change, 256, 257, log.size):
        running.cli("audit", "prove", str(number), "--out", str(proof))
        code, said = audit.check(proof, log.key)
        [[body]] = audit.sql(running.data, f"SELECT body FROM decisions WHERE number = {number}")
        assert code == 0 and body in said, said


def flipped(text: str, at: int) -> str:
    """The base64 text of the same bytes but for one bit."""
    data = bytearray(base64.b64decode(text))
    data[at] ^= 1
    return base64.b64encode(data).decode()


def bent_note(note: str) -> list[str]:
    """The same note with a bit of the root, of the signature, and another size."""
    head, signature = note.split("\n\n")
    origin, size, root = head.split("\n")
    dash, name, signed = signature.split()
    return [
        f"{origin}\n{size}\n{flipped(root, 9)}\n\n{signature}",
        f"{head}\n\n{dash} {name} {flipped(signed, 40)}\n",
        f"{head}\n\n{dash} {name} {flipped(signed, 1)}\n",
        f"{origin}\n{int(size) + 1}\n{root}\n\n{signature}",
    ]


def test_a_proof_with_one_bent_part_does_not_hold(log, running, tmp_path):
    proof = tmp_path / "proof.json"
    running.cli("audit", "prove", str(log.change), "--out", str(proof))
    sound = json.loads(proof.read_text())
    entry = sound["entry"]
    bent = [
        {"entry": entry.replace("before-", "Before-")},
        {"entry": entry + " "},
        {"index": sound["index"] + 1},
        {"size": sound["size"] + 1},
        {"path": sound["path"][:-1]},
        {"path": [*sound["path"], sound["path"][0]]},
        *({"path": [*sound["path"][:at], flipped(step, 5), *sound["path"][at + 1 :]]} for at, step in enumerate(sound["path"])),
        *({"checkpoint": note} for note in bent_note(sound["checkpoint"])),
    ]
    for change in bent:
        proof.write_text(json.dumps({**sound, **change}))
        code, said = audit.check(proof, log.key)
        assert code == 3, f"{change}: {said}"


def test_the_log_of_an_older_checkpoint_is_proved_to_be_the_beginning_of_the_newer(log, running, tmp_path):
    Registry(running).create("one-more")
    proof = tmp_path / "grown.json"
    running.cli("audit", "prove", "--since", str(log.checkpoint), "--out", str(proof))
    code, said = audit.check(proof, log.key)
    assert code == 0 and str(log.signed) in said, said
    sound = json.loads(proof.read_text())
    bent = [
        {"old": sound["new"], "new": sound["old"]},
        {"path": sound["path"][1:]},
        *({"path": [*sound["path"][:at], flipped(step, 5), *sound["path"][at + 1 :]]} for at, step in enumerate(sound["path"])),
        *({"old": note} for note in bent_note(sound["old"])),
    ]
    for change in bent:
        proof.write_text(json.dumps({**sound, **change}))
        code, said = audit.check(proof, log.key)
        assert code == 3, f"{change}: {said}"


def test_records_are_listed_by_who_whence_what_and_when(running):
    listed = lambda *arguments: running.cli("audit", "list", "--limit", "2000", *arguments)
    everything = listed()
    numbers = [record["number"] for record in everything]
    assert numbers == list(range(len(numbers), 0, -1)), "no number is missing"
    of_one = listed("--device", "before-0")
    kinds = {record["act"]["kind"] for record in of_one}
    assert {"change", "connect", "disconnect"} <= kinds and all(record["identity"] == "before-0" for record in of_one)
    [refusal] = listed("--kind", "refusal", "--device", "before-1")
    assert refusal["refusal"]["cause"] == "wrong-key"
    assert len(listed("--kind", "change")) >= 2 * DEVICES
    assert listed("--from", "192.0.2.1") == [] == listed("--until", "2020-01-01T00:00:00Z")
    middle = everything[len(everything) // 2]
    until_then, since_then = listed("--until", middle["time"]), listed("--since", middle["time"])
    assert until_then and since_then and len(until_then) + len(since_then) == len(everything)
    Registry(running).create("listed")
    found = until(lambda: running.cli("audit", "list", "--since", "1h", "--device", "listed"), 3, "the record")
    assert found[0]["origin"]["address"] and found[0]["actor"] == "policy iothubowner"

"""The audit log from outside: the command that verifies it, the program that checks proofs, and the file it rests in."""

import hashlib
import json
import shutil
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from harness.hub import HubFailure, binary

SOUND, CHANGED, NOT_VERIFIED = 0, 3, 1


@dataclass
class Log:
    """A log that a hub left behind, and what an auditor has of it."""

    data: Path
    key: Path
    checkpoint: Path
    # How many records the checkpoint and the log have.
    signed: int
    size: int
    # The number of a record that the checkpoint covers: a device was created.
    change: int

    def bare_checkpoint(self, folder: Path) -> Path:
        """The checkpoint without the hashes of the records beside it."""
        return Path(shutil.copy(self.checkpoint, folder / "bare.checkpoint"))

    def copy(self, folder: Path) -> Path:
        """A data directory of the same log, to be changed."""
        return Path(shutil.copytree(self.data, folder / "data"))


def verify(*arguments) -> tuple[int, dict]:
    """The exit code of `holdfast audit verify`, and its verdict."""
    command = [binary(), "audit", "verify", *map(str, arguments), "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.returncode, json.loads(done.stdout) if done.stdout else {"explanation": done.stderr}


def check(proof: Path, key: Path) -> tuple[int, str]:
    """The exit code of the program that checks proofs offline, and what it says."""
    program = Path(binary()).parent / "audit-check"
    if not program.exists():
        raise HubFailure(f"{program} is missing: build it where holdfast is, with `cargo build --package audit-check`")
    done = subprocess.run([program, proof, key], capture_output=True, text=True, timeout=20)
    return done.returncode, done.stdout + done.stderr


def sql(data: Path, *statements: str) -> list[tuple]:
    """Runs statements on the file of a registry, as somebody at the disk would; the rows of the last one."""
    with closing(sqlite3.connect(data / "registry.db", timeout=10)) as connection:
        connection.create_function("leaf_hash", 1, lambda text: hashlib.sha256(b"\0" + text.encode()).digest())
        rows = []
        for statement in statements:
            rows = connection.execute(statement).fetchall()
        connection.commit()
        return rows


def forget_the_tree(data: Path) -> None:
    """Makes the registry one of the schema before the log was a tree. A hub that starts with it makes all hashes anew."""
    sql(
        data,
        "DROP TABLE audit_nodes",
        "DROP TABLE audit_leaves",
        "DROP TABLE checkpoints",
        "DROP TABLE audit_edge",
        """CREATE TABLE first_decisions (
               number INTEGER PRIMARY KEY AUTOINCREMENT, changed INTEGER NOT NULL, refused INTEGER NOT NULL,
               device TEXT, address TEXT, body TEXT NOT NULL
           ) STRICT""",
        """INSERT INTO first_decisions
           SELECT number, changed, refused, device, address, '{' || substr(body, instr(body, ',') + 1)
           FROM decisions ORDER BY number""",
        "DROP TABLE decisions",
        "ALTER TABLE first_decisions RENAME TO decisions",
        "PRAGMA user_version = 1",
    )

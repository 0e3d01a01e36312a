"""Device certificates, made with the openssl command as device makers do."""

import hashlib
import shutil
import ssl
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

AUTHORITY_EXTENSIONS = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n"
LEAF_EXTENSIONS = "basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n"


@dataclass
class Validity:
    """First and last moment of a certificate, as `openssl ca` takes them."""

    start: str
    end: str

    @classmethod
    def days_from_now(cls, start: int, end: int) -> "Validity":
        now = datetime.now(timezone.utc)
        return cls(*((now + timedelta(days=days)).strftime("%Y%m%d%H%M%SZ") for days in (start, end)))

    @classmethod
    def around_now(cls) -> "Validity":
        return cls.days_from_now(-1, 30)

    @classmethod
    def past(cls) -> "Validity":
        return cls.days_from_now(-30, -1)


@dataclass
class Credential:
    """A private key and the chain that a client presents, leaf first."""

    key_file: Path
    chain_file: Path

    def der(self) -> bytes:
        leaf = self.chain_file.read_text().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
        return ssl.PEM_cert_to_DER_cert(leaf)

    @property
    def sha1(self) -> str:
        return hashlib.sha1(self.der()).hexdigest().upper()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.der()).hexdigest().upper()


class Authority:
    """A certificate authority: a root, or an intermediate when it has a parent."""

    def __init__(self, folder: Path, name: str, parent: "Authority | None" = None):
        self._folder = folder
        self.name = name
        self.parent = parent
        self.key_file = folder / f"{name}.key"
        self.certificate_file = folder / f"{name}.pem"
        key(self.key_file)
        issuer = (parent.certificate_file, parent.key_file) if parent else None
        sign(name, self.key_file, self.certificate_file, AUTHORITY_EXTENSIONS, issuer=issuer)

    def revoke(self, *credentials: Credential, number: int = 1, days: int = 30, extensions: str = "") -> Path:
        """The authority's certificate revocation list with the leaves of these credentials on it."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        (folder / "index").touch()
        (folder / "crlnumber").write_text(f"{number:02x}\n")
        config = folder / "openssl.cnf"
        config.write_text(
            "[ca]\ndefault_ca=here\n[here]\n"
            f"database={folder / 'index'}\ncrlnumber={folder / 'crlnumber'}\ndefault_md=sha256\n"
            f"default_crl_days={days}\ncrl_extensions=extensions\n[extensions]\nauthorityKeyIdentifier=keyid\n{extensions}"
        )
        signer = ("-config", config, "-keyfile", self.key_file, "-cert", self.certificate_file)
        for credential in credentials:
            openssl("ca", *signer, "-revoke", credential.chain_file)
        out = folder / "crl.pem"
        openssl("ca", *signer, "-gencrl", "-out", out)
        return out

    def issue(
        self,
        common_name: str,
        file_name: str | None = None,
        validity: "Validity | None" = None,
        key_of: Credential | None = None,
    ) -> Credential:
        """A client certificate for a device, with the intermediates that lead to the root."""
        base = file_name or common_name
        credential = Credential(self._folder / f"{base}.key", self._folder / f"{base}.pem")
        if key_of:
            shutil.copy(key_of.key_file, credential.key_file)
        else:
            key(credential.key_file)
        issuer = (self.certificate_file, self.key_file)
        sign(common_name, credential.key_file, credential.chain_file, LEAF_EXTENSIONS, validity, issuer)
        chain, authority = credential.chain_file.read_text(), self
        while authority.parent:
            chain += authority.certificate_file.read_text()
            authority = authority.parent
        credential.chain_file.write_text(chain)
        return credential


def self_signed(
    folder: Path, name: str, algorithm: str = "EC", validity: "Validity | None" = None
) -> Credential:
    """An X.509 v3 certificate that signs itself."""
    credential = Credential(folder / f"{name}.key", folder / f"{name}.pem")
    key(credential.key_file, algorithm)
    sign(name, credential.key_file, credential.chain_file, LEAF_EXTENSIONS, validity)
    return credential


def self_signed_v1(folder: Path, name: str, algorithm: str = "EC") -> Credential:
    """What `openssl x509 -req` makes without extensions: an X.509 v1 certificate."""
    credential = Credential(folder / f"{name}.key", folder / f"{name}.pem")
    key(credential.key_file, algorithm)
    request = folder / f"{name}.csr"
    openssl("req", "-new", "-key", credential.key_file, "-subj", subject(name), "-out", request)
    openssl("x509", "-req", "-in", request, "-signkey", credential.key_file, "-out", credential.chain_file)
    shown = openssl("x509", "-in", credential.chain_file, "-noout", "-text")
    assert "Version: 1" in shown, "this openssl no longer makes v1 certificates"
    return credential


def sign(
    name: str,
    key_file: Path,
    out: Path,
    extensions: str,
    validity: "Validity | None" = None,
    issuer: tuple[Path, Path] | None = None,
) -> None:
    """Makes a v3 certificate with `openssl ca`, the one command that takes any dates; no issuer: self-signed."""
    validity = validity or Validity.around_now()
    folder = Path(tempfile.mkdtemp(prefix="holdfast-ca-"))
    request, settings = folder / "request.pem", folder / "ca.conf"
    (folder / "index.txt").touch()
    settings.write_text(
        f"[ca]\ndefault_ca=it\n[it]\ndatabase={folder}/index.txt\nnew_certs_dir={folder}\nrand_serial=yes\n"
        f"default_md=sha256\npolicy=any\nx509_extensions=extensions\n[any]\ncommonName=supplied\n"
        f"[extensions]\n{extensions}"
    )
    openssl("req", "-new", "-key", key_file, "-subj", subject(name), "-out", request)
    signer = ("-cert", issuer[0], "-keyfile", issuer[1]) if issuer else ("-selfsign", "-keyfile", key_file)
    dates = ("-startdate", validity.start, "-enddate", validity.end)
    openssl("ca", "-config", settings, "-batch", "-notext", *signer, *dates, "-in", request, "-out", out)
    shutil.rmtree(folder)


def key(out: Path, algorithm: str = "EC") -> None:
    if algorithm == "EC":
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", out)
    else:
        bits = algorithm.removeprefix("RSA-")
        openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", f"rsa_keygen_bits:{bits}", "-out", out)


def openssl(*arguments) -> str:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, f"openssl {arguments[0]}: {done.stderr}"
    return done.stdout


def subject(name: str) -> str:
    """A subject as the command takes it, where a slash begins the next part."""
    return "/CN=" + name.replace("/", "\\/")

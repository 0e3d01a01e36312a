"""Shared access signatures, made as an outsider makes them from Azure's documents."""

import base64
import hashlib
import hmac
import secrets
import time
from urllib.parse import quote


def token(
    resource: str, key: str, policy: str | None = None, seconds: float = 3600, escape: bool = True
) -> str:
    """A token for `resource`, signed with a base64 key, that ends `seconds` from now."""
    sr = quote(resource, safe="") if escape else resource
    se = str(int(time.time() + seconds))
    digest = hmac.new(base64.b64decode(key), f"{sr}\n{se}".encode(), hashlib.sha256).digest()
    text = f"SharedAccessSignature sr={sr}&sig={quote(base64.b64encode(digest), safe='')}&se={se}"
    return f"{text}&skn={policy}" if policy else text


def expiry_of(sas: str) -> int:
    return int(sas.split("&se=")[1].split("&")[0])


def new_key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()

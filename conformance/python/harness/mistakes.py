"""Tokens made wrongly, each as real people make them wrongly."""

import base64
import hashlib
import hmac
import time
from urllib.parse import quote

SEPARATORS = {"line feed behind": "{sr}\n{se}\n", "CRLF": "{sr}\r\n{se}", "none": "{sr}{se}", "backslash n": "{sr}\\n{se}"}


def token(
    resource: str,
    key: str,
    *,
    sr: str | None = None,
    signed: str | None = None,
    se: object = None,
    text: str = "{sr}\n{se}",
    key_is_text: bool = False,
    hexadecimal: bool = False,
    skn: str | None = None,
) -> str:
    """A token in which anything can be off: what stands in `sr`, what is signed in its place, the end, the text, the key."""
    sr = sr or quote(resource, safe="")
    se = str(se if se is not None else int(time.time()) + 3600)
    secret = key.encode() if key_is_text else base64.b64decode(key)
    digest = hmac.new(secret, text.format(sr=signed or sr, se=se).encode(), hashlib.sha256)
    signature = digest.hexdigest() if hexadecimal else base64.b64encode(digest.digest()).decode()
    result = f"SharedAccessSignature sr={sr}&sig={quote(signature, safe='')}&se={se}"
    return f"{result}&skn={skn}" if skn else result

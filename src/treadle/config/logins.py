"""The stored login of a home folder: `auth.json`, shared with Codex (protocol/config 0.169.0).

Owns the file's format: an API key, or the tokens of a ChatGPT login that another client made. What
a token says of its owner is read without checking its signature: it is shown, nothing is decided
by it. Refuses to know who may log in how. Texts with secrets stay out of every repr.
"""

import base64
import binascii
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from treadle.config.layers import as_table
from treadle.kit.discreet import Discreet

FILE_NAME = "auth.json"
_CLAIMS = "https://api.openai.com/auth"


class Login(Discreet, frozen=True):
    """Somebody's login; `mode` has the protocol's words.

    `token` is what requests carry: the key, or the access token. Account id, e-mail address and
    plan are known of a ChatGPT login only, as far as its tokens tell.
    """

    unseen = ("token",)

    mode: Literal["apikey", "chatgpt"]
    token: str
    account_id: str | None = None
    email: str | None = None
    plan: str | None = None


def read_login(text: str | None) -> Login | None:
    """The login in a file's text; None without one, or when the text is not understood."""
    try:
        stored: Any = msgspec.json.decode(text or "{}")
    except msgspec.DecodeError:
        return None
    stored = as_table(stored)
    key = stored.get("OPENAI_API_KEY")
    if isinstance(key, str) and key:
        return Login("apikey", key)
    tokens = as_table(stored.get("tokens"))
    access = tokens.get("access_token")
    if not isinstance(access, str) or not access:
        return None
    claims = _claims(tokens.get("id_token"))
    about = as_table(claims.get(_CLAIMS))
    return Login(
        "chatgpt",
        access,
        account_id=_text(tokens.get("account_id")) or _text(about.get("chatgpt_account_id")),
        email=_text(claims.get("email")),
        plan=_text(about.get("chatgpt_plan_type")),
    )


def keep_key(home: Path, key: str) -> None:
    """Make `key` the login of `home`, in a file of its owner alone.

    Raises:
        OSError: the folder cannot be written; the login before is kept then.
    """
    text = msgspec.json.format(
        msgspec.json.encode({"auth_mode": "apikey", "OPENAI_API_KEY": key}), indent=2
    )
    draft = home / f".{FILE_NAME}.{os.getpid()}"
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(home / FILE_NAME)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def forget(home: Path) -> bool:
    """Remove the login of `home`; whether there was one."""
    try:
        (home / FILE_NAME).unlink()
    except FileNotFoundError:
        return False
    return True


def _claims(token: Any) -> Mapping[str, Any]:
    """What a JSON Web Token says (RFC 7519); nothing for what is none."""
    parts = token.split(".") if isinstance(token, str) else []
    if len(parts) != 3:
        return {}
    body = parts[1]
    try:
        return as_table(
            msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        )
    except (binascii.Error, ValueError):
        return {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None

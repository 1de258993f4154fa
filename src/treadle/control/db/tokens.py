"""API tokens, over an open transaction; only the hashes of their secrets are kept.

A token reads `tdl_<id>_<secret>`: the id finds its row, the secret's hash is compared.
"""

import hashlib
import hmac
import secrets

from treadle.control.access import Principal, Role, Scope
from treadle.control.db.transaction import Row, Transaction
from treadle.control.faults import NotFound
from treadle.control.token_records import ApiToken, IssuedToken
from treadle.control.token_rules import TokenSpec
from treadle.kit.clock import iso_millis

PREFIX = "tdl_"
MAX_TOKENS = 1000
"""Tokens in one list; the newest come first."""


def create_token(tx: Transaction, spec: TokenSpec) -> IssuedToken:
    """Store a token; its secret is told this once."""
    token_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    lifetime = spec.expires_in_ms
    tx.run(
        "insert_token",
        token_id=token_id,
        label=spec.name,
        tenant_id=spec.scope.tenant_id,
        project_id=spec.scope.project_id,
        role=spec.role.value,
        secret_sha256=_digest(secret),
        created_by=spec.created_by,
        now=tx.now_ms,
        expires_at=None if lifetime is None else tx.now_ms + lifetime,
    )
    row = tx.one("read_token", token_id=token_id)
    assert row is not None
    return IssuedToken(token_of(row), f"{PREFIX}{token_id}_{secret}")


def list_tokens(tx: Transaction, scope: Scope) -> list[ApiToken]:
    """The tokens within a scope, newest first, revoked ones too."""
    rows = tx.all(
        "list_tokens", tenant_id=scope.tenant_id, project_id=scope.project_id, limit=MAX_TOKENS
    )
    return [token_of(row) for row in rows]


def revoke_token(tx: Transaction, token_id: str, scope: Scope) -> ApiToken:
    """End a token within a scope for good; a second time is harmless."""
    row = tx.one("read_token", token_id=token_id)
    if row is None or not scope.holds(_scope(row)):
        raise NotFound("token", "No such token; list them to see which there are.")
    if row["revoked_at_ms"] is None:
        tx.run("revoke_token", token_id=token_id, now=tx.now_ms)
    found = tx.one("read_token", token_id=token_id)
    assert found is not None
    return token_of(found)


def find_principal(tx: Transaction, token: str) -> Principal | None:
    """Whom a token admits now; None when it is unknown, revoked or past its end."""
    token_id, _, secret = token.removeprefix(PREFIX).partition("_")
    if not token.startswith(PREFIX) or not secret or "\0" in token_id:
        return None
    row = tx.one("read_token", token_id=token_id)
    if row is None or not hmac.compare_digest(bytes(row["secret_sha256"]), _digest(secret)):
        return None
    ended = row["expires_at_ms"] is not None and row["expires_at_ms"] <= tx.now_ms
    if ended or row["revoked_at_ms"] is not None:
        return None
    return Principal(Role(row["role"]), _scope(row), row["token_id"])


def token_of(row: Row) -> ApiToken:
    """A row as clients see it."""
    return ApiToken(
        id=row["token_id"],
        name=row["name"],
        tenant_id=row["tenant_id"],
        project_id=row["project_id"],
        role=Role(row["role"]),
        created_by=row["created_by"],
        created_at=iso_millis(row["created_at_ms"] / 1000),
        expires_at=_time(row["expires_at_ms"]),
        revoked_at=_time(row["revoked_at_ms"]),
    )


def _scope(row: Row) -> Scope:
    return Scope(row["tenant_id"], row["project_id"])


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else iso_millis(at_ms / 1000)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()

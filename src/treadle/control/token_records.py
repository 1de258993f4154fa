"""The records of API tokens: what is asked and answered of them. Plain data, as in `records`."""

from treadle.control.access import Role
from treadle.control.records import Body


class TokenRequest(Body):
    """Body of `POST /api/v1/tokens`; without a tenant the caller's own is meant."""

    name: str
    role: Role
    tenant_id: str | None = None
    project_id: str | None = None
    expires_in_ms: int | None = None


class ApiToken(Body):
    """A token as clients see it, without its secret; null tenant or project stands for all."""

    id: str
    name: str
    tenant_id: str | None
    project_id: str | None
    role: Role
    created_by: str | None
    created_at: str
    expires_at: str | None
    revoked_at: str | None


class IssuedToken(Body):
    """A fresh token with its secret, which is told this once."""

    api_token: ApiToken
    token: str


class ApiTokenList(Body):
    """Tokens, newest first."""

    items: list[ApiToken]

"""What a token may be when a caller asks for one. Pure; decides nothing about secrets."""

from dataclasses import dataclass

from treadle.control.access import Principal, Role, Scope
from treadle.control.faults import Forbidden, InvalidRequest
from treadle.control.token_records import TokenRequest

NAME_LIMIT = 200
MIN_TOKEN_MS = 1000
MAX_TOKEN_MS = 10 * 365 * 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class TokenSpec:
    """A token to be made; `expires_in_ms` None: it has no end of its own."""

    name: str
    role: Role
    scope: Scope
    expires_in_ms: int | None
    created_by: str | None


def make_token_spec(request: TokenRequest, caller: Principal) -> TokenSpec:
    """The token that a caller asks for, within what the caller may give away.

    Raises:
        InvalidRequest: a value is out of bounds, or a project is named without its tenant.
        Forbidden: the token would reach beyond the caller's tenant or project.
    """
    own = caller.scope
    scope = Scope(
        own.tenant_id if request.tenant_id is None else request.tenant_id,
        own.project_id if request.project_id is None else request.project_id,
    )
    if scope.tenant_id is None and scope.project_id is not None:
        raise InvalidRequest("Name the tenant of the project.", "$.tenantId")
    for value, path in (
        (request.name, "$.name"),
        (scope.tenant_id, "$.tenantId"),
        (scope.project_id, "$.projectId"),
    ):
        if value is not None and not 1 <= len(value) <= NAME_LIMIT:
            raise InvalidRequest(f"Give 1 to {NAME_LIMIT} characters.", path)
    if not own.holds(scope):
        raise Forbidden("A token reaches no further than its maker; ask an admin of that tenant.")
    lifetime = request.expires_in_ms
    if lifetime is not None and not MIN_TOKEN_MS <= lifetime <= MAX_TOKEN_MS:
        raise InvalidRequest(
            f"Give {MIN_TOKEN_MS} to {MAX_TOKEN_MS} milliseconds.", "$.expiresInMs"
        )
    return TokenSpec(request.name, request.role, scope, lifetime, caller.token_id)

"""Who may do what: roles, and the tenant or project that a caller is confined to. Pure.

A role has all that the ones before it have, in the order reader, submitter, operator, admin; a
runner stands aside. A caller of one tenant or project sees nothing of others: what is not theirs is
not found. Knows neither tokens' secrets nor HTTP.
"""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a caller may do at most.

    `reader` reads. `submitter` also creates runs and gives commands. `operator` also drains
    runners, reports them gone and verifies runs. `admin` also makes and revokes tokens. `runner`
    registers, claims, reports runners gone and reads.
    """

    READER = "reader"
    SUBMITTER = "submitter"
    OPERATOR = "operator"
    ADMIN = "admin"
    RUNNER = "runner"


_RANK = {Role.READER: 1, Role.SUBMITTER: 2, Role.OPERATOR: 3, Role.ADMIN: 4}


@dataclass(frozen=True, slots=True)
class Scope:
    """A tenant, or one project of it; None stands for all."""

    tenant_id: str | None = None
    project_id: str | None = None

    def holds(self, other: "Scope") -> bool:
        """Whether all of `other` lies within this one."""
        return self.tenant_id in (None, other.tenant_id) and self.project_id in (
            None,
            other.project_id,
        )


EVERYTHING = Scope()


@dataclass(frozen=True, slots=True)
class Principal:
    """An admitted caller; without a token id it is the manager's own token, or this machine."""

    role: Role
    scope: Scope = EVERYTHING
    token_id: str | None = None

    def may(self, needed: Role) -> bool:
        """Whether the role covers what an operation needs."""
        if self.role == Role.ADMIN:
            return True
        if Role.RUNNER in (self.role, needed):
            return self.role == needed or needed == Role.READER
        return _RANK[self.role] >= _RANK[needed]


OWNER = Principal(Role.ADMIN)
"""Who holds the manager's own token, or sits at its machine where none is asked for."""

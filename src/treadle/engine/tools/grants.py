"""What a person granted beyond the sandbox policy, for a turn or for the session. Holds state only.

Grants widen the policy that commands run under; they never narrow it. A read-only policy stays
read-only, as no policy can say "read-only but for one folder": it must be changed as a whole.
"""

from dataclasses import dataclass, field

import msgspec

from treadle.domain.policy import ReadOnly, SandboxPolicy, WorkspaceWrite


@dataclass(frozen=True, slots=True)
class Granted:
    """One grant: folders to write below, and the network."""

    write: tuple[str, ...] = ()
    network: bool = False


@dataclass(slots=True)
class Grants:
    """The grants of one thread."""

    _session: list[Granted] = field(default_factory=list[Granted])
    _turn: list[Granted] = field(default_factory=list[Granted])
    _turn_id: str = ""

    def add(self, granted: Granted, turn_id: str | None) -> None:
        """Keep a grant for a turn, or (with None) for the session."""
        if turn_id is None:
            self._session.append(granted)
            return
        if turn_id != self._turn_id:
            self._turn, self._turn_id = [], turn_id
        self._turn.append(granted)

    def widen(self, policy: SandboxPolicy, turn_id: str) -> SandboxPolicy:
        """The policy that holds for commands of a turn."""
        grants = [*self._session, *(self._turn if turn_id == self._turn_id else [])]
        if not grants or not isinstance(policy, ReadOnly | WorkspaceWrite):
            return policy
        network = policy.network_access or any(granted.network for granted in grants)
        if isinstance(policy, ReadOnly):
            return msgspec.structs.replace(policy, network_access=network)
        roots = [root for granted in grants for root in granted.write]
        return msgspec.structs.replace(
            policy,
            network_access=network,
            writable_roots=tuple(dict.fromkeys((*policy.writable_roots, *roots))),
        )

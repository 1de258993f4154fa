"""What a person granted beyond the sandbox policy, for a turn or for the session. Holds state only.

Grants widen the policy that commands run under; they never narrow it. A read-only policy stays
read-only, as no policy can say "read-only but for one folder": it must be changed as a whole.
"""

import msgspec

from treadle.domain.policy import ReadOnly, SandboxPolicy, WorkspaceWrite


class Granted(msgspec.Struct, frozen=True):
    """One grant: folders to write below, and the network."""

    write: tuple[str, ...] = ()
    network: bool = False


class Grants:
    """The grants of one thread."""

    def __init__(self) -> None:
        self._session: list[Granted] = []
        self._turn: list[Granted] = []
        self._turn_id = ""

    def add(self, granted: Granted, turn_id: str | None) -> None:
        """Keep a grant for a turn, or (with None) for the session."""
        if turn_id is None:
            self._session.append(granted)
            return
        if turn_id != self._turn_id:
            self._turn, self._turn_id = [], turn_id
        self._turn.append(granted)

    @property
    def lasting(self) -> bool:
        """Whether something is granted for the session."""
        return bool(self._session)

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

"""The port to skills as clients see them: listed, switched, and found in further folders.

Implemented above the engine, where home folder and configuration are known.
"""

from collections.abc import Sequence
from typing import Any, Protocol


class Skills(Protocol):
    """Skills as the protocol presents them. Calls block on the disk for a moment."""

    def listing(self, cwd: str | None, extra_roots: Sequence[str]) -> dict[str, Any]:
        """`{cwd, skills, errors}` of a working folder; the server's own without one."""
        ...

    def switch(self, *, path: str | None, name: str | None, enabled: bool) -> bool:
        """Switch the skill of a path or name on or off, for good; what it is then.

        Raises ConfigRejected when the configuration cannot be written.
        """
        ...

    def set_extra_roots(self, roots: Sequence[str]) -> None:
        """Look into these folders too, as long as the process lives."""
        ...

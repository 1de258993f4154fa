"""Logins at MCP servers, in one file of the home folder that only its user may read.

By the server's URL: the tokens, the client that was registered for them, and when they expire.
Values are what the official package gives and takes; this module only keeps them.
"""

import contextlib
import os
from pathlib import Path
from typing import Any, cast

import msgspec

FILE_NAME = "mcp-logins.json"

Entry = dict[str, Any]


class McpLogins:
    """The file of one home folder."""

    def __init__(self, home: Path) -> None:
        """Keep logins below `home`; nothing is read or made yet."""
        self.path = home / FILE_NAME

    def entry(self, url: str) -> Entry:
        """What is kept for a server; empty without a login."""
        return self._all().get(url, {})

    def has(self, url: str) -> bool:
        """Whether there are tokens for a server."""
        return "tokens" in self.entry(url)

    def update(self, url: str, **changes: Any) -> None:
        """Change what is kept for a server; raises OSError when the file cannot be written."""
        logins = self._all()
        logins[url] = {**logins.get(url, {}), **changes}
        draft = self.path.with_name(f"{FILE_NAME}.{os.getpid()}.new")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with open(handle, "wb") as file:
                file.write(msgspec.json.encode(logins))
            os.replace(draft, self.path)
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise

    def _all(self) -> dict[str, Entry]:
        try:
            found: object = msgspec.json.decode(self.path.read_bytes())
        except (OSError, msgspec.DecodeError):
            return {}
        return cast("dict[str, Entry]", found) if isinstance(found, dict) else {}

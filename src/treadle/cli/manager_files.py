"""What a manager leaves in its data folder so that the command line finds it: address and token.

Both files belong to the user alone. The address is a hint: whoever reads it asks the manager
whether it is there.
"""

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ManagerFiles:
    """The files of one data folder."""

    folder: Path

    @property
    def token_file(self) -> Path:
        """Where the API token is."""
        return self.folder / "token"

    @property
    def address_file(self) -> Path:
        """Where a running manager says its address."""
        return self.folder / "manager.json"

    def read_token(self) -> str | None:
        """The API token; None when there is none."""
        try:
            return self.token_file.read_text(encoding="utf-8").strip() or None
        except OSError:
            return None

    def ensure_token(self) -> str:
        """The API token, made when there is none; raises OSError when the folder is no good."""
        known = self.read_token()
        if known is not None:
            return known
        token = f"tdl_{secrets.token_urlsafe(32)}"
        self._write(self.token_file, token + "\n")
        return token

    def write_address(self, address: str) -> None:
        """Say where the manager listens."""
        self._write(self.address_file, json.dumps({"url": address, "pid": os.getpid()}) + "\n")

    def read_address(self) -> str | None:
        """Where a manager said that it listens; None when none did."""
        try:
            return str(json.loads(self.address_file.read_text(encoding="utf-8"))["url"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def forget_address(self) -> None:
        """The manager is gone."""
        self.address_file.unlink(missing_ok=True)

    def _write(self, path: Path, text: str) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        draft.replace(path)

"""What the tests of peers share: a scripted provider for clients that block, and a home folder."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from support.fake_provider import FakeProvider

ROOT = Path(__file__).parents[2]
TREADLE = ROOT / ".venv/bin/treadle"
NPM = ROOT / ".peers/npm"
"""Where `make test-peers` puts the packages of npm."""

WAIT_SECONDS = 40.0
"""Bound of every wait; a test that reaches it has failed."""


class Bench:
    """A provider on a loop in a thread, and a home folder that points to it."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        self.work = folder / "work"
        self.work.mkdir()
        self.provider = FakeProvider()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def start(self) -> None:
        self._thread.start()
        self.wait(self.provider.__aenter__())
        (self.home / "config.toml").write_text(
            'model = "mock-model"\nmodel_provider = "mock"\napproval_policy = "never"\n'
            'sandbox_mode = "danger-full-access"\n\n[model_providers.mock]\nname = "Mock"\n'
            f'base_url = "{self.provider.url}"\nwire_api = "responses"\n'
            "request_max_retries = 0\nstream_max_retries = 0\n"
        )

    def stop(self) -> None:
        self.wait(self.provider.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_SECONDS)
        self._loop.close()

    def call(self, function: Callable[[], object]) -> None:
        """Call a function on the provider's loop, soon."""
        self._loop.call_soon_threadsafe(function)

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the provider's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT_SECONDS)

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs to find the home folder."""
        return {"CODEX_HOME": str(self.home), "HOME": str(self.home.parent)}

    def last_input(self) -> str:
        """What the model was sent last."""
        return str(self.provider.requests[-1].body["input"])

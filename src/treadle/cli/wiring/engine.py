"""Puts one engine together: the place where store, model, tools and sandbox are chosen."""

import os
import pwd
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from treadle.appserver.app import AppServer
from treadle.appserver.context import Services
from treadle.appserver.subscriptions import Subscriptions
from treadle.cli.wiring.config_service import StoreConfigService
from treadle.cli.wiring.models import ModelClients
from treadle.cli.wiring.planner import ConfigPlanner
from treadle.cli.wiring.toolset import Toolset
from treadle.cli.wiring.version import PRODUCT, PROTOCOL_VERSION, VERSION
from treadle.config.load import ConfigStore, read_installation_id
from treadle.config.settings import StoreSettings
from treadle.engine.sandbox.launch_plan import Sandbox
from treadle.engine.sandbox.select import ContainerIsSandbox, ProbedSandbox
from treadle.engine.services.feed import Feed
from treadle.engine.services.threads import Threads
from treadle.engine.services.turns import Turns
from treadle.engine.store.memory import InMemoryThreadStore
from treadle.engine.store.thread_store import ThreadStore
from treadle.engine.tools.turn_diff import TurnDiff
from treadle.kit.clock import Clock, SystemClock


class HomeMissing(Exception):
    """The home folder does not exist or cannot be used; the text says what to do."""


@dataclass(slots=True)
class Engine:
    """A running engine and the app-server over it."""

    app: AppServer
    services: Services
    models: ModelClients

    async def close(self) -> None:
        """Close threads, store and connections; idempotent."""
        await self.app.shutdown()
        await self.models.close()


def build_engine(
    config: ConfigStore, *, source: Any = "vscode", record_to: Path | None = None
) -> Engine:
    """An engine as configured; `source` is stamped on new threads.

    With `record_to` the exchanges with models are recorded to that file.

    Raises:
        HomeMissing: the home folder is not there.
    """
    clock = SystemClock()
    home = config.home
    _check_home(config)
    feed = Feed()
    models = ModelClients(read_installation_id(home), record_to)
    planner = ConfigPlanner(config, models, Toolset(_shell()), _sandbox_chooser(config))
    settings = config.startup().store
    threads = Threads(
        _store(settings, home, clock),
        InMemoryThreadStore(clock),
        planner,
        feed,
        clock,
        source=source,
        version=VERSION,
    )
    services = Services(
        threads=threads,
        turns=Turns(threads, feed, clock, TurnDiff),
        config=StoreConfigService(config, []),
        subscriptions=Subscriptions(clock),
        home=str(home),
        protocol_version=PROTOCOL_VERSION,
        product=PRODUCT,
    )
    return Engine(AppServer(services, feed), services, models)


def _check_home(config: ConfigStore) -> None:
    """A home named by the environment must exist; the default one is made."""
    home = config.home
    if home.is_dir():
        return
    named = config.environment.get("TREADLE_HOME") or config.environment.get("CODEX_HOME")
    if named:
        variable = "TREADLE_HOME" if config.environment.get("TREADLE_HOME") else "CODEX_HOME"
        raise HomeMissing(f"{variable} points to {home}, which is no folder: make it, or unset it")
    try:
        home.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise HomeMissing(f"cannot make the home folder {home}: {error.strerror}") from error


def _store(settings: StoreSettings, home: Path, clock: Clock) -> ThreadStore:
    if settings.kind == "in_memory":
        return InMemoryThreadStore(clock)
    from treadle.engine.store.local.store import LocalThreadStore

    return LocalThreadStore(home, clock)


def _sandbox_chooser(config: ConfigStore) -> Callable[[str], Sandbox]:
    """Probed once per process; `none` is the operator's word that a container is the sandbox."""
    probed = ProbedSandbox(config.environment.get("PATH") or "/usr/bin:/bin")
    container = ContainerIsSandbox()
    return lambda choice: container if choice == "none" else probed


def _shell() -> str:
    """The user's shell where it is a POSIX one that the tools know, else bash or sh."""
    try:
        named = pwd.getpwuid(os.getuid()).pw_shell
    except KeyError:
        named = ""
    for candidate in (named, "/bin/bash", "/bin/sh"):
        if Path(candidate).name in ("bash", "zsh", "sh") and Path(candidate).exists():
            return candidate
    return "/bin/sh"

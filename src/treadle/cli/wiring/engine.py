"""Puts one engine together: the place where store, model, tools and sandbox are chosen."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from treadle.appserver.app import AppServer
from treadle.appserver.context import Services
from treadle.appserver.subscriptions import Subscriptions
from treadle.cli.wiring.config_service import StoreConfigService
from treadle.cli.wiring.facts import server_facts
from treadle.cli.wiring.late_planner import LatePlanner
from treadle.cli.wiring.late_services import LateServices
from treadle.cli.wiring.mcp import McpWiring
from treadle.cli.wiring.sandboxes import Sandboxes, tell_of_sandbox
from treadle.cli.wiring.version import VERSION
from treadle.config.load import HomeMissing, ensure_home, read_installation_id
from treadle.config.settings import Config
from treadle.config.skills import SkillBook
from treadle.config.store import ConfigStore
from treadle.engine.services.agent_commands import AgentOffer
from treadle.engine.services.agents import AgentHost
from treadle.engine.services.budgets import Budgets
from treadle.engine.services.feed import Feed
from treadle.engine.services.planning import Planner
from treadle.engine.services.requests import Deadline, Patience, Requests
from treadle.engine.services.resting import Resting
from treadle.engine.services.thread_queue import Queues
from treadle.engine.services.threads import Threads
from treadle.engine.services.turn_launch import TurnLauncher
from treadle.engine.services.turns import Turns
from treadle.engine.store.thread_store import StoreError, ThreadStore
from treadle.kit.clock import Clock, SystemClock
from treadle.kit.late import Late
from treadle.kit.tasks import TaskScope

if TYPE_CHECKING:
    from treadle.engine.agent.turn_report import TurnJournal


class StoreUnusable(HomeMissing):
    """The configured thread store cannot be used; the text says what to do."""


class Engine(msgspec.Struct):
    """A running engine and the app-server over it."""

    app: AppServer
    services: Services
    planner: LatePlanner
    mcp: McpWiring
    probing: TaskScope

    def fill_index(self) -> None:
        """Begin to read stored threads that the index does not know, as a serving process does."""
        from treadle.engine.store.local.store import LocalThreadStore

        store = self.services.threads.store
        if isinstance(store, LocalThreadStore):
            store.fill_index()

    async def close(self) -> None:
        """Close threads, store and connections; idempotent."""
        await self.app.shutdown()
        await self.probing.close()
        if (logins := self.services.mcp_logins.made) is not None:
            await logins.close()
        await self.mcp.close()
        await self.planner.close()


def build_engine(
    config: ConfigStore,
    *,
    source: Any = "vscode",
    record_to: Path | None = None,
    unattended: bool = False,
) -> Engine:
    """An engine as configured; `source` is stamped on new threads.

    With `record_to` the exchanges with models are recorded to that file. `unattended` says that its
    clients answer no questions: they are settled by policy at once.

    Raises:
        HomeMissing: the home folder is not there.
    """
    clock = SystemClock()
    home = ensure_home(config.environment)
    feed = Feed()
    mcp = McpWiring(config)
    skills = SkillBook(config)
    installation_id = read_installation_id(home)

    def plan_late() -> tuple[Planner, Callable[[], Awaitable[None]]]:
        from treadle.cli.wiring.planner import make_planner

        return make_planner(config, skills, installation_id, record_to, mcp, sandboxes)

    planner = LatePlanner(plan_late)
    started = config.startup()
    subscriptions = Subscriptions(clock)
    sandboxes = Sandboxes(config.environment.get("PATH") or "/usr/bin:/bin")
    warnings: list[dict[str, Any]] = []
    probing = TaskScope("sandbox probe")
    threads = Threads(
        _store(started, clock),
        Late(lambda: _memory_store(None, clock)),
        planner,
        feed,
        clock,
        source=source,
        version=VERSION,
    )

    def prepare_for_turns() -> None:
        from treadle.cli.wiring.models import load_for_turns

        told = tell_of_sandbox(sandboxes, started, subscriptions, warnings)
        probing.start(told, "sandbox")
        probing.start(load_for_turns(started.model.provider), "load for turns")

    threads.on_answered = Late(prepare_for_turns)
    requests = Requests(feed, clock, _patience(started, alone=unattended))
    turns = Turns(threads, feed, clock, TurnLauncher(threads, feed, clock, _journal, requests))
    budgets = Budgets(threads)
    agents = AgentHost(threads, turns, budgets)
    # In this order, so that calls of the agent tools are counted as well.
    threads.equip += [AgentOffer(agents).equip, budgets.equip]
    late = LateServices(config, skills, sandboxes, mcp, clock)
    life = Late(lambda: late.life(threads))
    for_clients = Late(lambda: late.mcp(threads, requests))
    services = Services(
        threads=threads,
        turns=turns,
        agents=agents,
        budgets=budgets,
        queues=Queues(threads, turns),
        resting=Resting(threads, started.store.most_in_memory),
        requests=requests,
        config=StoreConfigService(config, warnings),
        subscriptions=subscriptions,
        life=life,
        special_turns=Late(lambda: late.special_turns(turns, life().forks)),
        approvals=Late(lambda: late.approvals(threads, requests)),
        mcp=for_clients,
        mcp_logins=Late(lambda: late.mcp_logins(for_clients())),
        accounts=Late(late.accounts),
        skills=Late(late.skills),
        device_keys=Late(late.device_keys),
        feedback=Late(lambda: late.feedback(threads)),
        file_search=Late(late.file_search),
        command_host=Late(late.command_host),
        facts=server_facts(home),
        installation_id=installation_id,
        host=os.uname().nodename or "localhost",
    )
    return Engine(AppServer(services, feed), services, planner, mcp, probing)


def _patience(config: Config, *, alone: bool) -> Patience:
    """How long questions stay open, and what becomes of those that nobody answers."""
    seconds = config.table.get("approval_timeout_secs")
    default = config.table.get("approval_timeout_decision") or "decline"
    return Patience(
        deadline=Deadline(float(seconds), default) if seconds else None,
        waits_for_clients=config.table.get("approval_unattended") != "settle",
        alone=alone,
        default=default,
    )


def _store(config: Config, clock: Clock) -> ThreadStore:
    if config.store.kind == "in_memory":
        return _memory_store(config.store.id, clock)
    if config.store.kind == "remote":
        return _remote_store(config.store.endpoint or "", clock)
    from treadle.engine.store.local.store import LocalThreadStore

    return LocalThreadStore(config.home, clock, default_provider=config.model.provider.id)


def _memory_store(name: str | None, clock: Clock) -> ThreadStore:
    from treadle.engine.store.memory import InMemoryThreadStore

    return InMemoryThreadStore.for_id(name, clock) if name else InMemoryThreadStore(clock)


def _remote_store(endpoint: str, clock: Clock) -> ThreadStore:
    try:
        from treadle.engine.store.remote.store import RemoteThreadStore
    except ModuleNotFoundError as error:
        raise StoreUnusable(
            "experimental_thread_store is remote, but gRPC is not installed:"
            " run `pip install 'treadle[grpc]'`"
        ) from error
    try:
        return RemoteThreadStore(endpoint, clock)
    except StoreError as error:
        raise StoreUnusable(f"experimental_thread_store: {error}") from error


def _journal(cwd: str) -> "TurnJournal":
    from treadle.engine.tools.turn_diff import TurnDiff

    return TurnDiff(cwd)

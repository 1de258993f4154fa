"""One attempt at a run: everything between a granted claim and its end.

Owns the lease, the reporter, the feed of commands and the agent, and decides which command is next.
Turns run one at a time, in order; an interrupt, a steer, an answer or a cancel reaches the running
turn at once. Knows neither registration nor claiming.
"""

import asyncio
import contextlib
import logging
import tempfile
from collections import deque
from pathlib import Path
from typing import Any

from treadle.domain.failures import Failure, FailureKind
from treadle.kit.clock import Clock
from treadle.kit.deadlines import finish
from treadle.kit.fault_points import reach
from treadle.kit.redact import Redactor
from treadle.kit.tasks import TaskScope
from treadle.kit.tracing import span
from treadle.runner import recovery
from treadle.runner.agent import Agent
from treadle.runner.claim import Heartbeats, Lease
from treadle.runner.drive import NOT_ACTIVE, Limits, Outcome, TurnDriver, interruption
from treadle.runner.feed import OPEN_STATES, Feed
from treadle.runner.home import AgentHome
from treadle.runner.manager_client import ManagerClient, ManagerError, ManagerUnreachable
from treadle.runner.manager_types import Claim, Command
from treadle.runner.options import RunnerId, RunnerOptions, RunnerResult
from treadle.runner.questions import NOT_OPEN, Questions
from treadle.runner.report import Lost, Reporter
from treadle.runner.requests import policy_of
from treadle.runner.session import Session, SessionFailed
from treadle.runner.setup import Setup
from treadle.runner.shape import error
from treadle.runner.spool import Spool, StaleEpoch

logger = logging.getLogger(__name__)

DEFAULT_IDLE_MS = 900_000
"""Idle deadline of a turn whose run names none."""
CLOSE_SECONDS = 10.0
RELEASE_SECONDS = 3.0


class Attempt:
    """Works on one claimed run until it ends, is given back, or is lost."""

    def __init__(
        self,
        options: RunnerOptions,
        client: ManagerClient,
        heartbeats: Heartbeats,
        claim: Claim,
        clock: Clock,
    ) -> None:
        """Take over what the runner of `heartbeats` was granted; nothing runs before `run`."""
        self._options = options
        self._client = client
        self._claim = claim
        self._clock = clock
        self._runner_id = heartbeats.runner_id
        self._setup = Setup(options, claim.run)
        self._lease = Lease(heartbeats, claim, clock)
        self._tasks = TaskScope(f"run-{claim.run_id}")
        self._turns: deque[Command] = deque()
        self._news = asyncio.Event()
        self._cancel: Command | None = None
        self._is_closing = False
        self._is_draining = False
        self._wanted_id = options.command_id
        self._active: Command | None = None
        self._half_done: Command | None = None
        self._driver: TurnDriver | None = None
        self._early: list[Command] = []
        self._taken: set[int] = set()
        self._cut_short_by: list[Command] = []
        self._last_status: str | None = None
        self._last_kind: str | None = None
        self._is_over = False

    async def run(self) -> RunnerResult:
        """Work; the result says how it ended. Cancelling it gives the run back."""
        with span("runner run", {"run.id": self._claim.run_id, "epoch": self._claim.epoch}):
            try:
                return await self._run()
            finally:
                # Whatever went wrong before, or kept the last events from being told.
                if not self._is_over and not self._lease.lost.is_set():
                    await finish(self._release("runner-failed"), RELEASE_SECONDS, "release")

    async def _run(self) -> RunnerResult:
        reach("runner.run.claimed")
        with tempfile.TemporaryDirectory(prefix="treadle-run-") as scratch:
            home = self._setup.home(Path(scratch))
            folder = self._setup.spool_folder(home, Path(scratch))
            secrets = home.secrets if isinstance(home, AgentHome) else ()
            hidden = [*secrets, *self._setup.own_secrets()]
            try:
                self._spool = Spool(folder, self._claim.run_id, self._claim.epoch)
            except StaleEpoch as stale:
                # The manager's database is older than this folder: it may not lead us back in time.
                logger.warning("run %s: %s", self._claim.run_id, stale)
                await self._release("stale-epoch")
                return self._result("stale-epoch", kind=FailureKind.LEASE_LOST)
            self._reporter = Reporter(
                self._client,
                self._lease,
                self._spool,
                self._clock,
                Redactor(hidden, token_shapes=True),
            )
            self._questions = Questions(
                policy_of(self._claim.run.execution_policy),
                self._claim.epoch,
                self._reporter,
                self._clock,
                self._close_with,
            )
            thread_id = self._claim.run.session_ref.thread_id
            self._agent = Agent(self._setup, self._reporter, self._clock, self._tasks, thread_id)
            try:
                return await self._work(home, folder)
            except Lost:
                return self._result("lease-lost", kind=FailureKind.LEASE_LOST)
            finally:
                await finish(self._close(), CLOSE_SECONDS, "close attempt")

    def drain(self) -> None:
        """Take up no other turn: give the run back when the one at work is over."""
        self._is_draining = True
        self._news.set()

    async def _work(self, home: AgentHome | Failure, folder: Path) -> RunnerResult:
        self._reporter.start(self._tasks)
        self._tasks.start(self._lease.keep(), "lease")
        recovered = await recovery.recover(self._client, self._claim, self._reporter, folder)
        if recovered.run_ended is not None:
            self._last_status, self._is_over = recovered.run_ended, True
            return self._result("run-ended")
        self._agent.thread_id = recovered.thread_id or self._agent.thread_id
        for command in self._claim.commands:
            if command.id not in recovered.closed:
                self._route(command)
        poll_seconds = self._options.poll_interval_ms / 1000
        feed = Feed(self._client, self._lease, self._claim, self._route, poll_seconds)
        feed.start(self._tasks)
        self._tasks.start(self._watch_lease(), "lease-watch")
        self._tasks.start(self._watch_draining(), "drain-watch")
        return await self._serve(home)

    async def _serve(self, home: AgentHome | Failure) -> RunnerResult:
        while True:
            if self._lease.lost.is_set():
                raise Lost(self._lease.lost_reason)
            if self._cancel is not None:
                return await self._end_run("cancelled", FailureKind.CANCELLED)
            if self._is_draining:
                return await self._give_back("runner-stopped")
            command = self._next_turn()
            if command is not None:
                await self._run_turn(command, home)
                if self._options.one_shot and self._cancel is None:
                    return await self._end_run(self._last_status or "failed", self._last_kind)
            elif self._is_closing:
                return await self._end_run("completed", None)
            elif not await self._wait_for_news():
                return await self._give_back("idle-timeout")

    def _next_turn(self) -> Command | None:
        if self._wanted_id is None:
            return self._turns.popleft() if self._turns else None
        for command in self._turns:
            if command.id == self._wanted_id:
                self._wanted_id = None
                self._turns.remove(command)
                return command
        return None

    async def _wait_for_news(self) -> bool:
        self._news.clear()
        try:
            async with asyncio.timeout(self._options.idle_timeout_ms / 1000):
                await self._news.wait()
        except TimeoutError:
            return False
        return True

    async def _watch_lease(self) -> None:
        await self._lease.lost.wait()
        self._news.set()
        self._agent.cut_short()
        if self._driver is not None:
            self._driver.lease_lost()

    async def _watch_draining(self) -> None:
        await self._lease.draining.wait()
        self.drain()

    # Turns

    async def _run_turn(self, command: Command, home: AgentHome | Failure) -> None:
        self._active = command
        self._half_done = command if self._is_taken_over(command) else None
        self._acknowledge(command)
        try:
            if await self._came_too_late(command):
                return
            with span("runner turn", {"run.id": self._claim.run_id, "command.id": command.id}):
                outcome = await self._drive(command, home)
        except SessionFailed as failed:
            self._close_half_done()
            self._reporter.tell(error(failed.failure), command.id)
            outcome = Outcome("failed", failed.failure, None, sound=False)
        finally:
            self._after_turn()
        if not outcome.sound:
            await self._agent.drop()
        reach("runner.turn.ended")
        self._close_turn(command, outcome)

    def _is_taken_over(self, command: Command) -> bool:
        """Whether an earlier attempt had begun this turn."""
        return command.state == "delivered" and command.delivered_epoch not in {
            None,
            self._lease.epoch,
        }

    def _close_half_done(self, waiting_turn: str = "") -> None:
        """Say what becomes of a turn that an earlier attempt began: over, or gone on with."""
        command, self._half_done = self._half_done, None
        if command is None:
            return
        if waiting_turn:
            facts = {"turnId": waiting_turn, "epoch": command.delivered_epoch}
            self._reporter.status("turn-continued", command_id=command.id, **facts)
            return
        facts = {"status": "interrupted", "reason": "recovery", "epoch": command.delivered_epoch}
        self._reporter.status("turn/completed", command_id=command.id, **facts)

    def _after_turn(self) -> None:
        """What came for the turn and did not reach it: a turn runs by itself, the rest is over."""
        late, self._early = self._early, []
        if self._driver is not None:
            late += self._driver.unsteered
        self._driver = self._active = None
        for each in late:
            if each.type == "turn":
                self._turns.append(each)
            else:
                self._close_command(each, "rejected", failureMessage=NOT_ACTIVE)
        self._turns = deque(sorted(self._turns, key=lambda turn: turn.cmd_seq))

    async def _came_too_late(self, command: Command) -> bool:
        """Whether the manager gave the turn up before our acknowledgement arrived."""
        if command.expires_at is None:
            return False
        await self._reporter.flush()
        while not self._lease.lost.is_set():
            try:
                now = await self._client.get_command(command.run_id, command.id)
            except ManagerUnreachable:
                continue  # the client has tried, with pauses, for a while
            return now.state not in OPEN_STATES
        raise Lost(self._lease.lost_reason)

    async def _drive(self, command: Command, home: AgentHome | Failure) -> Outcome:
        if isinstance(home, Failure):
            raise SessionFailed(home)
        session = await self._open(command, home)
        self._close_half_done(session.waiting_turn if session is not None else "")
        if session is None:
            cancelled = interruption(self._cut_short_by, "Interrupted before the turn started.")
            return Outcome("cancelled", cancelled, None, sound=self._agent.session is not None)
        # The acknowledgement is durable, and so the claim still ours, before the agent acts.
        await self._reporter.flush()
        reach("runner.turn.starting")
        timeout_ms = self._claim.run.execution_policy.timeout_ms or DEFAULT_IDLE_MS
        self._driver = TurnDriver(
            session,
            command,
            self._reporter,
            self._clock,
            self._questions,
            Limits(timeout_ms / 1000, self._options.ladder),
        )
        early, self._early = self._early, []
        for each in early:
            self._driver.control(each)
        if self._lease.lost.is_set():
            raise Lost(self._lease.lost_reason)
        return await self._driver.run(self._lease.progressed)

    async def _open(self, command: Command, home: AgentHome) -> Session | None:
        """A session with the run's thread; None when it was interrupted before it was ready."""
        asked = command.payload.get("model")
        model = asked if isinstance(asked, str) else None
        goes_on = self._is_taken_over(command)
        session = await self._agent.open(home, command.id, model, goes_on=goes_on)
        if session is not None:
            return session
        if self._lease.lost.is_set():
            raise Lost(self._lease.lost_reason)
        self._cut_short_by = [each for each in self._early if each.type != "turn"]
        self._early = [each for each in self._early if each.type == "turn"]
        for each in self._cut_short_by:
            self._close_command(each, "completed")
        return None

    def _close_turn(self, command: Command, outcome: Outcome) -> None:
        failure = outcome.failure
        self._last_status = outcome.status
        self._last_kind = failure.kind.value if failure else None
        if failure is not None and failure.kind is FailureKind.SECRET_UNAVAILABLE:
            self._last_status = "blocked"
        superseded = failure is not None and failure.kind is FailureKind.SUPERSEDED
        state = "superseded" if superseded else outcome.status
        facts: dict[str, Any] = {"state": state, "threadId": self._agent.thread_id}
        if failure is not None:
            facts |= {"failureKind": failure.kind.value, "failureMessage": failure.message}
        if outcome.usage is not None:
            facts["usage"] = outcome.usage
        self._reporter.status("command-terminal", command_id=command.id, **facts)

    # Commands

    def _route(self, command: Command) -> None:
        handlers = {
            "turn": self._on_turn,
            "interrupt": self._on_interrupt,
            "steer": self._on_steer,
            "answer": self._on_answer,
            "cancel": self._on_cancel,
            "close": self._on_close,
        }
        handlers.get(command.type, self._on_unknown)(command)
        self._news.set()

    def _on_turn(self, command: Command) -> None:
        active = self._active
        if active is None or command.target_command_id != active.id:
            self._turns.append(command)
            return
        # The run's policy is to steer: the turn at work takes these words if it still can.
        self._acknowledge(command)
        if self._driver is not None:
            self._driver.control(command)
        else:
            self._early.append(command)

    def _on_interrupt(self, command: Command) -> None:
        self._reporter.status("interrupt-command-acknowledged", command_id=command.id)
        target = command.target_command_id
        if self._active is not None and target in {None, self._active.id}:
            self._control(command)
            return
        queued = next((turn for turn in self._turns if turn.id == target), None)
        if queued is None:
            self._close_command(command, "rejected", failureMessage=NOT_ACTIVE)
            return
        self._turns.remove(queued)
        superseded = command.payload.get("supersededBy") is not None
        state = "superseded" if superseded else "cancelled"
        self._close_command(queued, state, failureKind=state)
        self._close_command(command, "completed")

    def _on_steer(self, command: Command) -> None:
        self._acknowledge(command)
        if self._driver is None:
            self._close_command(command, "rejected", failureMessage=NOT_ACTIVE)
        else:
            self._driver.control(command)

    def _on_answer(self, command: Command) -> None:
        self._acknowledge(command)
        if self._driver is None:
            self._close_command(command, "rejected", failureMessage=NOT_OPEN)
        else:
            self._driver.control(command)

    def _on_cancel(self, command: Command) -> None:
        self._acknowledge(command)
        self._cancel = command
        if self._active is not None:
            self._control(command)

    def _on_close(self, command: Command) -> None:
        self._acknowledge(command)
        self._is_closing = True

    def _on_unknown(self, command: Command) -> None:
        self._acknowledge(command)
        text = f"This runner does not know {command.type} commands; use a newer one."
        self._close_command(command, "rejected", failureMessage=text)

    def _control(self, command: Command) -> None:
        if self._driver is not None:
            self._driver.control(command)
            return
        self._early.append(command)
        self._agent.cut_short()

    def _acknowledge(self, command: Command) -> None:
        """Say that this attempt has the command, once; words that were to steer may come again."""
        if command.cmd_seq in self._taken:
            return
        self._taken.add(command.cmd_seq)
        self._reporter.status("command-acknowledged", command_id=command.id)

    def _close_with(self, command: Command, state: str, message: str | None) -> None:
        self._close_command(command, state, **({"failureMessage": message} if message else {}))

    def _close_command(self, command: Command, state: str, **facts: Any) -> None:
        if command.type != "cancel":  # that one closes with the run
            self._reporter.status("command-terminal", command_id=command.id, state=state, **facts)

    # Ends

    async def _end_run(self, terminal_status: str, kind: str | None) -> RunnerResult:
        await self._agent.drop()
        self._last_status, self._last_kind = terminal_status, kind
        facts: dict[str, Any] = {"terminalStatus": terminal_status}
        if kind is not None:
            facts["failureKind"] = kind
        self._reporter.status("run-terminal", **facts)
        await self._reporter.flush()
        reach("runner.run.ended")
        self._is_over = True
        return self._result(None)

    async def _give_back(self, reason: str) -> RunnerResult:
        await self._agent.drop()
        await self._reporter.flush()
        reach("runner.run.releasing")
        await self._release(reason)
        return self._result(reason)

    async def _release(self, reason: str) -> None:
        lease = self._lease
        lease.is_given_back = True
        with contextlib.suppress(ManagerError, ManagerUnreachable):
            await self._client.release(lease.run_id, lease.token, lease.epoch, reason)
        self._is_over = True

    async def _close(self) -> None:
        await self._agent.close()
        if not self._is_over and not self._lease.lost.is_set():
            with contextlib.suppress(TimeoutError, Lost):
                async with asyncio.timeout(RELEASE_SECONDS):
                    await self._reporter.flush()
                    await self._release("runner-stopped")
        await self._tasks.close()
        self._spool.close(discard=self._reporter.is_drained)

    def _result(self, stopped: str | None, kind: str | None = None) -> RunnerResult:
        return RunnerResult(
            terminal_status=self._last_status,
            failure_kind=kind or self._last_kind,
            runner=RunnerId(self._runner_id),
            run_id=self._claim.run_id,
            stopped=stopped,
        )

"""Carries a task out through a manager and a local runner, with progress on the terminal.

Shared by `treadle run` and `treadle demo`: create the run, post the turn, start a runner process
for it, follow the events, print the result.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from treadle.cli.exit_codes import FAILED, NOT_RUN, STOPPED, TRANSIENT, code_of_run
from treadle.cli.progress import Progress, complain
from treadle.cli.signals import StopSignals
from treadle.kit.processes import ChildProcess, spawn
from treadle.kit.tasks import TaskScope
from treadle.runner.announce import Registered, read_announcement, report_gone
from treadle.runner.manager_client import ManagerClient, ManagerError, ManagerUnreachable
from treadle.runner.manager_types import ResultEnvelope

RUNNER_SECONDS = 20.0
"""How long the runner may take to end once its run has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is to be done, and where."""

    prompt: str
    workspace: Path
    profile: str
    sandbox: str
    home: Path
    """The agent's home folder."""
    env: Mapping[str, str]
    model: str | None = None
    timeout_ms: int = 600_000
    approval: str = "never"


class CarriedOut:
    """One task on its way through the control plane."""

    def __init__(
        self,
        client: ManagerClient,
        url: str,
        token_file: Path | None,
        task: Task,
        *,
        show_result: Callable[[ResultEnvelope], None],
    ) -> None:
        """Use `run`; `show_result` prints what the run came to, after its events."""
        self._show_result = show_result
        self._client = client
        self._url = url
        self._token_file = token_file
        self._task = task
        self._progress = Progress()

    async def run(self, signals: StopSignals) -> int:
        """Carry the task out; the exit code. A first signal interrupts, a second one quits."""
        try:
            run_id, command_id = await self._create()
        except (ManagerError, ManagerUnreachable) as error:
            complain(str(error))
            return _no_manager(error)
        self._progress = Progress(run_id)
        self._progress.line("·", f"run {run_id}", "dim")
        runner = await self._start_runner(run_id, command_id)
        scope = TaskScope("run")
        following = scope.start(self._follow(run_id), "events")
        errors = scope.start(_copy_errors(runner), "runner's messages")
        reaping = scope.start(self._reap(runner, following), "runner")
        scope.start(self._interrupt(signals, run_id), "interrupt")
        quitting = scope.start(signals.second.wait(), "quit")
        try:
            for awaited, seconds in ((following, None), (reaping, RUNNER_SECONDS)):
                await asyncio.wait(
                    {awaited, quitting}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
                )
                if quitting.done():
                    complain(f"quit; run {run_id} is left as it is")
                    return STOPPED
            await asyncio.wait({errors}, timeout=1)
            return await self._result(run_id, command_id)
        except (ManagerError, ManagerUnreachable) as error:
            complain(str(error))
            return _no_manager(error)
        finally:
            await runner.stop()
            await scope.close()

    async def _create(self) -> tuple[str, str]:
        task = self._task
        run = await self._client.create_run(
            {
                "workspaceRef": {"kind": "host-path", "path": str(task.workspace)},
                "backendProfile": task.profile,
                "executionPolicy": {
                    "sandbox": task.sandbox,
                    "approval": task.approval,
                    "timeoutMs": task.timeout_ms,
                },
            }
        )
        payload: dict[str, Any] = {"prompt": task.prompt}
        if task.model is not None:
            payload["model"] = task.model
        command = await self._client.post_command(run.id, "turn", payload)
        return run.id, command.id

    async def _start_runner(self, run_id: str, command_id: str) -> ChildProcess:
        argv = [sys.executable, "-m", "treadle.cli.main", "runner", "once"]
        argv += ["--manager-url", self._url, "--run-id", run_id, "--command-id", command_id]
        argv += ["--codex-home", str(self._task.home), "--one-shot", "--announce"]
        if self._token_file is not None:
            argv += ["--token-file", str(self._token_file)]
        return await spawn(argv, env=self._task.env)

    async def _follow(self, run_id: str) -> None:
        try:
            async for event in self._client.follow(run_id):
                self._progress.show(event.type, event.payload)
        except (ManagerError, ManagerUnreachable) as error:
            complain(f"the run's events cannot be read any more: {error}")

    async def _reap(self, runner: ChildProcess, following: asyncio.Task[None]) -> None:
        """Wait for the runner; a runner that died alone must not leave us waiting for events."""
        registered: Registered | None = None
        async for line in runner.stdout:
            registered = read_announcement(line) or registered
        returncode = await runner.wait()
        if registered is not None and returncode < 0:
            await runner.stop(0)  # nothing of it works on when another one has the run
            with contextlib.suppress(ManagerError, ManagerUnreachable):
                await report_gone(self._client, registered, returncode)
        await asyncio.wait({following}, timeout=3)
        following.cancel()

    async def _interrupt(self, signals: StopSignals, run_id: str) -> None:
        await signals.first.wait()
        self._progress.line("·", "interrupting; once more quits", "dim")
        try:
            await self._client.post_command(run_id, "interrupt", {"reason": "Ctrl-C"})
        except (ManagerError, ManagerUnreachable) as error:
            complain(f"not interrupted: {error}")

    async def _result(self, run_id: str, command_id: str) -> int:
        envelope = await self._client.result(run_id, command_id)
        self._show_result(envelope)
        code = code_of_run(envelope.terminal_status, envelope.failure_kind)
        if code == NOT_RUN:
            complain(f"no runner finished run {run_id}; it waits at {self._url} for another one")
        return code


def show_envelope(envelope: ResultEnvelope) -> None:
    """Print a result as JSON."""
    print()
    print(json.dumps(msgspec.to_builtins(envelope), indent=2, ensure_ascii=False), flush=True)


def show_summary(envelope: ResultEnvelope) -> None:
    """Print what a person wants to know of a result; the answer was printed with the events."""
    lines = [("run", envelope.run_id), ("status", envelope.terminal_status or envelope.status)]
    if envelope.failure is not None:
        lines.append(("failure", envelope.failure_kind or ""))
        lines.append(("message", envelope.failure_message or ""))
        lines.append(("remedy", envelope.failure.remedy))
    if envelope.session_ref.thread_id is not None:
        lines.append(("thread", envelope.session_ref.thread_id))
    if envelope.usage is not None:
        lines.append(("tokens", str(envelope.usage.get("totalTokens", 0))))
    print()
    print("\n".join(f"{name:9}{value}" for name, value in lines), flush=True)


def _no_manager(error: Exception) -> int:
    return TRANSIENT if isinstance(error, ManagerUnreachable) else FAILED


async def _copy_errors(runner: ChildProcess) -> None:
    """What the runner says on standard error, bounded, onto ours."""
    left = 20_000
    while left > 0 and (line := await runner.stderr.readline()):
        left -= len(line)
        sys.stderr.write(line.decode(errors="replace"))
    while await runner.stderr.read(1 << 16):
        continue

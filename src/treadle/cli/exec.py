"""`treadle exec`: runs one turn without a person and prints the answer, or every event.

Owns the order of things and the exit code. The thread is opened, and its id printed, before
standard input is read: whoever started this hears from it within a second, whatever it waits for.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import AsyncGenerator, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from treadle.cli.config_flags import open_config
from treadle.cli.exec_options import Misused, build_parser, parse, thread_overrides
from treadle.cli.exec_prompt import check_source, images, read_prompt, read_schema
from treadle.cli.exit_codes import CLASS_CODES, FAILED, MISUSED, STOPPED
from treadle.cli.progress import complain
from treadle.cli.signals import StopSignals
from treadle.cli.wiring.loop import run_loop
from treadle.config.environment import DEFAULT_ORIGINATOR_VARIABLE
from treadle.config.errors import ConfigError
from treadle.config.store import ConfigStore
from treadle.kit.tasks import TaskScope

if TYPE_CHECKING:
    from treadle.cli.exec_report import LastMessage
    from treadle.cli.exec_turn import Ending

API_KEY_VARIABLE = "CODEX_API_KEY"
"""Holds a key for this command alone; the TypeScript package of Codex passes its own that way."""

STOP_CODES = {"deadline": 4, "idle": 5, "signal": STOPPED}

__all__ = ["build_parser", "run"]

T = TypeVar("T")


class _Stopped(Exception):
    """A signal came before the turn began."""


def run(arguments: list[str]) -> int:
    """Run the turn; the exit codes are those that `--help` lists."""
    options = parse(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    cwd = options.cd.absolute()
    if not cwd.is_dir():
        complain(f"{cwd} is no folder; name the one to work in with --cd")
        return MISUSED
    config = open_config(options)
    if config is None:
        return MISUSED
    config.use_key(config.environment.get(API_KEY_VARIABLE))
    try:
        check_source(options.prompt)
        start = {"outputSchema": read_schema(options.output_schema), "input": images(options)}
        overrides = _overrides(config, options, cwd)
        if not _is_trusted(config, options, cwd):
            complain(
                "Not inside a trusted directory and --skip-git-repo-check was not specified:"
                f" {cwd} is neither in a Git repository nor trusted in the configuration."
            )
            return FAILED
        return run_loop(_exec(options, config, overrides, start))
    except (Misused, ConfigError) as error:
        complain(str(error))
        return MISUSED
    except BrokenPipeError:
        # Whoever read the answer has left; nothing more can be said on standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return STOPPED


def _is_trusted(config: ConfigStore, options: argparse.Namespace, cwd: Path) -> bool:
    if options.skip_git_repo_check or options.bypass:
        return True
    if any((folder / ".git").exists() for folder in (cwd, *cwd.parents)):
        return True
    return config.trust(str(cwd)) == "trusted"


def _overrides(config: ConfigStore, options: argparse.Namespace, cwd: Path) -> dict[str, Any]:
    """What the flags set for the thread; the folders of `--add-dir` join the configured ones."""
    overrides = thread_overrides(options, cwd)
    if options.add_dir:
        roots = list(config.snapshot(str(cwd)).safety.workspace.writable_roots)
        roots += [str(each.absolute()) for each in options.add_dir]
        overrides["config"] = {"sandbox_workspace_write.writable_roots": roots}
    return overrides


async def _exec(
    options: argparse.Namespace, config: ConfigStore, overrides: dict[str, Any], start: Any
) -> int:
    """Carry out the turn that `start` describes, its prompt aside; the exit code."""
    from treadle.cli.exec_report import LastMessage
    from treadle.cli.exec_turn import NoThread
    from treadle.kit.clock import SystemClock
    from treadle.wire.protocol.errors import RpcError

    signals = StopSignals()
    file = options.output_last_message
    last = None if file is None else LastMessage(file, SystemClock())
    try:
        async with _connected(options, config) as client:
            ending = await _turn(client, options, (overrides, start), signals, last)
    except (RpcError, NoThread) as error:
        complain(str(getattr(error, "message", error)))
        return FAILED
    except TimeoutError:
        complain(f"{_stop_reason('deadline', options)}; no turn had begun")
        return STOP_CODES["deadline"]
    except _Stopped:
        return STOPPED
    kept = last is None or last.ended()
    code = _exit_code(ending.turn, ending.stopped_by)
    return code if kept else code or FAILED


async def _turn(
    client: Any,
    options: argparse.Namespace,
    asked: tuple[dict[str, Any], dict[str, Any]],
    signals: StopSignals,
    last: "LastMessage | None",
) -> "Ending":
    """Open the thread, read the prompt, run the turn and report it."""
    from treadle.cli.exec_report import Events, Words
    from treadle.cli.exec_turn import Limits, Turn

    loop = asyncio.get_running_loop()
    ends_at = None if options.deadline is None else loop.time() + options.deadline
    report = Events() if options.json else Words()
    overrides, start = asked
    opening = _open(client, options, overrides, report)
    thread_id, prompt = await _in_time(opening, signals, ends_at)
    turn = Turn(client, thread_id, report, last)
    scope = TaskScope("signals")
    scope.start(_pass_on(signals, turn), "signals")
    try:
        text: dict[str, Any] = {"type": "text", "text": prompt, "text_elements": []}
        asked_for = {**start, "input": [*start["input"], text]}
        ending = await turn.run(asked_for, Limits(ends_at, options.idle_deadline))
    finally:
        await scope.close()
    report.ended(ending.turn, _stop_reason(ending.stopped_by, options))
    return ending


@contextlib.asynccontextmanager
async def _connected(options: argparse.Namespace, config: ConfigStore) -> AsyncGenerator[Any]:
    from treadle.cli.headless import connected
    from treadle.cli.wiring.engine import build_engine
    from treadle.config.load import HomeMissing

    try:
        engine = build_engine(
            config, source="exec", record_to=options.record_cassette, unattended=True
        )
    except HomeMissing as error:
        raise Misused(str(error)) from error
    name = config.environment.get(DEFAULT_ORIGINATOR_VARIABLE) or "treadle_exec"
    async with connected(engine, name) as client:
        yield client


async def _open(
    client: Any, options: argparse.Namespace, overrides: dict[str, Any], report: Any
) -> tuple[str, str]:
    """Open the thread, say so, and only then read the prompt; id and prompt."""
    from treadle.cli.exec_turn import Opening, open_thread

    session = await open_thread(
        client,
        Opening(
            action=options.action,
            thread=options.thread,
            overrides=overrides,
            ephemeral=options.ephemeral,
            source=options.thread_source,
            any_folder=options.all,
        ),
    )
    report.thread(session)
    return str(session["thread"]["id"]), await read_prompt(options.prompt)


async def _in_time(work: Coroutine[Any, Any, T], signals: StopSignals, ends_at: float | None) -> T:
    """Do `work`; raises TimeoutError at `ends_at`, and _Stopped when a signal comes first."""
    scope = TaskScope("exec", on_failure=lambda _name, _error: None)
    working = scope.start(work, "open")
    stopped = scope.start(signals.first.wait(), "signal")
    try:
        async with asyncio.timeout_at(ends_at):
            await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise _Stopped
    finally:
        await scope.close()


async def _pass_on(signals: StopSignals, turn: Any) -> None:
    await signals.first.wait()
    turn.stop("signal")
    await signals.second.wait()
    turn.quit()


def _stop_reason(cause: str | None, options: argparse.Namespace) -> str | None:
    match cause:
        case "deadline":
            return f"the deadline of {options.deadline:g} s has passed"
        case "idle":
            return f"the agent was silent for {options.idle_deadline:g} s"
        case _:
            return None


def _exit_code(turn: dict[str, Any], stopped_by: str | None) -> int:
    if turn["status"] == "completed":
        return 0
    if stopped_by is not None:
        return STOP_CODES[stopped_by]
    if turn["status"] == "interrupted":
        return STOPPED
    from treadle.runner.classify import Origin, classify

    failure = classify(Origin.TERMINAL, turn.get("error"))
    return CLASS_CODES[failure.facts.failure_class]

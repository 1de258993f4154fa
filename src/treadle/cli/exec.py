"""`treadle exec`: runs one turn without a person and prints the answer."""

import argparse
import asyncio
import logging
import sys
from pathlib import Path
from typing import Any

from treadle.cli.config_flags import add_config_flags, open_config
from treadle.cli.progress import complain
from treadle.cli.signals import StopSignals
from treadle.cli.wiring.loop import run_loop
from treadle.config.store import ConfigStore
from treadle.kit.tasks import TaskScope

TURN_SECONDS = 24 * 3600.0
"""Longest silence between two events of a turn; the model's own idle deadline is far shorter."""

INTERRUPTED = 130
EXIT_CODES = {"completed": 0, "failed": 1, "interrupted": INTERRUPTED}


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(prog="treadle exec", description=__doc__)
    parser.add_argument("prompt", help="what to do; - reads it from standard input")
    parser.add_argument("-C", "--cd", type=Path, default=Path(), metavar="DIR", help="work there")
    parser.add_argument("-m", "--model")
    parser.add_argument(
        "-s", "--sandbox", choices=("read-only", "workspace-write", "danger-full-access")
    )
    parser.add_argument("--thread", metavar="ID", help="go on with a stored thread")
    parser.add_argument("--ephemeral", action="store_true", help="store nothing")
    parser.add_argument(
        "-o", "--output-last-message", type=Path, metavar="FILE", help="write the answer there too"
    )
    parser.add_argument(
        "--record-cassette", type=Path, metavar="FILE", help="record the exchanges with the model"
    )
    add_config_flags(parser)
    return parser


def run(arguments: list[str]) -> int:
    """Run the turn; exit code 0 completed, 1 failed, 2 misused, 130 interrupted."""
    options = build_parser().parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    if not options.cd.is_dir():
        complain(f"{options.cd.absolute()} is no folder; name the one to work in with --cd")
        return 2
    config = open_config(options)
    if config is None:
        return 2
    prompt = sys.stdin.read() if options.prompt == "-" else options.prompt
    return run_loop(_exec(options, config, prompt))


async def _exec(options: argparse.Namespace, config: ConfigStore, prompt: str) -> int:
    from treadle.cli.headless import connected
    from treadle.cli.wiring.engine import build_engine
    from treadle.config.load import HomeMissing
    from treadle.wire.protocol.errors import RpcError

    signals = StopSignals()
    try:
        engine = build_engine(config, source="exec", record_to=options.record_cassette)
    except HomeMissing as error:
        complain(str(error))
        return 2
    async with connected(engine, "treadle_exec") as client:
        try:
            turn = await _Turn(client).run(options, prompt, signals)
        except RpcError as error:
            complain(error.message)
            return 1
    return INTERRUPTED if turn is None else _show(turn, options.output_last_message)


def _show(turn: dict[str, Any], file: Path | None) -> int:
    """Print the answer, or why there is none; the exit code."""
    answer = _answer(turn)
    if turn["status"] == "failed":
        failure: dict[str, Any] = turn.get("error") or {}
        complain(str(failure.get("message", "the turn failed")))
    elif answer is not None:
        print(answer, flush=True)
        if file is not None and not _save(answer, file):
            return 1
    return EXIT_CODES[turn["status"]]


def _save(answer: str, file: Path) -> bool:
    try:
        file.write_text(answer, encoding="utf-8")
    except OSError as error:
        complain(f"cannot write the answer to {file}: {error.strerror}; it is printed above")
        return False
    return True


def _answer(turn: dict[str, Any]) -> str | None:
    for item in reversed(turn["items"]):
        if item["type"] == "agentMessage":
            return item["text"]
    return None


class _Turn:
    """One turn over a client."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def run(
        self, options: argparse.Namespace, prompt: str, signals: StopSignals
    ) -> dict[str, Any] | None:
        """Start it and wait for its end: a first signal interrupts it, None after a second one."""
        client = self._client
        thread_id = await self._open_thread(options)
        text: dict[str, Any] = {"type": "text", "text": prompt, "text_elements": []}
        started = await client.request("turn/start", {"threadId": thread_id, "input": [text]})
        print(f"thread {thread_id}", file=sys.stderr)
        scope = TaskScope("exec")
        scope.start(self._interrupt(signals, thread_id, started["turn"]["id"]), "interrupt")
        ending = scope.start(self._wait_end(thread_id), "events")
        quitting = scope.start(signals.second.wait(), "quit")
        try:
            await asyncio.wait({ending, quitting}, return_when=asyncio.FIRST_COMPLETED)
            return ending.result() if ending.done() else None
        finally:
            await scope.close()

    async def _wait_end(self, thread_id: str) -> dict[str, Any]:
        while True:
            event = await self._client.next_event(TURN_SECONDS)
            if event.method == "turn/completed" and event.params["threadId"] == thread_id:
                return event.params["turn"]
            _tell(event.method, event.params)

    async def _interrupt(self, signals: StopSignals, thread_id: str, turn_id: str) -> None:
        await signals.first.wait()
        asked = {"threadId": thread_id, "turnId": turn_id}
        await self._client.request("turn/interrupt", asked)

    async def _open_thread(self, options: argparse.Namespace) -> str:
        overrides: dict[str, Any] = {"cwd": str(options.cd.absolute())}
        if options.model:
            overrides["model"] = options.model
        if options.sandbox:
            overrides["sandbox"] = options.sandbox
        if options.thread:
            asked = {"threadId": options.thread, "excludeTurns": True, **overrides}
            result = await self._client.request("thread/resume", asked)
        else:
            asked = {"ephemeral": options.ephemeral, **overrides}
            result = await self._client.request("thread/start", asked)
        return str(result["thread"]["id"])


def _tell(method: str, params: Any) -> None:
    """Progress on standard error; the answer alone goes to standard output."""
    if method == "item/started" and params["item"]["type"] == "commandExecution":
        print(f"$ {params['item']['command']}", file=sys.stderr)
    elif method == "item/completed" and params["item"]["type"] == "fileChange":
        paths = ", ".join(change["path"] for change in params["item"]["changes"])
        print(f"edited {paths}", file=sys.stderr)
    elif method == "error" and params.get("willRetry"):
        complain(f"{params['error']['message']} (trying again)")

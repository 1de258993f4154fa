"""The official Python package of Codex drives our app-server as its own.

The package starts the executable that it is told, so it is told ours; the model is the scripted
provider, on a loop of its own because the package's plain client blocks. What the package makes of
our messages is typed: a message that does not fit its models fails here.
"""

# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false
# pyright: reportOptionalMemberAccess=false
# The package is not installed where types are checked.

import asyncio
import threading
from collections.abc import Callable

import pytest
from openai_codex import AsyncCodex, Codex, CodexConfig, InvalidRequestError, Sandbox
from openai_codex.models import UnknownNotification
from peer_bench import TREADLE, WAIT_SECONDS, Bench

from support.fake_provider import Step, calls, created, function_call, reply


def config(bench: Bench) -> CodexConfig:
    return CodexConfig(codex_bin=str(TREADLE), cwd=str(bench.work), env=dict(bench.environment))


def bounded(work: Callable[[], None]) -> None:
    """Run blocking work; a hang becomes a failure instead of a test run that never ends."""
    errors: list[BaseException] = []

    def body() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again by the test
            errors.append(error)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join(WAIT_SECONDS)
    assert not thread.is_alive(), "the client hangs"
    if errors:
        raise errors[0]


def test_the_handshake_names_us_and_a_protocol_that_the_client_accepts(bench: Bench) -> None:
    def work() -> None:
        with Codex(config(bench)) as codex:
            assert codex.metadata.serverInfo is not None
            assert codex.metadata.userAgent.split("/")[1][0].isdigit()

    bounded(work)


def test_a_turn_runs_to_its_answer_with_its_usage(bench: Bench) -> None:
    bench.provider.script(reply("Hello there", input_tokens=11, output_tokens=7))

    def work() -> None:
        with Codex(config(bench)) as codex:
            result = codex.thread_start(sandbox=Sandbox.read_only).run("hi")
        assert (result.final_response, result.status.value) == ("Hello there", "completed")
        assert result.usage is not None
        last = result.usage.last
        assert (last.input_tokens, last.output_tokens) == (11, 7)

    bounded(work)


def test_a_turn_streams_in_order_and_every_notification_fits_the_clients_types(
    bench: Bench,
) -> None:
    call = function_call("exec_command", {"cmd": "echo warp", "login": False})
    bench.provider.script(calls(call), reply("streamed words"))

    def work() -> None:
        with Codex(config(bench)) as codex:
            events = list(codex.thread_start().turn("stream").stream())
        names = [event.method for event in events]
        assert names[-1] == "turn/completed"
        assert names.index("turn/started") < names.index("item/started")
        deltas = [e.payload.delta for e in events if e.method == "item/agentMessage/delta"]
        assert "".join(deltas) == "streamed words"
        kinds = [
            event.payload.item.root.type for event in events if event.method == "item/completed"
        ]
        assert kinds == ["userMessage", "commandExecution", "agentMessage"]
        unknown = [e.method for e in events if isinstance(e.payload, UnknownNotification)]
        assert unknown == []

    bounded(work)


def test_another_process_resumes_the_thread_and_the_model_remembers(bench: Bench) -> None:
    bench.provider.script(reply("I shall."), reply("Heddle."))

    def work() -> None:
        with Codex(config(bench)) as first:
            thread = first.thread_start()
            thread.run("remember the word heddle")
        with Codex(config(bench)) as second:
            again = second.thread_resume(thread.id)
            assert again.id == thread.id
            assert again.run("which word?").final_response == "Heddle."

    bounded(work)
    assert "remember the word heddle" in bench.last_input()
    assert "I shall." in bench.last_input()


def test_an_interrupted_turn_ends_as_interrupted(bench: Bench) -> None:
    bench.provider.script(Step([created()], hang=True))

    def work() -> None:
        with Codex(config(bench)) as codex:
            turn = codex.thread_start().turn("think long")
            bench.wait(bench.provider.wait_requests(1))
            turn.interrupt()
            assert turn.run().status.value == "interrupted"

    bounded(work)


def test_a_thread_that_is_not_there_is_an_invalid_request(bench: Bench) -> None:
    def work() -> None:
        with Codex(config(bench)) as codex, pytest.raises(InvalidRequestError) as caught:
            codex.thread_resume("00000000-0000-4000-8000-000000000000")
        assert "no rollout found" in caught.value.message

    bounded(work)


def test_threads_are_listed_and_read(bench: Bench) -> None:
    def work() -> None:
        with Codex(config(bench)) as codex:
            thread = codex.thread_start()
            thread.run("the first words")
            shown = thread.read(include_turns=True).thread
            assert (shown.preview, shown.status.root.type) == ("the first words", "idle")
            items = [item.root.type for turn in shown.turns for item in turn.items]
            assert items == ["userMessage", "agentMessage"]
            assert thread.id in [each.id for each in codex.thread_list().data]

    bounded(work)


def test_the_asynchronous_client_runs_turns_side_by_side(bench: Bench) -> None:
    async def main() -> list[str]:
        async with AsyncCodex(config(bench)) as codex:
            threads = [await codex.thread_start() for _ in range(3)]
            turns = (thread.run(f"number {n}") for n, thread in enumerate(threads))
            return [result.status.value for result in await asyncio.gather(*turns)]

    def work() -> None:
        statuses = asyncio.run(asyncio.wait_for(main(), WAIT_SECONDS))
        assert statuses == ["completed"] * 3

    bounded(work)

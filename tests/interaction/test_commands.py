"""`command/exec*` over the protocol: a client's own commands."""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from treadle import InProcessOptions, InProcessServer, RpcError, ServerNotification

FREE = {"sandboxPolicy": {"type": "dangerFullAccess"}}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[InProcessServer]:
    home = tmp_path / "home"
    home.mkdir()
    options = InProcessOptions(home=str(home), experimental=True)
    async with InProcessServer(options) as server:
        yield server


async def execute(server: InProcessServer, script: str, **params: Any) -> Any:
    asked = {"command": ["sh", "-c", script], **FREE, **params}
    async with asyncio.timeout(10):
        return await server.request("command/exec", asked)


async def refused(server: InProcessServer, method: str, **params: Any) -> tuple[int, str]:
    with pytest.raises(RpcError) as error:
        await server.request(method, params)
    return error.value.code, error.value.message


async def output_until(server: InProcessServer, text: bytes) -> bytes:
    seen = b""
    async with asyncio.timeout(10):
        while text not in seen:
            event = await server.next_event()
            assert isinstance(event, ServerNotification)
            if event.method == "command/exec/outputDelta":
                seen += base64.b64decode(event.params["deltaBase64"])
    return seen


async def test_both_streams_and_the_exit_code_are_told_at_the_end(server: InProcessServer) -> None:
    done = await execute(server, "printf out; printf err >&2; exit 3")
    assert done == {"exitCode": 3, "stdout": "out", "stderr": "err"}


async def test_output_is_capped_time_is_limited_and_signals_count(server: InProcessServer) -> None:
    assert (await execute(server, "printf abcdef", outputBytesCap=4))["stdout"] == "abcd"
    late = await execute(server, "echo early; sleep 30", timeoutMs=200)
    assert (late["exitCode"], late["stdout"]) == (124, "early\n")
    assert (await execute(server, "kill -15 $$"))["exitCode"] == 143


async def test_the_environment_is_added_to_and_taken_from(server: InProcessServer) -> None:
    script = 'echo "$NEW|${HOME-unset}"'
    done = await execute(server, script, env={"NEW": "added", "HOME": None})
    assert done["stdout"] == "added|unset\n"


async def test_input_is_streamed_and_closed(server: InProcessServer) -> None:
    script = "echo ready; while read l; do echo got:$l; done; echo eof"
    asked = {"processId": "p", "streamStdin": True, "streamStdoutStderr": True}
    async with asyncio.TaskGroup() as group:
        running = group.create_task(execute(server, script, **asked))
        await output_until(server, b"ready")
        one = base64.b64encode(b"one\n").decode()
        write = {"processId": "p", "deltaBase64": one, "closeStdin": True}
        assert await server.request("command/exec/write", write) == {}
        assert b"got:one\neof\n" in await output_until(server, b"eof")
    assert running.result() == {"exitCode": 0, "stdout": "", "stderr": ""}


async def test_a_terminal_has_the_size_that_was_asked_for(server: InProcessServer) -> None:
    asked = {"processId": "p", "tty": True, "size": {"rows": 10, "cols": 20}}
    async with asyncio.TaskGroup() as group:
        running = group.create_task(execute(server, "stty size; read x; stty size", **asked))
        await output_until(server, b"10 20")
        size = {"processId": "p", "size": {"rows": 33, "cols": 44}}
        assert await server.request("command/exec/resize", size) == {}
        enter = {"processId": "p", "deltaBase64": base64.b64encode(b"\n").decode()}
        await server.request("command/exec/write", enter)
        await output_until(server, b"33 44")
    assert running.result()["exitCode"] == 0


async def test_a_terminated_command_frees_its_id_and_duplicates_are_refused(
    server: InProcessServer,
) -> None:
    asked = {"processId": "p", "streamStdoutStderr": True}
    async with asyncio.TaskGroup() as group:
        running = group.create_task(execute(server, "echo up; sleep 60", **asked))
        await output_until(server, b"up")
        again = await refused(server, "command/exec", command=["true"], processId="p")
        assert again == (-32600, 'duplicate active command/exec process id: "p"')
        assert await server.request("command/exec/terminate", {"processId": "p"}) == {}
    assert running.result()["exitCode"] == 137
    code, message = await refused(server, "command/exec/terminate", processId="p")
    assert (code, message) == (-32600, 'no active command/exec for process id "p"')


async def test_a_missing_program_and_senseless_parameters_are_refused(
    server: InProcessServer,
) -> None:
    missing = await refused(server, "command/exec", command=["no-such-program-here"], **FREE)
    reason = "failed to spawn command: No such file or directory (os error 2)"
    assert missing == (-32603, reason)
    empty = await refused(server, "command/exec", command=[])
    assert empty == (-32600, "command must not be empty")
    streaming = await refused(server, "command/exec", command=["true"], tty=True)
    assert "requires a client-supplied processId" in streaming[1]


async def process_ended(server: InProcessServer, handle: str) -> Any:
    async with asyncio.timeout(10):
        while True:
            event = await server.next_event()
            assert isinstance(event, ServerNotification)
            if event.method == "process/exited" and event.params["processHandle"] == handle:
                return event.params


async def test_a_process_tells_its_end_after_the_answer_to_its_start(
    server: InProcessServer, tmp_path: Path
) -> None:
    script = "read l; printf got:$l; exit 2"
    asked = {"command": ["sh", "-c", script], "cwd": str(tmp_path), "processHandle": "h"}
    assert await server.request("process/spawn", {**asked, "streamStdin": True}) == {}
    again = await refused(server, "process/spawn", **asked)
    assert again == (-32600, 'duplicate active process handle: "h"')
    line = base64.b64encode(b"one\n").decode()
    await server.request("process/writeStdin", {"processHandle": "h", "deltaBase64": line})
    ended = await process_ended(server, "h")
    assert (ended["exitCode"], ended["stdout"], ended["stdoutCapReached"]) == (2, "got:one", False)


async def test_a_process_is_killed_and_pipes_have_no_size(
    server: InProcessServer, tmp_path: Path
) -> None:
    asked = {"command": ["sleep", "60"], "cwd": str(tmp_path), "processHandle": "h"}
    await server.request("process/spawn", asked)
    size = {"rows": 5, "cols": 5}
    pipe = await refused(server, "process/resizePty", processHandle="h", size=size)
    assert "not attached to a PTY" in pipe[1]
    assert await server.request("process/kill", {"processHandle": "h"}) == {}
    assert (await process_ended(server, "h"))["exitCode"] == 137

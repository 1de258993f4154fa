import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.toolkit import ENV, call, make_context
from treadle.domain.policy import WorkspaceWrite
from treadle.engine.sandbox.select import ProbedSandbox
from treadle.engine.tools.exec import ExecCommand, WriteStdin
from treadle.engine.tools.exec_sessions import ExecSessions


@pytest.fixture
async def sessions():
    sessions = ExecSessions()
    yield sessions
    await sessions.close()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except OSError:
        return False


async def gone(pid: int) -> bool:
    for _ in range(400):
        if not alive(pid):
            return True
        await asyncio.sleep(0.01)
    return False


async def pids(*files: Path) -> list[int]:
    async with asyncio.timeout(10):
        while not all(file.exists() and file.read_text().strip() for file in files):
            await asyncio.sleep(0.01)
    return [int(file.read_text()) for file in files]


async def run(sessions, context, cmd, **more):
    wanted = {"cmd": cmd, "login": False, **more}
    return await ExecCommand(sessions).run(call("exec_command", wanted), context)


async def test_finished_command_tells_model_and_item_the_same(sessions, tmp_path):
    context = make_context(str(tmp_path))
    output = await run(sessions, context, "echo out; echo err >&2; exit 3")
    assert re.fullmatch(
        r"Chunk ID: [0-9a-f]{6}\nWall time: \d+\.\d{4} seconds\nProcess exited with code 3\n"
        r"Original token count: 2\nOutput:\nout\nerr\n",
        output.text,
    )
    (started,) = context.reporter.items("started")
    (done,) = context.reporter.items("completed")
    assert (started.status, started.exit_code, started.aggregated_output) == (
        "inProgress",
        None,
        None,
    )
    assert started.command == "/bin/bash -c 'echo out; echo err >&2; exit 3'"
    assert started.source == "unifiedExecStartup"
    assert started.process_id
    assert (done.status, done.exit_code, done.aggregated_output) == ("failed", 3, "out\nerr\n")
    assert context.reporter.streamed == "out\nerr\n"


async def test_command_that_outlives_the_wait_becomes_a_session(sessions, tmp_path):
    context = make_context(str(tmp_path))
    output = await run(
        sessions, context, "echo early; read x < go; echo late; exit 5", yield_time_ms=250
    )
    # `go` is missing, so read fails at once; the next command really waits.
    assert "Process exited with code 5" in output.text
    os.mkfifo(tmp_path / "go")
    output = await run(sessions, context, "echo early; read x < go; exit 5", yield_time_ms=250)
    number = int(re.search(r"Process running with session ID (\d+)", output.text)[1])
    assert output.text.endswith("Output:\nearly\n")
    assert [session.number for session in sessions.background("thread-1")] == [number]
    with open(tmp_path / "go", "w") as fifo:
        fifo.write("x\n")
    done = await context.reporter.until("completed", 2)
    assert (done[1].status, done[1].exit_code) == ("failed", 5)
    assert sessions.background("thread-1") == []


async def test_terminal_session_is_talked_to(sessions, tmp_path):
    context = make_context(str(tmp_path))
    output = await run(sessions, context, "read a; echo got $a", tty=True, yield_time_ms=250)
    number = int(re.search(r"session ID (\d+)", output.text)[1])
    write = WriteStdin(sessions)
    arguments = {"session_id": number, "chars": "foo\n", "yield_time_ms": 5000}
    output = await write.run(call("write_stdin", arguments, "w1"), context)
    assert "got foo" in output.text
    assert "Process exited with code 0" in output.text
    assert context.reporter.items("typed") == [("c1", str(number), "foo\n")]
    output = await write.run(call("write_stdin", arguments, "w2"), context)
    assert output.text == f"write_stdin failed: Unknown process id {number}"
    assert len(context.reporter.items("typed")) == 1


async def test_control_c_ends_a_terminal_command(sessions, tmp_path):
    context = make_context(str(tmp_path))
    output = await run(sessions, context, "sleep 30", tty=True, yield_time_ms=250)
    number = int(re.search(r"session ID (\d+)", output.text)[1])
    arguments = {"session_id": number, "chars": "\x03", "yield_time_ms": 5000}
    output = await WriteStdin(sessions).run(call("write_stdin", arguments), context)
    assert "Process exited with code 130" in output.text


async def test_typing_without_a_terminal_says_how_to_get_one(sessions, tmp_path):
    context = make_context(str(tmp_path))
    output = await run(sessions, context, "sleep 30", yield_time_ms=250)
    number = int(re.search(r"session ID (\d+)", output.text)[1])
    arguments = {"session_id": number, "chars": "x"}
    output = await WriteStdin(sessions).run(call("write_stdin", arguments), context)
    assert "tty=true" in output.text


async def test_another_threads_session_is_unknown(sessions, tmp_path):
    context = make_context(str(tmp_path))
    output = await run(sessions, context, "sleep 30", tty=True, yield_time_ms=250)
    number = int(re.search(r"session ID (\d+)", output.text)[1])
    other = make_context(str(tmp_path), thread_id="thread-2")
    arguments = {"session_id": number, "chars": "x"}
    output = await WriteStdin(sessions).run(call("write_stdin", arguments), other)
    assert "Unknown process id" in output.text


async def test_bytes_that_are_not_utf8_are_replaced(sessions, tmp_path):
    context = make_context(str(tmp_path))
    output = await run(sessions, context, r"printf 'a\xff\xfeb\xc3\xa9\n'")
    assert output.text.endswith("a\ufffd\ufffdbé\n")
    assert context.reporter.items("completed")[0].aggregated_output == "a\ufffd\ufffdbé\n"


async def test_huge_output_keeps_both_ends_for_model_and_item(sessions, tmp_path):
    context = make_context(str(tmp_path))
    script = "echo FIRST; head -c 3000000 /dev/zero | tr '\\0' x | fold -w 99; echo; echo LAST"
    output = await run(sessions, context, script, yield_time_ms=30_000)
    assert "Warning: truncated output (original token count: 7575" in output.text
    assert "FIRST" in output.text
    assert output.text.endswith("LAST\n")
    assert len(output.text) < 41_000
    whole = context.reporter.items("completed")[0].aggregated_output
    assert abs(len(whole) - (1 << 20)) < 100
    assert whole.endswith("LAST\n")


async def test_missing_folder_is_a_failed_item_and_an_answer(sessions, tmp_path):
    context = make_context(str(tmp_path))
    output = await run(sessions, context, "pwd", workdir="nowhere")
    reason = "Failed to create unified exec process: No such file or directory (os error 2)"
    assert output.text == (
        f'exec_command failed: CreateProcess {{ message: "Rejected(\\"{reason}\\")" }}'
    )
    (done,) = context.reporter.items("completed")
    assert (done.status, done.exit_code, done.aggregated_output) == ("failed", -1, reason)


async def test_bad_arguments_are_told(sessions, tmp_path):
    context = make_context(str(tmp_path))
    output = await ExecCommand(sessions).run(call("exec_command", {"cmd": 3}), context)
    assert output.text.startswith("failed to parse function arguments: ")
    assert context.reporter.log == []


async def test_interrupt_ends_the_whole_tree_and_completes_the_item(sessions, tmp_path):
    context = make_context(str(tmp_path))
    script = (
        "(trap '' TERM; sleep 61 & echo $! > child; wait) & "
        "setsid bash -c 'trap \"\" TERM; echo $$ > far; sleep 61; sleep 61' & "
        "echo $$ > near; wait"
    )
    task = asyncio.get_running_loop().create_task(run(sessions, context, script))
    files = await pids(*(tmp_path / name for name in ("child", "far", "near")))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(5):
            await task
    (done,) = context.reporter.items("completed")
    assert (done.status, done.exit_code) == ("failed", -1)
    assert [await gone(pid) for pid in files] == [True, True, True]


async def test_interrupt_of_a_poll_leaves_the_session_running(sessions, tmp_path):
    context = make_context(str(tmp_path))
    output = await run(sessions, context, "echo $$ > pid; sleep 61", yield_time_ms=250)
    number = int(re.search(r"session ID (\d+)", output.text)[1])
    (pid,) = await pids(tmp_path / "pid")
    poll = WriteStdin(sessions).run(call("write_stdin", {"session_id": number}), context)
    task = asyncio.get_running_loop().create_task(poll)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert alive(pid)
    await sessions.end_thread("thread-1")
    assert await gone(pid)
    (done,) = context.reporter.items("completed")
    assert (done.status, done.exit_code) == ("failed", -1)


async def test_background_child_that_holds_the_output_does_not_delay_the_answer(sessions, tmp_path):
    context = make_context(str(tmp_path))
    async with asyncio.timeout(5):
        output = await run(sessions, context, "sleep 61 & echo $! > pid; echo done")
    assert output.text.endswith("done\n")
    (pid,) = await pids(tmp_path / "pid")
    os.kill(pid, signal.SIGKILL)


async def test_too_many_sessions_end_the_oldest(tmp_path):
    sessions = ExecSessions(limit=2)
    context = make_context(str(tmp_path))
    for _ in range(3):
        await run(sessions, context, "sleep 61", yield_time_ms=250)
    assert len(sessions.background("thread-1")) == 2
    assert len(context.reporter.items("completed")) == 1
    await sessions.close()
    assert len(context.reporter.items("completed")) == 3


async def test_interrupt_ends_a_confined_tree(sessions, tmp_path):
    sandbox = ProbedSandbox(os.environ.get("PATH", ""))
    if not sandbox.report.enforced or sandbox.report.backend == "landlock":
        pytest.skip(f"no sandbox here: {sandbox.report.why_not}")
    context = make_context(str(tmp_path), WorkspaceWrite(), sandbox=sandbox)
    script = "setsid bash -c 'trap \"\" TERM; sleep 62; sleep 62' & echo up; touch up; wait"
    task = asyncio.get_running_loop().create_task(run(sessions, context, script))
    await context.reporter.until("output")
    async with asyncio.timeout(10):
        while count_of("sleep 62") == 0 or not (tmp_path / "up").exists():
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert count_of("sleep 62") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["up"]


def count_of(command: str) -> int:
    """How many processes run exactly this command, wherever they hide."""
    wanted = command.encode().replace(b" ", b"\0") + b"\0"
    count = 0
    for entry in Path("/proc").iterdir():
        try:
            count += entry.name.isdigit() and (entry / "cmdline").read_bytes() == wanted
        except OSError:
            continue
    return count


async def test_a_missing_sandbox_runs_nothing_and_says_what_to_do(sessions, tmp_path):
    context = make_context(str(tmp_path), WorkspaceWrite())
    output = await run(sessions, context, "touch made")
    assert "there is none" in output.text
    assert "treadle doctor" in output.text
    assert list(tmp_path.iterdir()) == []
    assert [item.status for item in context.reporter.items("completed")] == ["failed"]


OWNER = """
import asyncio, sys
from treadle.kit.commands import start_command
async def main():
    script = "setsid sleep 61 & echo $! > far; setsid env -i sh deep & echo $$ > near; sleep 61"
    env = {"PATH": "/usr/bin:/bin"}
    start_command(["bash", "-c", script], cwd=sys.argv[1], env=env, on_output=lambda data: None)
    await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_killing_us_leaves_no_command_behind(tmp_path):
    (tmp_path / "deep").write_text("trap '' TERM; echo $$ > deepest; sleep 61; sleep 61")
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)],
        env={**ENV, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as owner:
        started = await pids(tmp_path / "far", tmp_path / "near", tmp_path / "deepest")
        assert all(alive(pid) for pid in started)
        owner.kill()
    assert [await gone(pid) for pid in started] == [True, True, True]

"""What is left when a server is killed, and what a server does when its client is gone."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from support.app_lab import AppLab, ProcessChannel, turn
from support.fake_provider import (
    Step,
    calls,
    completed,
    created,
    custom_tool_call,
    function_call,
    message,
    reply,
)
from treadle.wire.client.client import Client, ConnectionLost
from treadle.wire.protocol.errors import RpcError
from treadle.wire.protocol.jsonrpc import encode_error, encode_result
from treadle.wire.transport.memory import memory_channels

HELLO = {"clientInfo": {"name": "lab", "version": "1"}}


async def until_gone(pid: int) -> None:
    """Wait for the end of a process that need not be a child of ours."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(process, gone.set)
    try:
        async with asyncio.timeout(10):
            await gone.wait()
    finally:
        loop.remove_reader(process)
        os.close(process)


# ------------------------------------------------------------------ the server dies


async def test_a_killed_servers_turn_is_interrupted_and_its_thread_goes_on(tmp_path: Path):
    async with AppLab(tmp_path, "stdio") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        await lab.run_turn(client, thread_id, "first task")
        lab.provider.script(Step([created(), *message("half an answer")[:2]], hang=True))
        begun = await client.call("turn/start", turn(thread_id, "second task"))
        await client.until("item/agentMessage/delta")
        lab.kill()
        with pytest.raises(ConnectionLost):
            await client.until("turn/completed")

        again = await lab.connect()
        session = await again.request("thread/resume", {"threadId": thread_id})
        turns = session["thread"]["turns"]
        assert [t["status"] for t in turns] == ["completed", "interrupted"]
        assert turns[1]["id"] == begun.turn.id
        assert turns[1]["items"][0]["content"][0]["text"] == "second task"
        assert session["thread"]["status"] == {"type": "idle"}
        done = await lab.run_turn(again, thread_id, "third task")
        assert done["status"] == "completed"
        sent = json.dumps(lab.provider.requests[-1].body["input"])
        assert sent.index("first task") < sent.index("second task") < sent.index("third task")


async def test_a_server_killed_during_a_command_leaves_a_history_that_works(tmp_path: Path):
    async with AppLab(tmp_path, "stdio") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(
            calls(function_call("exec_command", {"cmd": "echo $$ > pid; echo begun; sleep 300"}))
        )
        await client.request("turn/start", turn(thread_id))
        await client.until("item/commandExecution/outputDelta")
        lab.kill()
        await until_gone(int((lab.work / "pid").read_text()))
        again = await lab.connect()
        await again.request("thread/resume", {"threadId": thread_id})
        assert (await lab.run_turn(again, thread_id, "go on"))["status"] == "completed"
        items = lab.provider.requests[-1].body["input"]
        made = [item["call_id"] for item in items if item["type"] == "function_call"]
        answered = [item["call_id"] for item in items if item["type"] == "function_call_output"]
        assert made == answered


async def test_a_torn_last_line_costs_that_line_alone(tmp_path: Path):
    async with AppLab(tmp_path, "stdio") as lab:
        client = await lab.connect()
        session = await client.request("thread/start", {"cwd": str(lab.work)})
        thread_id, path = session["thread"]["id"], Path(session["thread"]["path"])
        await lab.run_turn(client, thread_id, "first task")
        lab.kill()
        with pytest.raises(ConnectionLost):
            await client.until("never")
        with path.open("ab") as file:
            file.write(b'{"timestamp":"2026-11-21T00:00:00.000Z","type":"event_m')
        again = await lab.connect()
        resumed = await again.request("thread/resume", {"threadId": thread_id})
        assert [t["status"] for t in resumed["thread"]["turns"]] == ["completed"]
        await lab.run_turn(again, thread_id, "second task")
        stored = await again.request("thread/read", {"threadId": thread_id, "includeTurns": True})
        assert [t["status"] for t in stored["thread"]["turns"]] == ["completed"] * 2


# ------------------------------------------------------------------ the client goes


async def test_requests_before_the_end_of_input_are_answered(tmp_path: Path):
    async with AppLab(tmp_path, "stdio") as lab:
        child = await lab.start_process()
        frames = [{"id": 0, "method": "initialize", "params": HELLO}]
        frames += [{"id": n, "method": "thread/list", "params": {}} for n in range(1, 101)]
        child.stdin.write("".join(json.dumps(frame) + "\n" for frame in frames).encode())
        child.stdin.write_eof()
        async with asyncio.timeout(20):
            lines = (await child.stdout.read(-1)).splitlines()
            assert await child.wait() == 0
        messages = [json.loads(line) for line in lines]
        answers = {m["id"]: m for m in messages if "id" in m}
        assert sorted(answers) == list(range(101))
        # The handshake is a request like the others: those behind it wait for nothing.
        assert "result" in answers[0]


async def test_a_last_line_without_its_end_is_still_served(tmp_path: Path):
    async with AppLab(tmp_path, "stdio") as lab:
        child = await lab.start_process()
        child.stdin.write(json.dumps({"id": 0, "method": "initialize", "params": HELLO}).encode())
        child.stdin.write_eof()
        async with asyncio.timeout(20):
            (first, *_) = (await child.stdout.read(-1)).splitlines()
        assert json.loads(first)["id"] == 0


@pytest.mark.parametrize("end", ["eof", "SIGTERM", "SIGINT"])
async def test_a_server_that_is_told_to_stop_ends_its_turn_and_its_commands(
    tmp_path: Path, end: str
):
    async with AppLab(tmp_path, "stdio") as lab:
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        lab.provider.script(
            calls(function_call("exec_command", {"cmd": "echo $$ > pid; echo begun; sleep 300"}))
        )
        await client.request("turn/start", turn(thread_id))
        await client.until("item/commandExecution/outputDelta")
        child = lab.children[-1]
        if end == "eof":
            child.stdin.close()
        else:
            child.signal_group(signal.Signals[end])
        done = await client.until("turn/completed")
        assert done["turn"]["status"] == "interrupted"
        async with asyncio.timeout(15):
            assert await child.wait() == 0
        await until_gone(int((lab.work / "pid").read_text()))
        again = await lab.connect()
        read = await again.request("thread/read", {"threadId": thread_id, "includeTurns": True})
        assert read["thread"]["turns"][0]["status"] == "interrupted"


async def test_a_client_that_leaves_does_not_take_its_turn_along(tmp_path: Path):
    """In a server of many clients a turn belongs to the thread, not to who started it."""
    async with AppLab(tmp_path, "memory") as lab:
        leaving, staying = await lab.connect(), await lab.connect()
        thread_id = await lab.start_thread(leaving)
        go = asyncio.Event()
        lab.provider.script(Step([created(), go, *reply("all the same").events[1:]]))
        await leaving.request("turn/start", turn(thread_id))
        await lab.provider.wait_requests(1)
        await leaving.close()
        go.set()
        await staying.until("thread/closed")
        read = await staying.request("thread/read", {"threadId": thread_id, "includeTurns": True})
        assert read["thread"]["turns"][0]["status"] == "completed"


# ------------------------------------------------------------------ the client itself


async def test_requests_that_wait_fail_when_the_server_dies(tmp_path: Path):
    async with AppLab(tmp_path, "stdio") as lab:
        channel = ProcessChannel(await lab.start_process())
        async with Client(channel) as client:
            await client.initialize("lab", "1")
            lab.children[-1].signal_group(signal.SIGSTOP)
            waiting = [asyncio.create_task(client.request("model/list", {})) for _ in range(3)]
            await asyncio.sleep(0)
            lab.kill()
            for one in waiting:
                with pytest.raises(ConnectionLost):
                    async with asyncio.timeout(10):
                        await one
            with pytest.raises(ConnectionLost):
                await client.request("model/list", {})
            async with asyncio.timeout(5):
                _ = [event async for event in client.events()]  # what was told before, and the end


async def test_an_answer_that_does_not_come_is_a_timeout():
    here, _there = memory_channels()
    async with Client(here) as client:
        with pytest.raises(TimeoutError):
            await client.request("model/list", {}, timeout_seconds=0.01)
        with pytest.raises(TimeoutError):
            await client.next_event(0.01)


async def test_requests_of_the_server_are_heard_and_answered():
    here, there = memory_channels()
    async with Client(here) as client:
        await there.send([b'{"method":"item/tool/call","id":"s-1","params":{"a":1}}'])
        await there.send([b'{"method":"item/tool/call","id":7}'])
        asked = await client.next_event(5)
        assert asked.wants_answer
        assert (asked.method, asked.params) == ("item/tool/call", {"a": 1})
        client.respond(asked, {"ok": True})
        client.fail(await client.next_event(5), "no such tool")
        got: list[bytes] = []
        async with asyncio.timeout(5):
            while len(got) < 2:
                got += await there.receive()
        assert got == [
            encode_result(b'"s-1"', {"ok": True}),
            encode_error(b"7", -32603, "no such tool"),
        ]


async def test_unread_notifications_are_dropped_past_the_bound_and_requests_are_not():
    here, there = memory_channels()
    async with Client(here, event_bound=2) as client:
        told = [b'{"method":"n%d"}' % n for n in range(5)]
        await there.send([*told, b'{"method":"ask","id":1}', b'{"id":1,"result":"late"}'])
        heard = [(await client.next_event(5)).method for _ in range(3)]
        assert heard == ["n0", "n1", "ask"]
        assert client.dropped_events == 3


async def test_the_stream_of_events_ends_with_the_connection():
    here, there = memory_channels()
    async with Client(here) as client:
        await there.send([b'{"method":"one"}', b'{"method":"two"}'])
        await there.close()
        async with asyncio.timeout(5):
            assert [event.method async for event in client.events()] == ["one", "two"]


async def test_errors_of_the_server_are_raised_with_code_and_data():
    here, there = memory_channels()
    async with Client(here) as client:
        asking = asyncio.create_task(client.request("thread/list", {}))
        async with asyncio.timeout(5):
            await there.receive()
        await there.send([encode_error(b"1", -32602, "too much", {"max": 3})])
        with pytest.raises(RpcError) as raised:
            await asking
        error = raised.value
        assert (error.code, error.message, error.data) == (-32602, "too much", {"max": 3})


async def test_a_log_cut_anywhere_in_a_turn_with_tools_goes_on(tmp_path: Path):
    """Whatever a kill left of a turn, the next request is one that a strict provider takes."""
    async with AppLab(tmp_path, "memory") as lab:
        lab.provider.strict = True
        client = await lab.connect()
        thread_id = await lab.start_thread(client)
        patch = "*** Begin Patch\n*** Add File: a\n+one\n*** End Patch"
        lab.provider.script(
            calls(
                function_call("exec_command", {"cmd": "echo one"}, "c1"),
                custom_tool_call("apply_patch", patch, "c2"),
                function_call("nonsense", {}, "c3"),
            ),
            Step([created(), *message("thinking"), function_call("update_plan", "{", "c1"),
                  completed()]),
            reply("done"),
        )  # fmt: skip
        await lab.run_turn(client, thread_id, "go")
        path = (await client.request("thread/read", {"threadId": thread_id}))["thread"]["path"]
        lines = Path(path).read_bytes().splitlines(keepends=True)
        cuts = [b"".join(lines[:at]) for at in range(2, len(lines))]
        cuts += [whole + lines[at + 2][: len(lines[at + 2]) // 2] for at, whole in enumerate(cuts)]
        for number, log in enumerate(cuts):
            other = f"{thread_id[:-6]}{number:06x}"
            named = Path(path.replace(thread_id, other))
            named.write_bytes(log.replace(thread_id.encode(), other.encode()))
            await client.request("thread/resume", {"threadId": other})
            done = await lab.run_turn(client, other, "go on")
            assert (done["status"], done["error"]) == ("completed", None)

"""A thread's life at random: turns, steers, interrupts, a queue, kills; with what must hold.

Drives a real server over its standard streams, with a scripted model behind it. The machine keeps
no model of what a turn does, only the books: what was asked, answered and told. Checks, after each
step and at the end: every request is answered; a turn has one end; what is read agrees with what
was told and, after a kill, with the log; a queued message is said once and in order; a command
runs once.
"""

import asyncio
import contextlib
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from support.app_lab import AppLab, LabClient, turn
from support.fake_provider import (
    Recorded,
    Step,
    calls,
    completed,
    created,
    function_call,
    http_error,
    message,
    reply,
)
from treadle.wire.client.client import ConnectionLost
from treadle.wire.protocol.errors import RpcError

KINDS = ("reply", "tool", "slow tool", "gate", "half", "silence", "cut", "refusal", "overload")

TERMINAL = ("completed", "interrupted", "failed")

WAIT_SECONDS = 30.0


class TurnMachine(RuleBasedStateMachine):
    """One thread on one home, over one server after another."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory(prefix="turn-machine-")
        self.lab = AppLab(Path(self.folder.name), "stdio", retries=1)
        self.count = 0
        self.gates: list[asyncio.Event] = []
        self.queued: list[str] = []
        """Texts whose place in the queue was confirmed, in order."""
        self.said: list[str] = []
        """Texts of turns and steers that were accepted."""
        self.started: list[str] = []
        """Turns that were told to have begun, in order."""
        self.ended: dict[str, str] = {}
        """The status that each turn was told to have ended with."""
        self.killed: set[str] = set()
        """Turns that were open when their server was killed."""
        self.marks: list[str] = []

    # ------------------------------------------------------------------ books

    def wait(self, work: Any) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, WAIT_SECONDS))

    @initialize()
    def begin(self) -> None:
        self.wait(self._begin())

    async def _begin(self) -> None:
        await self.lab.__aenter__()
        (self.lab.work / "marks").mkdir()
        self.client: LabClient = await self.lab.connect(experimental=True)
        self.thread = await self.lab.start_thread(self.client)
        await self.lab.run_turn(self.client, self.thread, "first words")
        await self._look()

    async def _ask(self, method: str, params: dict[str, Any]) -> Any:
        """The result; None for a refusal, which is an answer too."""
        try:
            return await self.client.request(method, params)
        except RpcError:
            return None

    async def _look(self) -> None:
        """Read what was told until now into the books."""
        for event in await self.client.settle():
            params = event.params
            if event.method == "turn/started":
                assert params["turn"]["id"] not in self.started, "a turn began twice"
                self.started.append(params["turn"]["id"])
            elif event.method == "turn/completed":
                told = params["turn"]
                assert told["id"] in self.started, "an end without a beginning"
                assert told["id"] not in self.ended, "a turn ended twice"
                assert told["status"] in TERMINAL
                self.ended[told["id"]] = told["status"]
        self.client.heard.clear()

    @property
    def open(self) -> list[str]:
        return [
            each for each in self.started if each not in self.ended | dict.fromkeys(self.killed)
        ]

    def text(self, what: str) -> str:
        self.count += 1
        return f"{what}-{self.count}"

    # ------------------------------------------------------------------ the model

    @rule(kind=st.sampled_from(KINDS))
    def script(self, kind: str) -> None:
        self.lab.provider.script(self._step(kind))

    def _step(self, kind: str) -> Step:
        match kind:
            case "tool" | "slow tool":
                mark = self.text("mark")
                self.marks.append(mark)
                rest = "; sleep 300" if kind == "slow tool" else ""
                command = {"cmd": f"echo ran >> marks/{mark}{rest}", "login": False}
                return calls(function_call("exec_command", command, f"call-{mark}"))
            case "gate":
                gate = asyncio.Event()
                self.gates.append(gate)
                return Step([created(), gate, *message(self.text("late")), completed()])
            case "half":
                return Step([created(), *message(self.text("half"))[:2]], hang=True)
            case "silence":
                return Step([created()], hang=True)
            case "cut":
                return Step([created(), *message(self.text("cut"))[:2]], cut=True)
            case "refusal":
                return http_error(400, "no such luck")
            case "overload":
                return http_error(503, "overloaded")
            case _:
                return reply(self.text("answer"))

    @rule()
    def open_gates(self) -> None:
        for gate in self.gates:
            gate.set()

    # ------------------------------------------------------------------ the client

    @rule()
    def start(self) -> None:
        self.wait(self._say("turn/start", self.text("start")))

    @rule()
    def steer(self) -> None:
        expected = self.open[-1] if self.open else self.started[-1]
        self.wait(self._say("turn/steer", self.text("steer"), expectedTurnId=expected))

    async def _say(self, method: str, text: str, **more: Any) -> None:
        if await self._ask(method, turn(self.thread, text, **more)) is not None:
            self.said.append(text)
        await self._look()

    @rule(named=st.booleans())
    def interrupt(self, named: bool) -> None:
        self.wait(self._interrupt(named))

    async def _interrupt(self, named: bool) -> None:
        turn_id = self.open[-1] if named and self.open else ""
        await self._ask("turn/interrupt", {"threadId": self.thread, "turnId": turn_id})
        await self._look()

    @rule()
    def enqueue(self) -> None:
        self.wait(self._enqueue(self.text("queued")))

    async def _enqueue(self, text: str) -> None:
        asked = turn(self.thread, text, clientUserMessageId=text)
        if await self._ask("thread/queue/add", asked) is not None:
            self.queued.append(text)
        await self._look()

    @rule()
    def start_queue(self) -> None:
        self.wait(self._ask("thread/queue/start", {"threadId": self.thread}))

    @rule(count=st.integers(2, 5))
    def everything_at_once(self, count: int) -> None:
        """Requests that do not wait for one another."""
        self.wait(self._burst(count))

    async def _burst(self, count: int) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(self._say("turn/start", self.text("start")))
                interrupt = {"threadId": self.thread, "turnId": ""}
                group.create_task(self._ask("turn/interrupt", interrupt))
                group.create_task(self._ask("thread/read", {"threadId": self.thread}))

    @rule()
    def read(self) -> None:
        self.wait(self._check_read())

    # ------------------------------------------------------------------ the end of a server

    @precondition(lambda self: self.count > 3)
    @rule()
    def kill(self) -> None:
        self.wait(self._kill())

    async def _kill(self) -> None:
        await self._look()
        self.lab.kill()
        with contextlib.suppress(ConnectionLost):
            while True:
                self.client.heard.append(await self.client.next_event())
        await self._look_at_last_words()
        self.killed |= {each for each in self.started if each not in self.ended}
        self.lab.provider._steps.clear()
        self.client = await self.lab.connect(experimental=True)
        before = await self._turns()
        await self.client.request("thread/resume", {"threadId": self.thread})
        assert {each["status"] for each in before} <= set(TERMINAL)
        await self._look()

    async def _look_at_last_words(self) -> None:
        for event in self.client.heard:
            if event.method == "turn/started":
                self.started.append(event.params["turn"]["id"])
            elif event.method == "turn/completed":
                assert event.params["turn"]["id"] not in self.ended
                self.ended[event.params["turn"]["id"]] = event.params["turn"]["status"]

    # ------------------------------------------------------------------ what must hold

    async def _turns(self) -> list[dict[str, Any]]:
        asked = {"threadId": self.thread, "includeTurns": True}
        return (await self.client.request("thread/read", asked))["thread"]["turns"]

    async def _check_read(self) -> None:
        """What is read agrees with what was told, as far as both know."""
        await self._look()
        told = dict(self.ended)
        turns = await self._turns()
        ids = [each["id"] for each in turns]
        assert len(ids) == len(set(ids)), "a turn is stored twice"
        known = [each for each in ids if each in self.started]
        assert known == [each for each in self.started if each in ids], "turns are out of order"
        read = {each["id"]: each["status"] for each in turns}
        assert {each: read.get(each) for each in told} == told
        # One that was killed reads as interrupted, or as what it came to just before that.
        assert {read[each] for each in self.killed & set(read)} <= set(TERMINAL)

    def teardown(self) -> None:
        try:
            if hasattr(self, "client"):
                self.wait(self._finish())
        finally:
            with contextlib.suppress(Exception):
                self.wait(self.lab.__aexit__())
            self.loop.close()
            self.folder.cleanup()

    async def _finish(self) -> None:
        """Let everything come to rest, then compare all there is with all that was told."""
        self.lab.provider._steps.clear()
        self.open_gates()
        await self._rest()
        while await self._is_busy():
            await self._ask("thread/queue/start", {"threadId": self.thread})
            await self._rest()
        await self._check_read()
        turns = await self._turns()
        assert set(self.ended) | self.killed == set(self.started)
        self._check_words(turns)
        self._check_requests()
        self._check_marks()
        self.lab.kill()
        self.client = await self.lab.connect(experimental=True)
        assert _plain(await self._turns()) == _plain(turns), "the log tells another story"

    async def _is_busy(self) -> bool:
        """Whether a message waits, or a turn runs that was not told of yet."""
        asked = {"threadId": self.thread}
        if (await self.client.request("thread/queue/list", asked))["data"]:
            return True
        thread = (await self.client.request("thread/read", asked))["thread"]
        await self._look()
        return thread["status"]["type"] == "active" or bool(self.open)

    async def _rest(self) -> None:
        """Interrupt what does not end, until nothing runs."""
        await self._look()
        while self.open:
            await self._ask("turn/interrupt", {"threadId": self.thread, "turnId": ""})
            await self.client.until("turn/completed")
            ended = self.client.heard[-1].params["turn"]
            self.started += [
                event.params["turn"]["id"]
                for event in self.client.heard
                if event.method == "turn/started"
            ]
            assert ended["id"] not in self.ended
            self.ended[ended["id"]] = ended["status"]
            self.client.heard.clear()
            await self._look()

    def _check_words(self, turns: list[dict[str, Any]]) -> None:
        words = [
            item["content"][0]["text"]
            for each in turns
            for item in each["items"]
            if item["type"] == "userMessage"
        ]
        twice = [text for text, times in Counter(words).items() if times > 1]
        assert twice == [], "said twice"
        assert [text for text in words if text in self.queued] == self.queued
        if not self.killed:
            assert [text for text in self.said if text not in words] == [], "accepted and lost"

    def _check_requests(self) -> None:
        for request in self.lab.provider.requests:
            check_input(request)

    def _check_marks(self) -> None:
        for mark in self.marks:
            file = self.lab.work / "marks" / mark
            assert not file.exists() or file.read_text() == "ran\n", "a command ran again"


def check_input(request: Recorded) -> None:
    """What the model is sent is valid: each call has one output, after it."""
    made: list[str] = []
    answered: list[str] = []
    for item in request.body["input"]:
        if item["type"] == "function_call":
            made.append(item["call_id"])
        elif item["type"] == "function_call_output":
            assert item["call_id"] in made, "an output before its call"
            answered.append(item["call_id"])
    assert sorted(made) == sorted(answered), json.dumps(request.body["input"])


def _plain(turns: list[dict[str, Any]]) -> list[Any]:
    """What must be the same whoever reads it."""
    return [(each["id"], each["status"], each["error"], each["items"]) for each in turns]

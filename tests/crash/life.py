"""One life of a server: clients' requests at random until it is killed, written down as heard.

Runs in a process of its own. Every line of the journal is written before the next deed: what a
client asked (`begin`), what it heard (`item`, `turn`), and the answer (`end`).
"""

import contextlib
import json
import os
import random
import signal
from pathlib import Path
from typing import Any

from support.app_lab import AppLab, LabClient, Tap, turn
from support.fake_provider import calls, custom_tool_call, function_call, reply
from treadle.engine.store.local import rollout_files
from treadle.wire.protocol.errors import RpcError

DEEDS = 12
"""Requests of one life, if nothing ends it."""


class Journal:
    """Lines for the parent; they outlive this process."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def note(self, **entry: Any) -> None:
        os.write(self._fd, json.dumps(entry).encode() + b"\n")


def tear(passage: int) -> None:
    """Kill this process in the middle of its n-th write to a log: half of the bytes are there."""
    left = passage
    write = os.write

    class TornOs:
        """The module `os`, but for that one write."""

        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

        def write(self, fd: int, data: Any) -> int:
            nonlocal left
            left -= 1
            if left == 0:
                write(fd, bytes(data)[: max(1, len(data) // 2)])
                os.kill(os.getpid(), signal.SIGKILL)
            return write(fd, data)

    rollout_files.os = TornOs()  # pyright: ignore[reportAttributeAccessIssue]


class Life:
    """A client with random wishes."""

    def __init__(self, lab: AppLab, journal: Journal, dice: random.Random) -> None:
        self._lab, self._journal, self._dice = lab, journal, dice
        self._client: LabClient
        self._threads: list[str] = []
        self._count = 0

    async def run(self) -> None:
        """Ask for this and that; threads of earlier lives are found by the lists."""
        self._client = client = await self._lab.connect(experimental=True)
        self._listen(client.tap)
        for archived in (False, True):
            page = await client.request("thread/list", {"archived": archived, "limit": 100})
            self._threads += [thread["id"] for thread in page["data"]]
        for _ in range(DEEDS):
            deed = self._dice.choice(
                (
                    *(self.create, self.speak, self.speak, self.use_tools, self.archive),
                    *(self.unarchive, self.fork, self.rename, self.describe),
                    *(self.roll_back, self.delete),
                )
            )
            with contextlib.suppress(RpcError):
                await deed()
            await client.settle()

    def _listen(self, tap: Tap) -> None:
        receive = tap.receive

        async def heard() -> list[bytes]:
            frames = await receive()
            for frame in frames:
                self._note(json.loads(frame))
            return frames

        tap.receive = heard  # type: ignore[method-assign]

    def _note(self, frame: dict[str, Any]) -> None:
        params = frame.get("params")
        match frame.get("method"):
            case "item/completed":
                facts = {"thread": params["threadId"], "turn": params["turnId"]}
                self._journal.note(what="item", item=params["item"], **facts)
            case "turn/completed":
                facts = {"thread": params["threadId"], "turn": params["turn"]["id"]}
                self._journal.note(what="turn", status=params["turn"]["status"], **facts)
            case _:
                return

    async def _ask(self, deed: str, method: str, params: dict[str, Any], **facts: Any) -> Any:
        self._journal.note(what="begin", deed=deed, **facts)
        try:
            answer = await self._client.request(method, params)
        except RpcError as error:
            self._journal.note(what="refused", deed=deed, why=error.message, **facts)
            raise
        made = answer.get("thread", {}).get("id") if isinstance(answer, dict) else None
        self._journal.note(what="end", deed=deed, **{"thread": made, **facts})
        return answer

    def _any(self) -> str:
        if not self._threads:
            raise RpcError(0, "no thread yet")
        return self._dice.choice(self._threads)

    def _word(self) -> str:
        self._count += 1
        return f"{os.getpid()}-{self._count}"

    async def create(self) -> None:
        cwd = {"cwd": str(self._lab.work)}
        session = await self._ask("create", "thread/start", cwd)
        self._threads.append(session["thread"]["id"])
        await self._lab.run_turn(self._client, self._threads[-1], self._word())

    async def speak(self) -> None:
        thread_id = self._any()
        await self._client.request("thread/resume", {"threadId": thread_id})
        self._lab.provider.script(reply(f"re {self._word()}"))
        await self._turn(thread_id)

    async def use_tools(self) -> None:
        thread_id = self._any()
        await self._client.request("thread/resume", {"threadId": thread_id})
        name = self._word()
        patch = f"*** Begin Patch\n*** Add File: {name}\n+{name}\n*** End Patch"
        self._lab.provider.script(
            calls(
                function_call("exec_command", {"cmd": f"echo {name}"}, f"call-{name}"),
                custom_tool_call("apply_patch", patch, f"patch-{name}"),
            ),
            reply(f"did {name}"),
        )
        await self._turn(thread_id)

    async def _turn(self, thread_id: str) -> None:
        await self._client.request("turn/start", turn(thread_id, self._word()))
        await self._client.until("turn/completed", lambda p: p["threadId"] == thread_id)

    async def archive(self) -> None:
        thread_id = self._any()
        await self._ask("archive", "thread/archive", {"threadId": thread_id}, thread=thread_id)

    async def unarchive(self) -> None:
        thread_id = self._any()
        await self._ask("unarchive", "thread/unarchive", {"threadId": thread_id}, thread=thread_id)

    async def delete(self) -> None:
        if self._dice.random() < 0.7:
            return
        thread_id = self._any()
        await self._ask("delete", "thread/delete", {"threadId": thread_id}, thread=thread_id)
        self._threads.remove(thread_id)

    async def fork(self) -> None:
        source = self._any()
        made = await self._ask("fork", "thread/fork", {"threadId": source}, source=source)
        self._threads.append(made["thread"]["id"])

    async def rename(self) -> None:
        thread_id, name = self._any(), self._word()
        params = {"threadId": thread_id, "name": name}
        await self._ask("name", "thread/name/set", params, thread=thread_id, value=name)

    async def describe(self) -> None:
        thread_id, branch = self._any(), self._word()
        params = {"threadId": thread_id, "gitInfo": {"branch": branch}}
        await self._ask("git", "thread/metadata/update", params, thread=thread_id, value=branch)

    async def roll_back(self) -> None:
        thread_id = self._any()
        await self._client.request("thread/resume", {"threadId": thread_id})
        params = {"threadId": thread_id, "numTurns": 1}
        await self._ask("rollback", "thread/rollback", params, thread=thread_id)


async def live(top: Path, fd: int, seed: str) -> None:
    """Live until killed, or to the end of all deeds."""
    async with AppLab(top, "memory") as lab:
        await Life(lab, Journal(fd), random.Random(seed)).run()


async def look(top: Path, fd: int) -> None:
    """Everything a client can see of the threads of a home, as one line."""
    seen: dict[str, Any] = {}
    async with AppLab(top, "memory") as lab:
        client = await lab.connect(experimental=True)
        for archived in (False, True):
            cursor = None
            while True:
                ask = {"archived": archived, "limit": 3, "cursor": cursor, "sortKey": "updated_at"}
                page = await client.request("thread/list", ask)
                for thread in page["data"]:
                    assert thread["id"] not in seen, "a thread is listed twice"
                    params = {"threadId": thread["id"], "includeTurns": True}
                    read = await client.request("thread/read", params)
                    seen[thread["id"]] = {"archived": archived, "listed": thread, **read}
                cursor = page["nextCursor"]
                if cursor is None:
                    break
        await client.close()
    os.write(fd, json.dumps(seen, sort_keys=True).encode() + b"\n")

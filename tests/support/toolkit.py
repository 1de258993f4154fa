"""A tool's surroundings for tests: a context whose reporter and journal keep what they hear."""

import asyncio
from typing import Any

import msgspec

from treadle.domain.items import ThreadItem
from treadle.domain.policy import DangerFullAccess, SandboxPolicy, Settings
from treadle.engine.sandbox.unconfined import Unconfined
from treadle.engine.tools.tool import ToolCall, ToolContext
from treadle.engine.tools.turn_diff import TurnDiff
from treadle.kit.clock import SystemClock


class Recorder:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.log: list[tuple[str, Any]] = []
        self.plans: list[tuple[str | None, list[dict[str, Any]]]] = []
        self._changed = asyncio.Event()

    def started(self, item: ThreadItem) -> None:
        self._add("started", item)

    def output(self, item_id: str, delta: str) -> None:
        self._add("output", (item_id, delta))

    def typed(self, item_id: str, process_id: str, text: str) -> None:
        self._add("typed", (item_id, process_id, text))

    def completed(self, item: ThreadItem) -> None:
        self._add("completed", item)

    def diff_changed(self) -> None:
        self._add("diff", None)

    def plan_updated(self, explanation: str | None, plan: list[dict[str, Any]]) -> None:
        self.plans.append((explanation, plan))

    def _add(self, kind: str, value: Any) -> None:
        self.log.append((kind, value))
        self._changed.set()

    def items(self, kind: str) -> list[Any]:
        return [value for what, value in self.log if what == kind]

    @property
    def streamed(self) -> str:
        return "".join(delta for _, delta in self.items("output"))

    async def until(self, kind: str, count: int = 1, seconds: float = 10.0) -> list[Any]:
        """Wait for `count` entries of a kind."""
        async with asyncio.timeout(seconds):
            while len(self.items(kind)) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.items(kind)


ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8"}


def make_context(cwd: str, policy: SandboxPolicy | None = None, **changes: Any) -> ToolContext:
    """A context in `cwd`; full access unless told otherwise."""
    settings = Settings(
        model="m",
        model_provider="p",
        cwd=cwd,
        approval_policy="never",
        sandbox=policy or DangerFullAccess(),
    )
    values: dict[str, Any] = {
        "thread_id": "thread-1",
        "turn_id": "turn-1",
        "settings": settings,
        "sandbox": Unconfined(),
        "env": dict(ENV),
        "clock": SystemClock(),
        "reporter": Recorder(),
        "journal": TurnDiff(cwd),
        **changes,
    }
    return ToolContext(**values)


def call(name: str, arguments: Any, call_id: str = "c1") -> ToolCall:
    """A function call with JSON arguments, or a custom call when they are a text."""
    if isinstance(arguments, str):
        return ToolCall(name=name, call_id=call_id, arguments=arguments, custom=True)
    text = msgspec.json.encode(arguments).decode()
    return ToolCall(name=name, call_id=call_id, arguments=text)

"""`request_permissions`: the agent asks for folders or the network, for a turn or the session.

What is granted widens the sandbox of the commands that follow (see `grants`). Never more is granted
than was asked for, whatever the answer says.
"""

import os
from typing import Any

import msgspec

from treadle.domain.questions import PermissionAnswer, PermissionQuestion
from treadle.engine.sandbox.writable import is_within
from treadle.engine.tools.approval_rules import granular
from treadle.engine.tools.arguments import BadArguments, read_arguments
from treadle.engine.tools.grants import Granted, Grants
from treadle.engine.tools.tool import NotAnswered, ToolCall, ToolContext, ToolOutput
from treadle.engine.tools.tool_specs import REQUEST_PERMISSIONS


class _Network(msgspec.Struct):
    enabled: bool | None = None


class _Files(msgspec.Struct):
    read: list[str] | None = None
    write: list[str] | None = None


class _Wanted(msgspec.Struct):
    network: _Network | None = None
    file_system: _Files | None = None


class _PermissionArguments(msgspec.Struct):
    permissions: _Wanted
    reason: str | None = None


class RequestPermissions:
    """The tool that asks for more than the sandbox allows."""

    name = "request_permissions"

    def __init__(self, grants: Grants) -> None:
        """Keep what is granted in `grants`."""
        self._grants = grants

    @property
    def spec(self) -> dict[str, Any]:
        """The function as the model sees it."""
        return REQUEST_PERMISSIONS

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutput:
        """Ask, keep what was granted, and tell the model what that is."""
        try:
            arguments = read_arguments(call.arguments, _PermissionArguments)
        except BadArguments as error:
            return ToolOutput(text=str(error), success=False)
        files = arguments.permissions.file_system or _Files()
        network = arguments.permissions.network
        cwd = context.settings.cwd
        question = PermissionQuestion(
            thread_id=context.thread_id,
            turn_id=context.turn_id,
            item_id=call.call_id,
            asked_at_ms=int(context.clock.now() * 1000),
            cwd=cwd,
            reason=arguments.reason,
            read=_absolute(files.read, cwd),
            write=_absolute(files.write, cwd),
            network=network.enabled if network else None,
        )
        if not granular(context.settings.approval_policy, "request_permissions"):
            context.asker.declined(question, "the approval policy lets nobody be asked")
            return ToolOutput(
                text="request_permissions failed: approvals are switched off", success=False
            )
        try:
            answer = await context.asker.ask(question)
        except NotAnswered:
            return _told(Granted(), (), "turn")
        assert isinstance(answer, PermissionAnswer)
        granted, read = _granted(question, answer)
        turn_id = None if answer.scope == "session" else context.turn_id
        self._grants.add(granted, turn_id)
        return _told(granted, read, answer.scope)


def _absolute(paths: list[str] | None, cwd: str) -> tuple[str, ...]:
    return tuple(os.path.normpath(os.path.join(cwd, path)) for path in paths or ())


def _granted(
    question: PermissionQuestion, answer: PermissionAnswer
) -> tuple[Granted, tuple[str, ...]]:
    """What was both asked for and granted: the grant, and paths to read."""
    files, network = answer.permissions.file_system, answer.permissions.network
    write = _within((files.write if files else None) or [], question.write)
    read = _within((files.read if files else None) or [], question.read)
    online = bool(question.network and network and network.enabled)
    return Granted(write=write, network=online), read


def _within(granted: list[str], asked: tuple[str, ...]) -> tuple[str, ...]:
    paths = [os.path.normpath(path) for path in granted if os.path.isabs(path)]
    return tuple(path for path in paths if any(is_within(path, root) for root in asked))


def _told(granted: Granted, read: tuple[str, ...], scope: str) -> ToolOutput:
    permissions: dict[str, Any] = {}
    if granted.network:
        permissions["network"] = {"enabled": True}
    files = {"read": read, "write": granted.write}
    named = {kind: paths for kind, paths in files.items() if paths}
    if named:
        permissions["file_system"] = named
    text = msgspec.json.encode({"permissions": permissions, "scope": scope}).decode()
    return ToolOutput(text=text, success=bool(permissions))

"""`apply_patch`: the model's way to change files, also when it types it into a shell.

A patch that does not fit changes nothing and shows no item. The tool writes by itself, outside any
sandbox, so it asks the policy about each path first, with links resolved.
"""

import os
import re
from typing import Any

import msgspec

from treadle.domain.items import FileChange
from treadle.engine.sandbox.writable import WritableArea, real_target, writable_area
from treadle.engine.tools.arguments import BadArguments, read_arguments
from treadle.engine.tools.file_edits import Edit, carry_out, plan_edits, shown_changes
from treadle.engine.tools.patch import PatchError, parse_patch
from treadle.engine.tools.permits import Permits
from treadle.engine.tools.tool import ToolCall, ToolContext, ToolOutput

_GRAMMAR = r"""start: "*** Begin Patch" LF change+ "*** End Patch" LF?
change: add | delete | update
add: "*** Add File: " path LF added+
delete: "*** Delete File: " path LF
update: "*** Update File: " path LF move? hunks?
move: "*** Move to: " path LF
added: "+" /(.*)/ LF -> line
hunks: (place | edit)+ at_end?
place: ("@@" | "@@ " /(.+)/) LF
edit: ("+" | "-" | " ") /(.*)/ LF
at_end: "*** End of File" LF
path: /(.+)/
%import common.LF
"""

_IN_SHELL = re.compile(
    r"""\s*(?:cd\s+(?P<folder>'[^']*'|"[^"$`]*"|[^\s;&|<>'"$`]+)\s*&&\s*)?"""
    r"""(?:apply_patch|applypatch)\s*<<-?\s*(?P<quote>['"]?)(?P<mark>\w+)(?P=quote)[ \t]*\n"""
    r"""(?P<patch>.*?)\n(?P=mark)\s*""",
    re.DOTALL,
)


class ApplyPatch:
    """The tool that applies a patch."""

    name = "apply_patch"

    def __init__(self, permits: Permits | None = None) -> None:
        """Apply what the thread's `permits` allow; without, nothing accepted is remembered."""
        self._permits = permits or Permits()

    @property
    def spec(self) -> dict[str, Any]:
        """The free-form tool as the model sees it."""
        return {
            "type": "custom",
            "name": "apply_patch",
            "description": (
                "Changes files by a patch. The input is the patch itself, not JSON: it begins "
                "with `*** Begin Patch` and ends with `*** End Patch`."
            ),
            "format": {"type": "grammar", "syntax": "lark", "definition": _GRAMMAR},
        }

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutput:
        """Check the patch and apply it in the thread's folder."""
        try:
            text = call.arguments if call.custom else _from_json(call.arguments)
        except BadArguments as error:
            return ToolOutput(text=str(error), success=False)
        return await apply_patch(text, call.call_id, context.settings.cwd, context, self._permits)


class _PatchArguments(msgspec.Struct):
    input: str


def _from_json(arguments: str) -> str:
    """The patch of a function call, the older form of this tool."""
    if arguments.lstrip().startswith("***"):
        return arguments
    return read_arguments(arguments, _PatchArguments).input


class TypedPatch(msgspec.Struct, frozen=True):
    """A patch that was typed into a shell, with the folder it was preceded by."""

    patch: str
    folder: str | None


def patch_in_script(script: str) -> TypedPatch | None:
    """The patch in a script that does nothing but apply one, else None."""
    match = _IN_SHELL.fullmatch(script)
    if match is None:
        return None
    folder = match["folder"]
    if folder and folder[0] in "'\"":
        folder = folder[1:-1]
    return TypedPatch(match["patch"], folder)


async def apply_patch(
    text: str, call_id: str, folder: str, context: ToolContext, permits: Permits
) -> ToolOutput:
    """Check a patch, and apply it once it is permitted; relative paths start at `folder`."""
    try:
        changes = parse_patch(text)
        if not changes:
            return ToolOutput(text="patch rejected: empty patch", success=False)
        edits = plan_edits(changes, folder)
    except PatchError as error:
        return ToolOutput(text=f"apply_patch verification failed: {error}", success=False)
    area = writable_area(
        permits.grants.widen(context.settings.sandbox, context.turn_id),
        cwd=context.settings.cwd,
        workspace_roots=context.settings.workspace_roots,
        tmpdir=context.env.get("TMPDIR"),
    )
    paths = [real_target(path) for edit in edits for path in edit.touched]
    item = FileChange(id=call_id, changes=shown_changes(edits))
    context.reporter.started(item)
    refused = await permits.patch(item, paths, _refusal(edits, area), context)
    if refused is not None:
        return refused
    try:
        # Files may have changed while a person thought about it.
        edits = plan_edits(changes, folder)
    except PatchError as error:
        context.reporter.completed(msgspec.structs.replace(item, status="failed"))
        return ToolOutput(text=f"apply_patch verification failed: {error}", success=False)
    if [real_target(path) for edit in edits for path in edit.touched] != paths:
        context.reporter.completed(msgspec.structs.replace(item, status="failed"))
        return ToolOutput(text="patch rejected: its files lead elsewhere now", success=False)
    started = context.clock.monotonic()
    try:
        # One call without an await: an interrupt comes before or after the writing, not within.
        carry_out(edits, context.journal.before_change)
    except OSError as error:
        context.reporter.completed(msgspec.structs.replace(item, status="failed"))
        context.reporter.diff_changed()
        reason = f"{os.strerror(error.errno or 0)} (os error {error.errno})"
        path = error.filename2 or error.filename or folder
        return _told(1, f"Failed to write file {path}: {reason}", started, context)
    context.reporter.completed(msgspec.structs.replace(item, status="completed"))
    context.reporter.diff_changed()
    lines = "\n".join(f"{edit.letter} {edit.shown}" for edit in _in_groups(edits))
    return _told(0, f"Success. Updated the following files:\n{lines}\n", started, context)


def _in_groups(edits: list[Edit]) -> list[Edit]:
    """Added, modified, deleted: the order in which the references list them."""
    return sorted(edits, key=lambda edit: "AMD".index(edit.letter))


def _told(code: int, text: str, started: float, context: ToolContext) -> ToolOutput:
    seconds = round(context.clock.monotonic() - started, 1)
    return ToolOutput(
        text=f"Exit code: {code}\nWall time: {seconds:g} seconds\nOutput:\n{text}",
        success=code == 0,
    )


def _refusal(edits: list[Edit], area: WritableArea) -> str | None:
    outside = [path for edit in edits for path in edit.touched if not area.allows(path)]
    if not outside:
        return None
    where = (
        f"only these folders are: {', '.join(area.roots)} (without their "
        ".git, .codex, .agents and .treadle)"
        if area.roots
        else "the sandbox is read-only"
    )
    return f"patch rejected: {', '.join(outside)} may not be written; {where}"

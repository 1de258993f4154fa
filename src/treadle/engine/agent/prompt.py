"""What the model is told besides the conversation, and a history it can always accept. Pure.

Base instructions, permission and environment notes are in our own words; their frames
(`<permissions instructions>`, `<environment_context>`, ...) are those of the references, since
models were trained on them. Only what changed is told again, so that the prefix stays cacheable.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from treadle.domain.items import (
    ImageInput,
    LocalImageInput,
    SkillInput,
    TextInput,
    UserInput,
)
from treadle.domain.policy import (
    DangerFullAccess,
    ExternalSandbox,
    ReadOnly,
    SandboxPolicy,
    Settings,
    WorkspaceWrite,
)
from treadle.domain.skills import Skill


def escape(text: str) -> str:
    """`text` fit for the XML-like frames (the library's own escape loads half of the network)."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


BASE_INSTRUCTIONS = """\
You are an agent that works in a person's workspace through tools. Take the task to its end: look
before you change, make the smallest change that does the job well, and check your work by running
what can be run.

- Explore with the shell tool; prefer fast searches (`rg`, `git grep`) over reading everything.
- Edit files with `apply_patch`. Keep to the style that is there. Do not touch what the task does
  not need, and never undo changes that you did not make.
- Commands run in a sandbox. When one is refused, say what you would need and why, or find another
  way; do not try to get around it.
- Before a longer step say in a sentence what you are about to do.
- Finish with a short answer: what you did, how you know it works, and what is left open.
"""

TURN_ABORTED = (
    "<turn_aborted>\nThe user interrupted the previous turn on purpose. Commands may have been "
    "stopped half-way; check their effects before you rely on them.\n</turn_aborted>"
)


class Surroundings(msgspec.Struct, frozen=True):
    """What the model is told about where it works."""

    shell: str
    date: str
    timezone: str
    project_doc: str | None = None
    developer_instructions: str | None = None


def message(role: str, *texts: str) -> dict[str, Any]:
    """A message item with one text part per text."""
    return {
        "type": "message",
        "role": role,
        "content": [{"type": "input_text", "text": text} for text in texts],
    }


def opening(
    settings: Settings, surroundings: Surroundings, skills: Sequence[Skill] = ()
) -> list[dict[str, Any]]:
    """The context items that stand before the first user message of a thread."""
    notes = [permissions_note(settings)]
    if skills:
        notes.insert(0, skills_note(skills))
    if surroundings.developer_instructions:
        notes.append(surroundings.developer_instructions)
    if manner := personality_note(settings):
        notes.append(manner)
    if mode := collaboration_note(settings):
        notes.append(mode)
    items = [
        message("developer", *notes),
        message("user", environment_note(settings, surroundings)),
    ]
    if surroundings.project_doc:
        items.append(
            message(
                "user",
                f"# AGENTS.md instructions for {settings.cwd}\n\n<INSTRUCTIONS>\n"
                f"{surroundings.project_doc}\n</INSTRUCTIONS>",
            )
        )
    return items


def changes(old: Settings, new: Settings, surroundings: Surroundings) -> list[dict[str, Any]]:
    """The context items that tell a model what is different since it was told `old`."""
    items: list[dict[str, Any]] = []
    if old.model != new.model:
        items.append(
            message(
                "developer",
                "<model_switch>\nThe user switched the model to "
                f"{new.model}. Go on from the conversation as it stands.\n</model_switch>",
            )
        )
    if (old.approval_policy, old.sandbox) != (new.approval_policy, new.sandbox):
        items.append(message("developer", permissions_note(new)))
    if old.personality != new.personality:
        note = personality_note(new) or _PLAIN_AGAIN
        items.append(message("developer", note))
    if old.collaboration_mode != new.collaboration_mode and (note := collaboration_note(new)):
        items.append(message("developer", note))
    if (old.cwd, old.sandbox, old.workspace_roots) != (new.cwd, new.sandbox, new.workspace_roots):
        items.append(message("user", environment_note(new, surroundings)))
    return items


def permissions_note(settings: Settings) -> str:
    """What commands may do, and whether the user can be asked for more."""
    mode, meaning = _SANDBOX_WORDS[type(settings.sandbox)]
    network = "enabled" if _network(settings.sandbox) else "restricted"
    approval = settings.approval_policy
    lines = [
        "<permissions instructions>",
        f"`sandbox_mode` is `{mode}`: {meaning} Network access is {network}.",
    ]
    if isinstance(approval, dict):
        lines.append("Approval policy is `granular`: some requests are put to the user.")
    else:
        lines.append(f"Approval policy is currently {approval}. {_APPROVAL_WORDS[approval]}")
    return "\n".join([*lines, "</permissions instructions>"])


_SANDBOX_WORDS: dict[type[Any], tuple[str, str]] = {
    DangerFullAccess: ("danger-full-access", "commands run without a sandbox."),
    ReadOnly: ("read-only", "commands may read files and change none."),
    WorkspaceWrite: (
        "workspace-write",
        "commands may read files, and write below the workspace and its writable roots.",
    ),
    ExternalSandbox: ("external-sandbox", "the surrounding container limits what commands may do."),
}

_APPROVAL_WORDS = {
    "never": "Nobody can be asked: what the sandbox refuses stays refused.",
    "on-request": "Ask for more with `sandbox_permissions` and a `justification` when needed.",
    "on-failure": "A command that the sandbox refuses may be put to the user.",
    "untrusted": "Commands other than plain reads are put to the user first.",
}


def _network(policy: SandboxPolicy) -> bool:
    match policy:
        case DangerFullAccess():
            return True
        case ExternalSandbox(network_access=access):
            return access == "enabled"
        case ReadOnly(network_access=access) | WorkspaceWrite(network_access=access):
            return access


_SKILLS_RULE = (
    "A skill is a file of instructions for one kind of work. When the user names one (`$name`) or "
    "the task plainly is what one describes, read its file before you begin and follow it; paths "
    "in it are relative to its folder."
)


def skills_note(skills: Sequence[Skill]) -> str:
    """Which skills there are; the model reads one's file when the task calls for it."""
    lines = [f"- {skill.name}: {skill.description} (file: {skill.path})" for skill in skills]
    return "\n".join(
        [
            "<skills_instructions>",
            _SKILLS_RULE,
            *lines,
            "</skills_instructions>",
        ]
    )


def skill_item(skill: Skill, text: str) -> dict[str, Any]:
    """A skill's text as the user message that brings it along."""
    return message(
        "user", f"<skill>\n<name>{skill.name}</name>\n<path>{skill.path}</path>\n{text}\n</skill>"
    )


_MANNERS = {
    "friendly": (
        "Speak warmly and encourage; say what went well, and explain choices as to a colleague."
    ),
    "pragmatic": "Speak plainly and briefly: facts, results and what is next, without courtesies.",
}
_PLAIN_AGAIN = "<personality_spec>\nNo particular manner any more.\n</personality_spec>"


def personality_note(settings: Settings) -> str | None:
    """How the agent is to speak, where the user chose a manner; None without one."""
    manner = _MANNERS.get(settings.personality or "")
    return f"<personality_spec>\n{manner}\n</personality_spec>" if manner else None


def collaboration_note(settings: Settings) -> str | None:
    """The note for a collaboration mode that the client chose; None without one."""
    mode = settings.collaboration_mode
    if mode is None:
        return None
    chosen: dict[str, Any] = mode.get("settings") or {}
    given: str | None = chosen.get("developer_instructions")
    if mode.get("mode") == "plan":
        text = given or (
            "Plan mode: explore and ask, change nothing. End with a plan inside "
            "<proposed_plan> and </proposed_plan>."
        )
    else:
        text = given or "Default mode: carry the task out."
    return f"<collaboration_mode>{text}</collaboration_mode>"


def environment_note(settings: Settings, surroundings: Surroundings) -> str:
    """Folder, shell, date and file permissions, in the references' XML-like frame."""
    roots = "".join(
        f"<root>{escape(root)}</root>" for root in settings.workspace_roots or (settings.cwd,)
    )
    return (
        "<environment_context>\n"
        f"  <cwd>{escape(settings.cwd)}</cwd>\n"
        f"  <shell>{surroundings.shell}</shell>\n"
        f"  <current_date>{surroundings.date}</current_date>\n"
        f"  <timezone>{surroundings.timezone}</timezone>\n"
        f"  <filesystem><workspace_roots>{roots}</workspace_roots>"
        f"{_profile(settings)}</filesystem>\n"
        "</environment_context>"
    )


def _profile(settings: Settings) -> str:
    policy = settings.sandbox
    if isinstance(policy, DangerFullAccess | ExternalSandbox):
        return (
            '<permission_profile type="disabled"><file_system type="unrestricted" />'
            "</permission_profile>"
        )
    entries = '<entry access="read"><special>:root</special></entry>'
    if isinstance(policy, WorkspaceWrite):
        for root in dict.fromkeys(
            (settings.cwd, *settings.workspace_roots, *policy.writable_roots)
        ):
            entries += f'<entry access="write"><path>{escape(root)}</path></entry>'
        if not policy.exclude_slash_tmp:
            entries += '<entry access="write"><special>:slash_tmp</special></entry>'
        if not policy.exclude_tmpdir_env_var:
            entries += '<entry access="write"><special>:tmpdir</special></entry>'
    return (
        '<permission_profile type="managed"><file_system type="restricted">'
        f"{entries}</file_system></permission_profile>"
    )


def user_item(content: list[UserInput], images: dict[str, str]) -> dict[str, Any]:
    """The user's input as a model item.

    Args:
        content: the input parts.
        images: data URL, or an error text, for the path of each local image.
    """
    parts: list[dict[str, Any]] = []
    number = 0
    for part in content:
        match part:
            case TextInput(text=text):
                parts.append({"type": "input_text", "text": text})
            case ImageInput(url=url):
                number += 1
                parts.append({"type": "input_image", "image_url": url})
            case LocalImageInput(path=path):
                number += 1
                parts += _local_image(path, images.get(path, ""), number)
            case SkillInput(name=name):
                parts.append({"type": "input_text", "text": f"Use the skill `{name}`."})
            case _:
                continue
    return {"type": "message", "role": "user", "content": parts}


def _local_image(path: str, found: str, number: int) -> list[dict[str, Any]]:
    if not found.startswith("data:"):
        return [{"type": "input_text", "text": found}]
    return [
        {"type": "input_text", "text": f'<image name=[Image #{number}] path="{path}">'},
        {"type": "input_image", "image_url": found, "detail": "original"},
        {"type": "input_text", "text": "</image>"},
    ]


def subagent_note(told: dict[str, Any]) -> dict[str, Any]:
    """The user message by which a model hears that an agent of its own came to an end."""
    text = msgspec.json.encode(told).decode()
    return message("user", f"<subagent_notification>\n{text}\n</subagent_notification>")


_CALLS = {
    "function_call": "function_call_output",
    "custom_tool_call": "custom_tool_call_output",
    "local_shell_call": "function_call_output",
}


_OUTPUTS = frozenset(_CALLS.values())


def _faults(items: list[dict[str, Any]]) -> tuple[set[int], set[int]]:
    """Places of what must not be sent, and of the calls that have no output."""
    open_calls: dict[str, int] = {}
    dropped: set[int] = set()
    unanswered: set[int] = set()
    for at, item in enumerate(items):
        kind, call_id = item.get("type", ""), item.get("call_id", "")
        if kind in _CALLS:
            if call_id in open_calls:
                unanswered.add(open_calls[call_id])
            open_calls[call_id] = at
        elif kind in _OUTPUTS:
            call_at = open_calls.get(call_id)
            if call_at is None or _CALLS[items[call_at]["type"]] != kind:
                dropped.add(at)
            else:
                del open_calls[call_id]
        elif kind == "message" and item.get("role") == "assistant" and not item.get("content"):
            dropped.add(at)
    return dropped, unanswered.union(open_calls.values())


def normalise(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A history every provider accepts: each call has one output, each output one call before it.

    A call without an output gets one that says so, right behind it; an output without its call,
    of another kind or one too many is left out, and so is a message of the assistant that says
    nothing. Call ids may come again: an output belongs to the latest open call. This is what keeps
    an interrupted call from bricking a thread.
    """
    dropped, unanswered = _faults(items)
    if not dropped and not unanswered:
        return items
    whole: list[dict[str, Any]] = []
    for at, item in enumerate(items):
        if at in dropped:
            continue
        whole.append(item)
        if at in unanswered:
            output = {"type": _CALLS[item["type"]], "call_id": item.get("call_id", "")}
            whole.append({**output, "output": "aborted"})
    return whole


def without_open_calls(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items less the calls that have no output yet: what can be handed to somebody else."""
    answered = {
        item.get("call_id") for item in items if str(item.get("type", "")).endswith("_call_output")
    }
    return [
        item for item in items if item.get("type") not in _CALLS or item.get("call_id") in answered
    ]

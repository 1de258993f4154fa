"""What a backend asks, in the words of the log, and what each decision answers it.

Pure table over the methods of the app-server protocol. Every question can be declined; what a run
decides when nobody answers is its policy. Knows neither connections nor commands.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from treadle.runner.manager_types import ExecutionPolicy

Json = dict[str, Any]

ACCEPT, FOR_SESSION, DECLINE, CANCEL = "accept", "acceptForSession", "decline", "cancel"
DEFAULT_ANSWER_SECONDS = 3600.0
"""How long a question waits where the run lets its agent ask and names no time."""
SUMMARY_CHARS = 500
DETAIL_CHARS = 8_000
"""Longest text in the details of a question; the agent itself has the whole."""

_NO_TOOL = "This tool is not available in an unattended run."
_NOT_DETAILS = frozenset({"threadId", "turnId", "startedAtMs", "conversationId", "_meta"})


@dataclass(frozen=True, slots=True)
class RequestPolicy:
    """What a run does with questions: how long they wait for a person, and what counts then."""

    wait_seconds: float
    default: str

    @property
    def is_attended(self) -> bool:
        """Whether anybody is asked at all."""
        return self.wait_seconds > 0


@dataclass(frozen=True, slots=True)
class Question:
    """A server request that a person can decide."""

    kind: str
    summary: str
    decisions: tuple[str, ...]
    """Words that an answer may say."""
    needs_content: bool = False
    """Whether `accept` means nothing without content, such as the fields of a form."""
    details: Json = field(default_factory=dict[str, Any])

    def settled_by(self, default: str) -> str:
        """What a policy's default comes to here: it never accepts what needs content."""
        usable = default in self.decisions and not (default == ACCEPT and self.needs_content)
        return default if usable else DECLINE


class ContentInvalid(Exception):
    """The decision needs content that is not there or is not what it should be."""


def policy_of(execution: ExecutionPolicy) -> RequestPolicy:
    """A run's policy for questions. Where the agent may not ask, nobody is waited for."""
    default = execution.answer_default or DECLINE
    if execution.answer_timeout_ms is not None:
        return RequestPolicy(execution.answer_timeout_ms / 1000, default)
    asks = execution.approval not in {None, "never"}
    return RequestPolicy(DEFAULT_ANSWER_SECONDS if asks else 0.0, default)


def question_of(method: str, params: Json) -> Question | None:
    """The question in a server request; None when it is none for people."""
    make = _QUESTIONS.get(method)
    if make is None:
        return None
    question = make(params)
    question.details.update(_bounded(params))
    return question


def answer_to(method: str, params: Json, decision: str, content: Any) -> Json:
    """The result that a decision sends to the backend.

    Raises:
        ContentInvalid: the decision cannot be sent as it is; the text says what is missing.
    """
    return _ANSWERS[method](params, decision, content)


def answer_alone(method: str, now_seconds: float) -> tuple[Json, str]:
    """The whole answer to what is no question for people, and one word for the record."""
    if method == "currentTime/read":
        return {"result": {"currentTimeAt": int(now_seconds)}}, "answered"
    message = f"{method} is not supported by a run"
    return {"error": {"code": -32601, "message": message}}, "refused"


# Questions


def _command(params: Json) -> Question:
    summary = _line(params, "command", "reason") or "run a command"
    # What a backend offers is meant for its own screens; declining always works.
    decisions = dict.fromkeys([*_offered(params), DECLINE])
    return Question("command", summary, tuple(decisions))


def _file_change(params: Json) -> Question:
    summary = _line(params, "reason", "grantRoot") or "apply a patch"
    return Question("fileChange", summary, (ACCEPT, FOR_SESSION, DECLINE, CANCEL))


def _permissions(params: Json) -> Question:
    summary = _line(params, "reason") or "do more than the sandbox allows"
    return Question("permissions", summary, (ACCEPT, FOR_SESSION, DECLINE))


def _user_input(params: Json) -> Question:
    asked = _list(params.get("questions"))
    texts = [str(_members(entry).get("question") or "") for entry in asked]
    return Question("userInput", _cut(" / ".join(texts)), (ACCEPT, DECLINE), needs_content=True)


def _elicitation(params: Json) -> Question:
    schema = _members(params.get("requestedSchema"))
    summary = f"{params.get('serverName')}: {params.get('message') or ''}"
    meta = _members(params.get("_meta"))
    lasting = (FOR_SESSION,) if "session" in _list(meta.get("persist")) else ()
    question = Question(
        "elicitation",
        _cut(summary),
        (ACCEPT, *lasting, DECLINE, CANCEL),
        needs_content=bool(schema.get("required")),
    )
    if meta.get("tool_name"):
        # What is approved is a call: the message alone does not say with which arguments.
        question.details["tool"] = meta["tool_name"]
        question.details["arguments"] = _short(meta.get("tool_params"))
    return question


def _tool_call(params: Json) -> Question:
    summary = f"call {params.get('tool')}"
    return Question("tool", _cut(summary), (ACCEPT, DECLINE), needs_content=True)


def _old_command(params: Json) -> Question:
    words = [word for word in _list(params.get("command")) if isinstance(word, str)]
    summary = " ".join(words) or _line(params, "reason")
    return Question("command", _cut(summary), (ACCEPT, FOR_SESSION, DECLINE, CANCEL))


# Answers


def _decision(params: Json, decision: str, content: Any) -> Json:
    del content
    return {"decision": _offered(params).get(decision, decision)}


def _granted(params: Json, decision: str, content: Any) -> Json:
    del content
    scope = "session" if decision == FOR_SESSION else "turn"
    granted = decision in {ACCEPT, FOR_SESSION}
    return {"permissions": _members(params.get("permissions")) if granted else {}, "scope": scope}


def _form(params: Json, decision: str, content: Any) -> Json:
    del params
    if decision != ACCEPT:
        return {"answers": {}}
    fields = _members(content)
    if not fields:
        raise ContentInvalid('content must map question ids to answers: {"ID": ["TEXT"]}.')
    return {"answers": {name: {"answers": _answers(value)} for name, value in fields.items()}}


def _action(params: Json, decision: str, content: Any) -> Json:
    if decision == FOR_SESSION:
        return {"action": ACCEPT, "content": {}, "_meta": {"persist": "session"}}
    if decision != ACCEPT:
        return {"action": decision}
    required = _members(params.get("requestedSchema")).get("required")
    missing = [name for name in _list(required) if name not in _members(content)]
    if missing:
        raise ContentInvalid(f"content must have the form's fields: {', '.join(map(str, missing))}")
    return {"action": ACCEPT, "content": content if content is not None else {}}


def _tool_result(params: Json, decision: str, content: Any) -> Json:
    del params
    if decision != ACCEPT:
        return {"contentItems": [{"type": "inputText", "text": _NO_TOOL}], "success": False}
    result = _members(content)
    if not isinstance(result.get("contentItems"), list):
        raise ContentInvalid('content must be the tool\'s result: {"contentItems": [...]}.')
    return {"success": True, **result}


def _old_decision(params: Json, decision: str, content: Any) -> Json:
    del params, content
    return {"decision": _OLD_WORDS.get(decision, "denied")}


_OLD_WORDS = {ACCEPT: "approved", FOR_SESSION: "approved_for_session", CANCEL: "abort"}
_QUESTIONS: dict[str, Callable[[Json], Question]] = {
    "item/commandExecution/requestApproval": _command,
    "item/fileChange/requestApproval": _file_change,
    "item/permissions/requestApproval": _permissions,
    "item/tool/requestUserInput": _user_input,
    "mcpServer/elicitation/request": _elicitation,
    "item/tool/call": _tool_call,
    "execCommandApproval": _old_command,
    "applyPatchApproval": _file_change,
}
_ANSWERS: dict[str, Callable[[Json, str, Any], Json]] = {
    "item/commandExecution/requestApproval": _decision,
    "item/fileChange/requestApproval": _decision,
    "item/permissions/requestApproval": _granted,
    "item/tool/requestUserInput": _form,
    "mcpServer/elicitation/request": _action,
    "item/tool/call": _tool_result,
    "execCommandApproval": _old_decision,
    "applyPatchApproval": _old_decision,
}


def _offered(params: Json) -> dict[str, Any]:
    """Decisions by their word; one that brings a rule along is named by its only member."""
    offered: dict[str, Any] = {}
    for each in _list(params.get("availableDecisions")):
        if isinstance(each, str):
            offered[each] = each
        elif len(_members(each)) == 1:
            offered[next(iter(_members(each)))] = each
    return offered or {word: word for word in (ACCEPT, FOR_SESSION, DECLINE, CANCEL)}


def _answers(value: Any) -> list[str]:
    texts = _list(value) if isinstance(value, list) else [value]
    return [text if isinstance(text, str) else str(text) for text in texts]


def _bounded(params: Json) -> Json:
    """The request's members that a person needs, with long texts cut."""
    return {
        name: _short(value)
        for name, value in params.items()
        if name not in _NOT_DETAILS and value is not None
    }


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= DETAIL_CHARS else value[:DETAIL_CHARS] + "…"
    return value if len(repr(value)) <= 2 * DETAIL_CHARS else "(too large to show)"


def _line(params: Json, *names: str) -> str:
    texts = (params.get(name) for name in names)
    return _cut(next((text for text in texts if isinstance(text, str) and text), ""))


def _cut(text: str) -> str:
    return text if len(text) <= SUMMARY_CHARS else text[: SUMMARY_CHARS - 1] + "…"


def _members(value: Any) -> Json:
    return cast("Json", value) if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []

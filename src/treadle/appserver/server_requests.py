"""Questions of the engine as requests to a client, and a client's replies as answers. Pure.

Methods and shapes are the protocol's (0.129.0, 0.169.0), with one difference that is told: every
decision that works is listed in `availableDecisions`.
"""

from collections.abc import Callable
from typing import Any, cast

import msgspec

from treadle.domain import questions as qs


def as_request(question: qs.Question) -> tuple[str, dict[str, Any]]:
    """Method and parameters of the request that puts a question."""
    return _REQUESTS[type(question)](question)


def read_answer(question: qs.Question, raw_result: bytes) -> qs.Answer | None:
    """The answer in a reply; None when it is none that the question knows."""
    try:
        answer: qs.Answer = msgspec.json.decode(raw_result, type=qs.ANSWERS[type(question)])
    except (msgspec.DecodeError, UnicodeError):
        return None
    return answer


def _for_item(question: qs.Question) -> dict[str, Any]:
    return {
        "threadId": question.thread_id,
        "turnId": question.turn_id,
        "itemId": question.item_id,
        "startedAtMs": question.asked_at_ms,
    }


def _command(question: qs.CommandQuestion) -> tuple[str, dict[str, Any]]:
    decisions: list[Any] = ["accept", "acceptForSession"]
    if question.amendment is not None:
        amendment = {"execpolicy_amendment": question.amendment}
        decisions.append({"acceptWithExecpolicyAmendment": amendment})
    decisions += ["decline", "cancel"]
    return "item/commandExecution/requestApproval", {
        **_for_item(question),
        "kind": "command",
        "environmentId": "local",
        "reason": question.reason,
        "command": question.command,
        "cwd": question.cwd,
        "commandActions": question.actions,
        "proposedExecpolicyAmendment": question.amendment,
        "availableDecisions": decisions,
    }


def _file(question: qs.FileQuestion) -> tuple[str, dict[str, Any]]:
    params = {**_for_item(question), "reason": question.reason, "grantRoot": None}
    return "item/fileChange/requestApproval", params


def _permission(question: qs.PermissionQuestion) -> tuple[str, dict[str, Any]]:
    network = None if question.network is None else {"enabled": question.network}
    files = {"read": question.read or None, "write": question.write or None}
    return "item/permissions/requestApproval", {
        **_for_item(question),
        "environmentId": "local",
        "cwd": question.cwd,
        "reason": question.reason,
        "permissions": {
            "network": network,
            "fileSystem": files if any(files.values()) else None,
        },
    }


def _form(question: qs.FormQuestion) -> tuple[str, dict[str, Any]]:
    return "item/tool/requestUserInput", {
        "threadId": question.thread_id,
        "turnId": question.turn_id,
        "itemId": question.item_id,
        "questions": question.questions,
        "isBlocking": question.blocking,
        "autoResolutionMs": None,
    }


def _tool(question: qs.ToolQuestion) -> tuple[str, dict[str, Any]]:
    return "item/tool/call", {
        "threadId": question.thread_id,
        "turnId": question.turn_id,
        "callId": question.item_id,
        "namespace": question.namespace,
        "tool": question.tool,
        "arguments": question.arguments,
    }


_ANY_FIELD = "title description default type"
_FIELDS = {
    "string": f"{_ANY_FIELD} enum enumNames oneOf format minLength maxLength",
    "number": f"{_ANY_FIELD} minimum maximum",
    "integer": f"{_ANY_FIELD} minimum maximum",
    "boolean": _ANY_FIELD,
    "array": f"{_ANY_FIELD} items minItems maxItems",
}
"""What clients know of each type of field; they refuse a form that has more."""


def _form_schema(schema: dict[str, Any] | None) -> dict[str, Any]:
    """A server's schema without what clients refuse, such as the title of a model class."""
    given = schema or {}
    fields = _members(given.get("properties")).items()
    form: dict[str, Any] = {
        "type": "object",
        "properties": {name: _form_field(field) for name, field in fields},
    }
    return form | {name: given[name] for name in ("$schema", "required") if name in given}


def _form_field(field: Any) -> Any:
    members = _members(field)
    known = _FIELDS.get(str(members.get("type")))
    if known is None:
        return field
    return {name: value for name, value in members.items() if name in known.split()}


def _members(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _elicitation(question: qs.ElicitationQuestion) -> tuple[str, dict[str, Any]]:
    params: dict[str, Any] = {
        "threadId": question.thread_id,
        "turnId": question.turn_id or None,
        "serverName": question.server,
        "message": question.message,
        "_meta": question.meta,
    }
    if question.url is not None:
        params |= {
            "mode": "url",
            "url": question.url,
            "elicitationId": question.elicitation_id or "",
        }
    else:
        params |= {"mode": "form", "requestedSchema": _form_schema(question.requested_schema)}
    return "mcpServer/elicitation/request", params


_REQUESTS: dict[type[qs.Question], Callable[[Any], tuple[str, dict[str, Any]]]] = {
    qs.CommandQuestion: _command,
    qs.FileQuestion: _file,
    qs.PermissionQuestion: _permission,
    qs.FormQuestion: _form,
    qs.ToolQuestion: _tool,
    qs.ElicitationQuestion: _elicitation,
}

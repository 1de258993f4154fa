"""What an unattended run answers when its backend asks: no, politely, in each request's own words.

Pure table from server request to answer. Nobody is there to approve, so nothing is; the model is
told and may go on. Knows no connection.
"""

from typing import Any

Json = dict[str, Any]

_NO_TOOL = "This tool is not available in an unattended run."

_ANSWERS: dict[str, Json] = {
    "item/commandExecution/requestApproval": {"decision": "decline"},
    "item/fileChange/requestApproval": {"decision": "decline"},
    "item/permissions/requestApproval": {"permissions": {}, "scope": "turn"},
    "item/tool/requestUserInput": {"answers": {}},
    "mcpServer/elicitation/request": {"action": "decline"},
    "item/tool/call": {
        "contentItems": [{"type": "inputText", "text": _NO_TOOL}],
        "success": False,
    },
    "execCommandApproval": {"decision": "denied"},
    "applyPatchApproval": {"decision": "denied"},
}


def settle(method: str, now_seconds: float) -> tuple[Json, str]:
    """The answer to a server request, and one word for the record of what was decided."""
    if method == "currentTime/read":
        return {"result": {"currentTimeAt": int(now_seconds)}}, "answered"
    answer = _ANSWERS.get(method)
    if answer is not None:
        return {"result": answer}, "declined"
    message = f"{method} is not supported by an unattended run"
    return {"error": {"code": -32601, "message": message}}, "refused"

"""Questions of an agent as the log tells them: opened, settled, and what an answer may say.

Pure. A question is open from its `server-request-opened` to its `server-request-settled`, or until
the turn, the lease or the run ends: then nobody waits for its answer any more. Knows no command.
"""

from typing import Any, cast

from treadle.control.faults import InvalidRequest
from treadle.control.records import PendingRequest

OPENED = "server-request-opened"
SETTLED = "server-request-settled"
MAX_OPEN = 100
"""Open questions of one run that are kept; a runner asks fewer at a time."""
ID_LIMIT = 200
SUMMARY_LIMIT = 500
NOT_OPEN = (
    "request-not-open: no such request waits for an answer; the run's pendingRequests are those "
    "that do."
)


def check_opened(payload: dict[str, Any], path: str) -> None:
    """Refuse a question that could not be answered; raises InvalidRequest."""
    request_id = payload.get("requestId")
    if not isinstance(request_id, str) or not 1 <= len(request_id) <= ID_LIMIT:
        raise InvalidRequest(
            f"requestId must have 1 to {ID_LIMIT} characters.", f"{path}.payload.requestId"
        )
    if not _texts(payload.get("decisions")):
        raise InvalidRequest("decisions must be a list of words.", f"{path}.payload.decisions")


def opened(payload: dict[str, Any], command_id: str | None, seq: int) -> PendingRequest:
    """The question that an event of the phase `OPENED` asks."""
    return PendingRequest(
        id=str(payload.get("requestId")),
        command_id=command_id,
        kind=_text(payload, "kind"),
        method=_text(payload, "method"),
        summary=_text(payload, "summary")[:SUMMARY_LIMIT],
        decisions=_texts(payload.get("decisions")),
        expires_at=_text(payload, "expiresAt") or None,
        seq=seq,
    )


def why_not(pending: dict[str, PendingRequest], payload: dict[str, Any]) -> str | None:
    """Why an answer cannot count, in words for its sender; None when it can."""
    request = pending.get(str(payload.get("requestId")))
    if request is None:
        return NOT_OPEN
    if payload.get("decision") not in request.decisions:
        return f"decision-not-offered: decide one of {', '.join(request.decisions)}."
    return None


def _text(payload: dict[str, Any], name: str) -> str:
    value = payload.get(name)
    return value if isinstance(value, str) else ""


def _texts(value: object) -> list[str]:
    if not isinstance(value, list):
        return []
    return [word for word in cast("list[object]", value) if isinstance(word, str)]

"""Redaction where bodies enter: what looks like a token is stored nowhere.

The last net, not the first one: a runner knows the exact values of its secrets and redacts them
before it sends. Here only shapes are recognised, and the manager's own API token. Knows nothing of
what a body means.
"""

import msgspec

from treadle.control.faults import InvalidRequest
from treadle.kit.redact import MARK, Redactor

SHAPES = Redactor([], token_shapes=True)
"""For texts that leave the manager without a request at hand, such as details of problems."""


def make_redactor(api_token: str | None) -> Redactor:
    """What a manager with this API token redacts."""
    return Redactor([api_token] if api_token else [], token_shapes=True)


def redact_body(body: bytes, redactor: Redactor) -> bytes:
    """A JSON body without tokens; most bodies come back as they are, undecoded.

    A suspicious body is always encoded anew, since of a key given twice only the last value would
    be looked at.

    Raises:
        InvalidRequest: a suspicious body is no JSON; what cannot be read is not let through.
    """
    if not redactor.suspects(body.decode(errors="replace")):
        return body
    try:
        return msgspec.json.encode(redactor.value(msgspec.json.decode(body)))
    except msgspec.MsgspecError as error:
        raise InvalidRequest(str(error), "$") from error
    except UnicodeError as error:
        raise InvalidRequest("The body is not UTF-8.", "$") from error
    except RecursionError as error:
        raise InvalidRequest("The body is nested too deeply.", "$") from error


def refuse_redacted(name: str, path: str) -> None:
    """Refuse a name that had to be redacted: two of them would become one.

    Raises:
        InvalidRequest: it holds the mark of a redaction.
    """
    if MARK in name:
        raise InvalidRequest(
            "This looks like a token, which is never stored; choose another.", path
        )

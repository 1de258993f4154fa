"""Envelopes: JSON-RPC 2.0 without its `jsonrpc` member, as the Codex app-server speaks it.

Turns bytes into requests, notifications and responses and back. Request ids are kept as the bytes
they came in, so that they are echoed exactly. Knows no method. What cannot be parsed is None: the
references answer nothing to it, neither do we (protocol 0.129.0, 0.169.0).
"""

from typing import Any, cast

import msgspec

_INT64_MAX = 2**63 - 1
_INT64_MIN = -(2**63)


class Request(msgspec.Struct, frozen=True, gc=False):
    """A request of the peer; `raw_params` is None when it sent none."""

    raw_id: bytes
    method: str
    raw_params: bytes | None


class Notification(msgspec.Struct, frozen=True, gc=False):
    """A notification of the peer; `seq` is its number in its thread, if it has one."""

    method: str
    raw_params: bytes | None
    seq: int | None = None


class Response(msgspec.Struct, frozen=True, gc=False):
    """An answer of the peer to a request of ours: a raw result, or an error object."""

    raw_id: bytes
    raw_result: bytes | None
    error: dict[str, Any] | None


Message = Request | Notification | Response


class _Envelope(msgspec.Struct, gc=False):
    method: str | None = None
    id: msgspec.Raw = msgspec.Raw()
    params: msgspec.Raw = msgspec.Raw()
    result: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()
    seq: Any = None


_decoder = msgspec.json.Decoder(_Envelope)
_json = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()
encode = _encoder.encode


def _is_request_id(raw: bytes) -> bool:
    """Whether `raw` is a string or an integer of 64 bits."""
    if raw[:1] == b'"':
        return True
    try:
        return _INT64_MIN <= int(raw) <= _INT64_MAX
    except ValueError:
        return False


def decode(frame: bytes) -> Message | None:
    """The message in one frame; None when it is none of the protocol's.

    Bytes that are not UTF-8 make one frame unreadable, never the connection.
    """
    try:
        envelope = _decoder.decode(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    raw_id = bytes(envelope.id).strip()
    if envelope.method is not None:
        params = bytes(envelope.params)
        raw_params = None if params in (b"", b"null") else params
        if _is_request_id(raw_id):
            return Request(raw_id, envelope.method, raw_params)
        seq: object = envelope.seq
        return Notification(envelope.method, raw_params, seq if isinstance(seq, int) else None)
    if not _is_request_id(raw_id):
        return None
    if bytes(envelope.error):
        error: Any = _json.decode(envelope.error)
        if isinstance(error, dict):
            return Response(raw_id, None, cast("dict[str, Any]", error))
        return Response(raw_id, None, {"message": str(error)})
    result = bytes(envelope.result)
    return Response(raw_id, result, None) if result else None


class _Result(msgspec.Struct):
    id: msgspec.Raw
    result: Any


def encode_result(raw_id: bytes, result: Any) -> bytes:
    """The response to a request that succeeded."""
    # Encoded as one: an answer of many megabytes is not copied for what stands around it.
    return encode(_Result(msgspec.Raw(raw_id), result))


def encode_error(raw_id: bytes, code: int, message: str, data: Any = None) -> bytes:
    """The response to a request that failed; `data` is left out when None."""
    error: dict[str, Any] = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    return b'{"error":%b,"id":%b}' % (encode(error), raw_id)


def encode_request(request_id: int | str, method: str, params: Any) -> bytes:
    """A request of ours."""
    return b'{"method":%b,"id":%b,"params":%b}' % (
        encode(method),
        encode(request_id),
        encode(params),
    )


def encode_notification(
    method: str, params: Any, emitted_at_ms: int | None, seq: int | None = None
) -> bytes:
    """A notification; servers stamp each with the unix milliseconds of its making (0.169.0).

    `seq`, the number in its thread, stands beside the parameters, whose shape it leaves alone.
    """
    head = b'{"method":%b' % encode(method)
    if params is not None:
        head += b',"params":%b' % encode(params)
    if seq is not None:
        head += b',"seq":%d' % seq
    return head + (b"}" if emitted_at_ms is None else b',"emittedAtMs":%d}' % emitted_at_ms)

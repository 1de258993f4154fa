from typing import Any

import pytest

from treadle.wire.protocol import codec
from treadle.wire.protocol.errors import INVALID_REQUEST, RpcError
from treadle.wire.protocol.settings import ConfigBatchWriteParams
from treadle.wire.protocol.threads import ThreadListParams, ThreadReadParams, ThreadStartParams
from treadle.wire.protocol.turns import TurnStartParams

WRONG = [
    (ThreadReadParams, b"{}", "missing field `threadId`"),
    (ThreadReadParams, b'{"threadId":7}', "invalid type: integer `7`, expected a string"),
    (ThreadReadParams, b'{"threadId":null}', "invalid type: null, expected a string"),
    (ThreadReadParams, b'{"threadId":[]}', "invalid type: sequence, expected a string"),
    (
        ThreadReadParams,
        b'{"threadId":"a","includeTurns":"yes"}',
        'invalid type: string "yes", expected a boolean',
    ),
    (ThreadListParams, b'{"limit":-1}', "invalid value: integer `-1`, expected u32"),
    (
        ThreadListParams,
        b'{"limit":4294967296}',
        "invalid value: integer `4294967296`, expected u32",
    ),
    (ThreadListParams, b'{"limit":"a"}', 'invalid type: string "a", expected u32'),
    (
        ThreadListParams,
        b'{"sortDirection":"up"}',
        "unknown variant `up`, expected one of `asc`, `desc`",
    ),
    (TurnStartParams, b'{"threadId":"a"}', "missing field `input`"),
    (TurnStartParams, b'{"threadId":"a","input":{}}', "invalid type: map, expected a sequence"),
    (TurnStartParams, b'{"threadId":"a","input":[{"type":"text"}]}', "missing field `text`"),
    (ConfigBatchWriteParams, b'{"edits":[{"value":1}]}', "missing field `keyPath`"),
]


@pytest.mark.parametrize(("kind", "raw", "text"), WRONG, ids=lambda value: str(value)[:40])
def test_the_error_says_what_is_wrong_in_the_words_of_the_references(
    kind: Any, raw: bytes, text: str
):
    with pytest.raises(RpcError) as raised:
        codec.decode_params(raw, kind)
    assert raised.value.code == INVALID_REQUEST
    assert raised.value.message == f"Invalid request: {text}"


def test_an_unknown_input_type_names_the_known_ones():
    with pytest.raises(RpcError) as raised:
        codec.decode_params(b'{"threadId":"a","input":[{"type":"smell"}]}', TurnStartParams)
    message = raised.value.message
    assert message.startswith("Invalid request: unknown variant `smell`, expected one of ")
    assert "`text`" in message
    assert "`localImage`" in message


def test_absent_parameters_are_named():
    with pytest.raises(RpcError, match="missing field `params`"):
        codec.decode_params(None, ThreadReadParams)


def test_unknown_members_are_tolerated():
    params = codec.decode_params(b'{"ephemeral":true,"fromTheFuture":[1]}', ThreadStartParams)
    assert params.ephemeral is True


def test_bytes_that_are_no_text_are_an_error_of_the_request():
    with pytest.raises(RpcError) as raised:
        codec.decode_params(b'{"threadId":"\xff"}', ThreadReadParams)
    assert raised.value.code == INVALID_REQUEST


@pytest.mark.parametrize("raw", [None, b"{}", b" {} "])
def test_methods_without_parameters_take_none_or_an_empty_object(raw: bytes | None):
    codec.check_no_params(raw)


@pytest.mark.parametrize(
    ("raw", "shown"), [(b"[]", "sequence"), (b'{"a":1}', "map"), (b"1.5", "f")]
)
def test_methods_without_parameters_refuse_others(raw: bytes, shown: str):
    with pytest.raises(RpcError, match=f"invalid type: {shown}.*expected unit"):
        codec.check_no_params(raw)

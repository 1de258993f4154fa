import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.wire.protocol import jsonrpc
from treadle.wire.protocol.jsonrpc import Notification, Request, Response

IDS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.text(max_size=20))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(IDS, VALUES)
def test_an_answer_carries_the_very_id_of_its_request(request_id: int | str, result: Any):
    frame = json.dumps({"id": request_id, "method": "m", "params": {}}).encode()
    request = jsonrpc.decode(frame)
    assert isinstance(request, Request)
    for answer in (
        jsonrpc.encode_result(request.raw_id, result),
        jsonrpc.encode_error(request.raw_id, -32600, "no"),
    ):
        assert request.raw_id in answer
        echoed = json.loads(answer)["id"]
        assert (echoed, type(echoed)) == (request_id, type(request_id))


@pytest.mark.parametrize("raw", ['"\\u00e9"', "-0", "9223372036854775807", '""', '"a\\/b"'])
def test_ids_are_echoed_byte_for_byte(raw: str):
    request = jsonrpc.decode(b'{"method":"m","id":%b}' % raw.encode())
    assert isinstance(request, Request)
    assert jsonrpc.encode_result(request.raw_id, {}) == b'{"id":%b,"result":{}}' % raw.encode()


@given(IDS, VALUES)
def test_requests_notifications_and_answers_survive_the_way(request_id: int | str, params: Any):
    params = {"value": params}
    request = jsonrpc.decode(jsonrpc.encode_request(request_id, "a/b", params))
    assert isinstance(request, Request)
    assert json.loads(request.raw_id) == request_id
    assert json.loads(request.raw_params or b"") == params
    told = jsonrpc.decode(jsonrpc.encode_notification("a/b", params, 17))
    assert isinstance(told, Notification)
    assert json.loads(told.raw_params or b"") == params
    answer = jsonrpc.decode(jsonrpc.encode_result(request.raw_id, params))
    assert isinstance(answer, Response)
    assert answer.raw_id == request.raw_id
    assert json.loads(answer.raw_result or b"") == params


@given(st.binary(max_size=60))
def test_no_bytes_break_the_decoder(frame: bytes):
    jsonrpc.decode(frame)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"[]",
        b"null",
        b'"text"',
        b"{",
        b'{"id":1}',
        b'{"id":1.5,"result":{}}',
        b'{"id":null,"result":{}}',
        b'{"id":true,"result":{}}',
        b'{"id":{},"error":{}}',
        b'{"method":7,"id":1}',
        b'{"method":"m\xff","id":1}',
        b'{"result":{}}',
    ],
)
def test_what_is_no_message_is_nothing(frame: bytes):
    assert jsonrpc.decode(frame) is None


@pytest.mark.parametrize("params", [b"", b',"params":null'])
def test_missing_and_null_parameters_are_the_same(params: bytes):
    request = jsonrpc.decode(b'{"method":"m","id":1%b}' % params)
    assert isinstance(request, Request)
    assert request.raw_params is None


@pytest.mark.parametrize("member", [b"", b',"id":null', b',"id":1.5', b',"id":9223372036854775808'])
def test_a_method_without_a_usable_id_is_a_notification(member: bytes):
    assert jsonrpc.decode(b'{"method":"m"%b}' % member) == Notification("m", None)


def test_errors_carry_data_only_when_there_is_some():
    assert json.loads(jsonrpc.encode_error(b"1", -32600, "no")) == {
        "id": 1,
        "error": {"code": -32600, "message": "no"},
    }
    with_data = json.loads(jsonrpc.encode_error(b"1", -32602, "no", {"max": 3}))
    assert with_data["error"]["data"] == {"max": 3}


def test_notifications_of_servers_carry_their_time():
    assert msgspec.json.decode(jsonrpc.encode_notification("a", {}, 17))["emittedAtMs"] == 17
    assert json.loads(jsonrpc.encode_notification("initialized", None, None)) == {
        "method": "initialized"
    }


def test_an_error_that_is_no_object_still_answers():
    answer = jsonrpc.decode(b'{"id":1,"error":"broken"}')
    assert answer == Response(b"1", None, {"message": "broken"})

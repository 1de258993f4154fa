"""What a caller may learn of an error."""

import logging

import msgspec
import pytest

from treadle.control.faults import DatabaseUnusable, LeaseHeld
from treadle.control.http.problems import invalid_body, problem_of


def test_an_unknown_error_leaves_as_one_constant_text_and_a_log_id(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR):
        response = problem_of(RuntimeError("/secret/path: SELECT * FROM runs"))
    body = msgspec.json.decode(response.body)
    assert (response.status_code, body["code"]) == (500, "internal")
    assert b"secret" not in bytes(response.body)
    assert body["logId"] in caplog.text


def test_a_database_failure_is_worth_trying_again_and_shows_nothing_of_it() -> None:
    fault = DatabaseUnusable("The database refused the write; see the manager's log.")
    fault.__cause__ = OSError("/secret/path")
    response = problem_of(fault)
    assert response.status_code == 503
    assert b"secret" not in bytes(response.body)


def test_retry_after_is_in_whole_seconds_rounded_up() -> None:
    assert problem_of(LeaseHeld("a", 1200)).headers["retry-after"] == "2"


def test_a_decoding_error_keeps_the_path_of_its_field() -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(b'{"a":[1,"x"]}', type=dict[str, list[int]])
    assert invalid_body(caught.value).path == "$[...][1]"

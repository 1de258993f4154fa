"""How the manager's client behaves when answers are lost, refused or late."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from treadle.runner.manager_client import ManagerClient, ManagerError, ManagerUnreachable

RUN = {"id": "r", "status": "pending"}
Answer = httpx.Response | Exception


def client(*answers: Answer, token: str | None = None) -> tuple[ManagerClient, list[httpx.Request]]:
    """A client that gets `answers` in turn, and what it sent."""
    sent: list[httpx.Request] = []
    left = list(answers)

    def handle(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    transport = httpx.MockTransport(handle)
    return ManagerClient("http://manager.test", token, transport=transport), sent


def ok(body: Any) -> httpx.Response:
    return httpx.Response(200, json=body)


def problem(status: int, code: str, **members: Any) -> httpx.Response:
    return httpx.Response(status, json={"code": code, "detail": f"about {code}", **members})


CUT = httpx.ReadError("cut")
BUSY = problem(503, "overloaded", retryAfterMs=1)


async def test_a_read_is_tried_again_after_a_cut_and_an_overload() -> None:
    manager, sent = client(CUT, BUSY, ok(RUN))
    assert (await manager.get_run("r")).id == "r"
    assert len(sent) == 3


async def test_a_repeated_creation_carries_the_same_key() -> None:
    manager, sent = client(CUT, ok(RUN))
    await manager.create_run({"backendProfile": "codex"})
    first, second = (json.loads(request.content)["idempotencyKey"] for request in sent)
    assert first == second


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.append("r", "t", 1, 1, []),
        lambda m: m.heartbeat("x", "t", []),
        lambda m: m.claim_from_pool("x", wait_ms=0),
        lambda m: m.claim("r", "x", None, None),
    ],
)
async def test_what_its_caller_repeats_is_sent_once(call: Callable[[ManagerClient], Any]) -> None:
    manager, sent = client(CUT)
    with pytest.raises(ManagerUnreachable, match="No answer from the manager"):
        await call(manager)
    assert len(sent) == 1


async def test_a_refusal_carries_its_code_and_what_to_do() -> None:
    manager, _ = client(problem(409, "lease-held", retryAfterMs=1500))
    with pytest.raises(ManagerError) as refused:
        await manager.claim("r", "x", None, "a")
    error = refused.value
    assert (error.status, error.code, error.detail) == (409, "lease-held", "about lease-held")
    assert error.retry_after_seconds == 1.5


@pytest.mark.parametrize("content", [b"<html>", b"[1]", b""])
async def test_an_error_page_of_somebody_else_is_still_an_error(content: bytes) -> None:
    manager, _ = client(httpx.Response(404, content=content))
    with pytest.raises(ManagerError, match="status 404"):
        await manager.get_run("r")


async def test_an_answer_of_another_shape_is_named_so() -> None:
    manager, _ = client(ok({"unexpected": 1}))
    with pytest.raises(ManagerError, match="answer-invalid"):
        await manager.get_run("r")


async def test_writes_under_a_claim_carry_the_claims_token_and_not_the_api_token() -> None:
    answer = {"ackedProducerSeq": 1, "remainingMs": 5}
    manager, sent = client(ok(answer), ok(RUN), token="api")
    await manager.append("r", "claim", 1, 1, [])
    await manager.get_run("r")
    assert [r.headers["authorization"] for r in sent] == ["Bearer claim", "Bearer api"]


async def test_following_goes_on_where_a_cut_stream_ended() -> None:
    def frame(seq: int) -> str:
        return f'id: {seq}\ndata: {{"seq":{seq},"type":"t"}}\n\n'

    first = httpx.Response(200, text=": hello\n\n" + frame(1) + frame(2))
    rest = httpx.Response(200, text=frame(3) + "event: end\ndata: {}\n\n")
    manager, sent = client(first, CUT, rest)
    assert [event.seq async for event in manager.follow("r")] == [1, 2, 3]
    assert [request.url.params["afterSeq"] for request in sent] == ["0", "2", "2"]

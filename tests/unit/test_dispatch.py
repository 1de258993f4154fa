import asyncio
from typing import Any, cast

import pytest

from treadle.appserver.context import Services
from treadle.appserver.dispatch import Dispatch
from treadle.appserver.session import Session
from treadle.kit.tasks import TaskScope
from treadle.wire.protocol.jsonrpc import Request
from treadle.wire.rpc.lanes import Lanes
from treadle.wire.rpc.peer import Peer
from treadle.wire.transport.memory import memory_channels

READ = Request(b"1", "thread/read", b'{"threadId":"t"}')


def make_session() -> Session:
    here, _there = memory_channels()
    session = Session(1, Peer(here), TaskScope("session"))
    session.initialized = True
    return session


async def served(_context: Any, _params: Any) -> dict[str, Any]:
    return {}


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
async def test_a_connection_that_goes_frees_its_lane_however_far_its_request_got(steps: int):
    held = asyncio.Event()

    async def hold(_context: Any, _params: Any) -> None:
        await held.wait()

    lanes, session = Lanes(), make_session()
    Dispatch(cast("Services", None), {"thread/read": hold}, lanes).take(session, READ)
    assert (len(lanes), session.gate.count) == (1, 1)
    for _ in range(steps):
        await asyncio.sleep(0)
    assert await session.scope.close(1.0)
    await asyncio.sleep(0)
    assert (len(lanes), session.gate.count) == (0, 0)


async def test_an_answered_request_leaves_lane_and_gate():
    lanes, session = Lanes(), make_session()
    Dispatch(cast("Services", None), {"thread/read": served}, lanes).take(session, READ)
    assert await session.scope.join(1.0)
    assert await session.gate.drained(1.0)
    assert len(lanes) == 0
    assert await session.peer.outbox.take() == [b'{"id":1,"result":{}}']


async def test_past_the_bound_requests_are_told_to_come_again():
    held = asyncio.Event()

    async def hold(_context: Any, _params: Any) -> None:
        await held.wait()

    session = make_session()
    dispatch = Dispatch(cast("Services", None), {"thread/list": hold}, Lanes())
    while session.gate.count < 512:
        dispatch.take(session, Request(b"1", "thread/list", b"{}"))
    assert session.peer.outbox.idle
    dispatch.take(session, Request(b'"last"', "thread/list", b"{}"))
    (refused,) = await session.peer.outbox.take()
    assert b'"id":"last"' in refused
    assert b'"code":-32001' in refused
    held.set()
    assert await session.scope.join(5.0)


async def test_what_breaks_in_a_handler_leaks_nothing(caplog: pytest.LogCaptureFixture):
    async def broken(_context: Any, _params: Any) -> None:
        raise KeyError("sk-secret")

    session = make_session()
    Dispatch(cast("Services", None), {"thread/list": broken}, Lanes()).take(
        session, Request(b"1", "thread/list", b"{}")
    )
    assert await session.scope.join(1.0)
    (answer,) = await session.peer.outbox.take()
    assert b'"code":-32603' in answer
    assert b"sk-secret" not in answer
    assert "thread/list failed unexpectedly" in caplog.text

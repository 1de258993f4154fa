"""From a request to its handler: table row, checks, lane, answer.

The order of checks is the references': known method, parameters, handshake, experimental gate, room
in the queue, lane, handler (protocol 0.129.0, 0.169.0). Knows methods only through the table and
handlers only as a mapping.
"""

import logging
from collections.abc import Mapping
from typing import Any

from treadle.appserver.context import Context, Handler, Services
from treadle.appserver.faults import translate
from treadle.appserver.session import Session
from treadle.kit.tracing import span
from treadle.wire.protocol import codec, jsonrpc
from treadle.wire.protocol.errors import RpcError, invalid_request, overloaded, unsupported
from treadle.wire.protocol.method_spec import MethodSpec
from treadle.wire.protocol.methods import METHODS
from treadle.wire.rpc.errors import to_wire
from treadle.wire.rpc.lanes import Lanes, Ticket

logger = logging.getLogger(__name__)


class Dispatch:
    """Serves the requests of all sessions of one server."""

    def __init__(self, services: Services, handlers: Mapping[str, Handler], lanes: Lanes) -> None:
        self._services = services
        self._handlers = handlers
        self._lanes = lanes

    def take(self, session: Session, message: jsonrpc.Message) -> None:
        """Take a message of a session's peer; never blocks, never raises."""
        if isinstance(message, jsonrpc.Response):
            self._services.subscriptions.requests.take(session, message)
            return
        if not isinstance(message, jsonrpc.Request):
            return
        try:
            spec, params = self._admit(session, message)
        except RpcError as error:
            session.peer.refuse(message.raw_id, error)
            return
        if not session.gate.enter():
            session.peer.refuse(message.raw_id, overloaded())
            return
        key = spec.lane_key(params, session.number)
        ticket = self._lanes.join(key, spec.lane.access) if key and spec.lane else None
        task = session.scope.start(self._serve(session, message, spec, params, ticket), spec.name)
        # Not in the task itself: one that is cancelled before its first step never runs at all,
        # and its place would block the lane for every connection.
        task.add_done_callback(lambda _task: _release(session, ticket))

    def _admit(self, session: Session, request: jsonrpc.Request) -> tuple[MethodSpec, Any]:
        spec = METHODS.get(request.method)
        if spec is None:
            known = ", ".join(f"`{name}`" for name in METHODS)
            raise invalid_request(
                f"Invalid request: unknown variant `{request.method}`, expected one of {known}"
            )
        params = _decode(spec, request.raw_params)
        if spec.name == "initialize":
            if session.initialized:
                raise invalid_request("Already initialized")
        elif not session.initialized:
            raise invalid_request("Not initialized")
        if not session.experimental and spec.name != "initialize":
            _check_experimental(spec, params)
        if not spec.offered:
            raise unsupported(f"{spec.name} is not supported yet")
        return spec, params

    async def _serve(
        self,
        session: Session,
        request: jsonrpc.Request,
        spec: MethodSpec,
        params: Any,
        ticket: Ticket | None,
    ) -> None:
        context = Context(session, self._services)
        held: str | None = None
        try:
            if ticket is not None:
                await ticket.turn()
            thread_id = getattr(params, "thread_id", None)
            with span(f"rpc {spec.name}", {"thread.id": thread_id}):
                if thread_id and spec.wakes:
                    await self._services.resting.hold(thread_id)
                    held = thread_id
                result = await self._handlers[spec.name](context, params)
            session.peer.reply(request.raw_id, result)
            for deed in context.later:
                deed()
        except Exception as error:  # noqa: BLE001 - the one boundary of requests
            session.peer.refuse(request.raw_id, to_wire(error, spec.name, translate))
        finally:
            if held is not None:
                self._services.resting.release(held)


def _release(session: Session, ticket: Ticket | None) -> None:
    """A request is over, however it ended: give up its place in the lane and in the gate."""
    if ticket is not None:
        ticket.leave()
    session.gate.leave()


def _decode(spec: MethodSpec, raw: bytes | None) -> Any:
    if not spec.offered:
        return None
    if spec.params is None:
        codec.check_no_params(raw)
        return None
    if raw is None and spec.optional_params:
        raw = b"{}"
    return codec.decode_params(raw, spec.params)


def _check_experimental(spec: MethodSpec, params: Any) -> None:
    if spec.experimental:
        raise invalid_request(f"{spec.name} requires experimentalApi capability")
    for attribute, wire_name in spec.experimental_fields:
        if getattr(params, attribute) not in (None, False):
            raise invalid_request(f"{spec.name}.{wire_name} requires experimentalApi capability")
    if isinstance(getattr(params, "approval_policy", None), dict):
        raise invalid_request("askForApproval.granular requires experimentalApi capability")

"""Serves websockets, over TCP or a unix socket, until a signal ends it.

A first signal drains: running turns may end while everything but new turns is served. A second one,
or the end of the last turn, ends the server.
"""

import asyncio
import contextlib
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from socket import socket

from treadle.appserver.drain import Drain
from treadle.cli.listen import Listen
from treadle.cli.signals import StopSignals
from treadle.cli.wiring.engine import Engine
from treadle.kit.clock import Clock, SystemClock
from treadle.wire.transport.bearer import Authenticator
from treadle.wire.transport.unix import SocketUnusable, claim_unix_socket
from treadle.wire.transport.websocket import WebsocketServer, bind_tcp

TICK_SECONDS = 0.1
"""How often a draining server looks whether turns still run."""


async def serve_websocket(
    engine: Engine, listen: Listen, authenticator: Authenticator | None = None
) -> int:
    """Serve `engine` at `listen` until a signal comes; the exit code."""
    signals = StopSignals()
    opened = _open(listen, Path(engine.services.facts.home))
    if isinstance(opened, str):
        print(f"treadle: {opened}", file=sys.stderr)
        await engine.close()
        return 1
    listener, release = opened
    server = WebsocketServer(engine.app.serve, authenticator)
    try:
        await server.open(listener)
        _announce(listen, listener)
        await signals.first.wait()
        await _drain(engine, signals, SystemClock())
        if server.connections:
            _say(f"disconnecting {server.connections} connection(s)")
        # Threads close while clients still listen, so that they hear how their turns ended.
        await engine.app.shutdown()
        await server.close()
    finally:
        release()
        await engine.close()
    return 0


async def _drain(engine: Engine, signals: StopSignals, clock: Clock) -> None:
    """Wait for running turns as long as the verdict says so."""
    drain = Drain()
    drain.signalled()
    engine.app.drain()
    started = clock.monotonic()
    if running := engine.app.running_turns:
        _say(f"draining: waiting for {running} running turn(s); one more signal stops them")
    while drain.verdict(engine.app.running_turns) == "wait":
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TICK_SECONDS):
                await signals.second.wait()
                drain.signalled()
        drain.waited_seconds = clock.monotonic() - started


def _open(listen: Listen, home: Path) -> tuple[socket, Callable[[], None]] | str:
    """The listening socket and what gives it up; a text for the user when there is none."""
    if listen.scheme == "unix":
        default = home / "app-server-control" / "app-server-control.sock"
        try:
            claimed = claim_unix_socket(listen.path or default, private_folder=listen.path is None)
        except SocketUnusable as error:
            return str(error)
        return claimed.socket, claimed.release
    try:
        tcp = bind_tcp(listen.host, listen.port)
    except OSError as error:
        return _explain(error, listen)
    return tcp, tcp.close


def _explain(error: OSError, listen: Listen) -> str:
    # Some systems put the address into the error's text; the number's own text never has it.
    reason = os.strerror(error.errno) if error.errno else str(error)
    remedies = {
        errno.EADDRINUSE: "another program listens there; stop it, name another port, or let the "
        "system pick one with port 0",
        errno.EADDRNOTAVAIL: "this machine has no such address; 127.0.0.1 always works",
        errno.EACCES: "this user may not take that port; name one above 1023",
    }
    remedy = remedies.get(error.errno or 0)
    return f"cannot listen on ws://{listen.address}: {reason}" + (f" ({remedy})" if remedy else "")


def _announce(listen: Listen, listener: socket) -> None:
    if listen.scheme == "unix":
        _say(f"treadle app-server (unix socket)\n  listening on: unix://{listener.getsockname()}")
        return
    real = Listen("ws", listen.host, listener.getsockname()[1])
    note = (
        "binds localhost only (use SSH port-forwarding for remote access)"
        if listen.loopback
        else "other machines can connect; clients need a bearer token"
    )
    _say(
        "treadle app-server (WebSockets)\n"
        f"  listening on: ws://{real.address}\n"
        f"  readyz: http://{real.address}/readyz\n"
        f"  healthz: http://{real.address}/healthz\n"
        f"  note: {note}"
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

"""`treadle app-server`: hosts agent threads over stdio, a websocket or a unix socket.

Over stdio without options, the usual case, the client is greeted before the server behind the
greeting is loaded; that is why most imports here are inside functions.
"""

import gc
import signal
import sys
from typing import TYPE_CHECKING

from treadle.config.environment import Environment
from treadle.config.load import HomeMissing, ensure_home, load_config, read_environment

if TYPE_CHECKING:
    import argparse

    from treadle.appserver.greeting import Greeting
    from treadle.cli.listen import Listen
    from treadle.config.store import ConfigStore
    from treadle.wire.transport.bearer import Authenticator
    from treadle.wire.transport.claimed import ClaimedStreams

_COLLECT_AT_OBJECTS = 5_000
"""So many new objects are a reason to look for garbage; Python's own number is 700."""

_PLAIN: tuple[list[str], ...] = ([], ["--stdio"], ["--listen", "stdio://"])
"""Command lines that change nothing about configuration or transport."""


def build_parser() -> "argparse.ArgumentParser":
    """The command's options."""
    import argparse

    from treadle.cli.config_flags import add_config_flags
    from treadle.cli.ws_auth import add_auth_flags

    parser = argparse.ArgumentParser(
        prog="treadle app-server",
        description="Host agent threads over stdio, a websocket or a unix socket.",
    )
    parser.add_argument(
        "--listen",
        default="stdio://",
        metavar="URL",
        help="stdio:// (default), unix://, unix:///PATH or ws://IP:PORT",
    )
    parser.add_argument("--stdio", action="store_true", help="the same as --listen stdio://")
    add_auth_flags(parser)
    add_config_flags(parser)
    return parser


def run(arguments: list[str]) -> int:
    """Serve until the client leaves or a signal comes; the exit code."""
    environment = read_environment()
    gc.disable()  # until the engine is loaded: see `_loaded`
    if arguments in _PLAIN:
        return _run_stdio(environment, None)
    return _run_with_options(arguments, environment)


def _loaded() -> None:
    """Everything is loaded: what is there now stays, and the collector need not look at it.

    What comes later has few cycles; looking for them less often saves a sixth of the time that
    reading a long thread takes.
    """
    gc.freeze()
    gc.set_threshold(_COLLECT_AT_OBJECTS)
    gc.enable()


def _run_with_options(arguments: list[str], environment: Environment) -> int:
    from treadle.cli.config_flags import open_config
    from treadle.cli.listen import BadListen, NoTransport, parse_listen
    from treadle.cli.ws_auth import BadAuth, make_authenticator

    options = build_parser().parse_args(arguments)
    try:
        listen = parse_listen("stdio://" if options.stdio else options.listen)
        authenticator = make_authenticator(options, listen)
    except (BadListen, BadAuth) as error:
        print(f"treadle: {error}", file=sys.stderr)
        return 1 if isinstance(error, NoTransport | BadAuth) else 2
    config = open_config(options)
    if config is None:
        return 1
    if listen.scheme == "stdio":
        return _run_stdio(environment, config)
    _write_log()

    import asyncio

    return asyncio.run(_serve_sockets(config, listen, authenticator))


def _write_log() -> None:
    import logging

    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(name)s %(message)s"
    )


async def _serve_sockets(
    config: "ConfigStore", listen: "Listen", authenticator: "Authenticator | None"
) -> int:
    from treadle.cli.listen_ws import serve_websocket
    from treadle.cli.wiring.engine import build_engine

    try:
        engine = build_engine(config)
    except HomeMissing as error:
        print(f"treadle: {error}", file=sys.stderr)
        return 1
    _loaded()
    engine.fill_index()
    return await serve_websocket(engine, listen, authenticator)


def _run_stdio(environment: Environment, config: "ConfigStore | None") -> int:
    """Greet whoever is there, and only then load what serves them."""
    from treadle.appserver.front_door import answer_the_door
    from treadle.cli.wiring.facts import server_facts
    from treadle.wire.transport.claimed import claim

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    try:
        home = ensure_home(environment)
        streams = claim()
        greeting = answer_the_door(streams, server_facts(home))
    except HomeMissing as error:
        print(f"treadle: {error}", file=sys.stderr)
        return 1
    except OSError:
        return 0  # the client has left
    _write_log()

    import asyncio

    return asyncio.run(_serve_stdio(environment, config, streams, greeting))


def _leave(_number: int, _frame: object) -> None:
    """Nothing is served yet that would have to end."""
    sys.exit(0)


async def _serve_stdio(
    environment: Environment,
    config: "ConfigStore | None",
    streams: "ClaimedStreams",
    greeting: "Greeting | None",
) -> int:
    import asyncio

    from treadle.wire.transport.stdio import open_stdio

    channel = await open_stdio(streams)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, channel.end_input)
    from treadle.cli.wiring.engine import build_engine

    try:
        engine = build_engine(config or load_config(environment))
    except HomeMissing as error:
        print(f"treadle: {error}", file=sys.stderr)
        return 1
    _loaded()
    engine.fill_index()
    await engine.app.serve(channel, last=True, greeting=greeting)
    await engine.close()
    return 0

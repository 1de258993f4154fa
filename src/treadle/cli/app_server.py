"""`treadle app-server`: hosts agent threads over stdio, a websocket or a unix socket."""

import argparse
import asyncio
import logging
import signal
import sys

from treadle.cli.config_flags import add_config_flags, open_config
from treadle.cli.listen import BadListen, Listen, NoTransport, parse_listen
from treadle.cli.wiring.engine import Engine, HomeMissing, build_engine
from treadle.cli.wiring.loop import run_loop
from treadle.cli.ws_auth import BadAuth, add_auth_flags, make_authenticator
from treadle.config.load import ConfigStore
from treadle.wire.transport.bearer import Authenticator


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(prog="treadle app-server", description=__doc__)
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
    options = build_parser().parse_args(arguments)
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(name)s %(message)s"
    )
    try:
        listen = parse_listen("stdio://" if options.stdio else options.listen)
        authenticator = make_authenticator(options, listen)
    except (BadListen, BadAuth) as error:
        print(f"treadle: {error}", file=sys.stderr)
        return 1 if isinstance(error, NoTransport | BadAuth) else 2
    config = open_config(options)
    if config is None:
        return 1
    return run_loop(_serve(config, listen, authenticator))


async def _serve(config: ConfigStore, listen: Listen, authenticator: Authenticator | None) -> int:
    try:
        engine = build_engine(config)
    except HomeMissing as error:
        print(f"treadle: {error}", file=sys.stderr)
        return 1
    if listen.scheme != "stdio":
        from treadle.cli.listen_ws import serve_websocket

        return await serve_websocket(engine, listen, authenticator)
    return await _serve_stdio(engine)


async def _serve_stdio(engine: Engine) -> int:
    from treadle.wire.transport.stdio import claim_stdio

    channel = await claim_stdio()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, channel.end_input)
    await engine.app.serve(channel, last=True)
    await engine.close()
    return 0

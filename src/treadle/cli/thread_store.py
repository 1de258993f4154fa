"""`treadle thread-store`: a server that keeps threads for app-servers on any machine."""

import argparse
import ipaddress
import sys
from importlib.util import find_spec
from pathlib import Path

from treadle.cli.signals import StopSignals
from treadle.cli.wiring.loop import run_loop
from treadle.config.load import read_environment

DEFAULT_PORT = 7718
DEFAULT_LISTEN = f"127.0.0.1:{DEFAULT_PORT}"
LEASE_SECONDS = 15.0


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(
        prog="treadle thread-store",
        description=__doc__,
        epilog="app-servers use it with `experimental_thread_store = "
        '{ type = "remote", endpoint = "http://HOST:PORT" }` in config.toml',
    )
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="keep threads until a signal comes")
    serve.add_argument("--listen", metavar="HOST:PORT", default=DEFAULT_LISTEN)
    serve.add_argument(
        "--database",
        metavar="URL",
        help="sqlite:///PATH; default: thread-store.db in the home folder",
    )
    serve.add_argument(
        "--lease-seconds",
        type=_positive,
        default=LEASE_SECONDS,
        metavar="N",
        help="how long a silent writer keeps its thread (default: %(default)g)",
    )
    serve.add_argument(
        "--without-login",
        action="store_true",
        help="listen beyond this machine although everybody who reaches the address may read and "
        "write all threads; meant for a private network, or behind a proxy that checks callers",
    )
    free = commands.add_parser("free", help="take a thread away from its writer")
    free.add_argument("thread_id", metavar="THREAD")
    free.add_argument("--endpoint", metavar="URL", default=f"http://{DEFAULT_LISTEN}")
    return parser


def run(arguments: list[str]) -> int:
    """Serve until a signal comes, or free a thread; the exit code."""
    options = build_parser().parse_args(arguments)
    if find_spec("grpc") is None:
        print(
            "treadle thread-store: gRPC is not installed; run `pip install 'treadle[grpc]'`",
            file=sys.stderr,
        )
        return 1
    return run_loop(_serve(options) if options.command == "serve" else _free(options))


async def _serve(options: argparse.Namespace) -> int:
    from treadle.engine.store.remote.server import serve
    from treadle.engine.store.thread_store import StoreError
    from treadle.kit.clock import SystemClock

    try:
        path = _database_path(options.database)
        _check_listen(options.listen, open_to_all=options.without_login)
    except ValueError as error:
        print(f"treadle thread-store: {error}", file=sys.stderr)
        return 2
    signals = StopSignals()
    try:
        server = await serve(path, options.listen, SystemClock(), options.lease_seconds)
    except StoreError as error:
        print(f"treadle thread-store: {error}", file=sys.stderr)
        return 1
    print(f"treadle thread-store listening on http://{server.address}", flush=True)
    await signals.first.wait()
    await server.stop()
    return 0


async def _free(options: argparse.Namespace) -> int:
    from treadle.engine.store.remote.store import RemoteThreadStore
    from treadle.engine.store.thread_store import StoreError
    from treadle.kit.clock import SystemClock

    try:
        store = RemoteThreadStore(options.endpoint, SystemClock())
        try:
            writer, _ = await store.take_over(options.thread_id)
            await writer.close()
        finally:
            await store.close()
    except StoreError as error:
        print(f"treadle thread-store: {error}", file=sys.stderr)
        return 1
    print(f"thread {options.thread_id} is free", flush=True)
    return 0


def _positive(text: str) -> float:
    seconds = float(text)
    if not seconds > 0:
        raise argparse.ArgumentTypeError(f"{text} is not more than 0")
    return seconds


def _database_path(url: str | None) -> Path:
    environment = read_environment()
    if url is None:
        return environment.home_folder() / "thread-store.db"
    scheme, mark, rest = url.partition(":///")
    if scheme != "sqlite" or not mark or not rest:
        raise ValueError(f"--database {url} is no sqlite:///PATH")
    return environment.expand(rest, environment.working_folder)


def _check_listen(listen: str, *, open_to_all: bool) -> None:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"--listen {listen} is no HOST:PORT")
    bare = host.strip("[]")
    try:
        here = bare == "localhost" or ipaddress.ip_address(bare).is_loopback
    except ValueError:
        here = False
    if not here and not open_to_all:
        raise ValueError(
            f"{host} is reachable beyond this machine and the server has no login; listen on"
            " 127.0.0.1, or say --without-login"
        )

"""The flags that protect a websocket, and the authenticator that they describe."""

import argparse
import re
from pathlib import Path

from treadle.cli.listen import Listen
from treadle.wire.transport.bearer import Authenticator, CapabilityToken, SignedToken

MODES = ("capability-token", "signed-bearer-token")
MIN_SECRET_BYTES = 32

_EITHER = "`--ws-auth capability-token` or `--ws-auth signed-bearer-token`"
_TOKEN_FLAGS = ("ws_token_file", "ws_token_sha256")
_SIGNED_FLAGS = (
    "ws_shared_secret_file",
    "ws_issuer",
    "ws_audience",
    "ws_max_clock_skew_seconds",
)


class BadAuth(ValueError):
    """The flags do not protect anything; the text says what is missing."""


def add_auth_flags(parser: argparse.ArgumentParser) -> None:
    """Add `--ws-auth` and the flags that go with it."""
    group = parser.add_argument_group("who may open a websocket")
    group.add_argument("--ws-auth", choices=MODES, help="how clients prove who they are")
    group.add_argument(
        "--ws-token-file", type=Path, metavar="PATH", help="the capability token's file"
    )
    group.add_argument(
        "--ws-token-sha256", metavar="HEX", help="SHA-256 of the capability token, 64 hex digits"
    )
    group.add_argument(
        "--ws-shared-secret-file",
        type=Path,
        metavar="PATH",
        help="the secret that signs tokens (HS256), 32 bytes or more",
    )
    group.add_argument("--ws-issuer", metavar="NAME", help="refuse tokens of other issuers")
    group.add_argument("--ws-audience", metavar="NAME", help="refuse tokens for other audiences")
    group.add_argument(
        "--ws-max-clock-skew-seconds",
        type=_seconds,
        metavar="N",
        help="how far the issuer's clock may be off (default 30)",
    )


def make_authenticator(options: argparse.Namespace, listen: Listen) -> Authenticator | None:
    """What the flags describe; None when a websocket is open to this machine.

    Raises:
        BadAuth: the flags contradict one another, a file is unusable, or a websocket would be open
            to other machines.
    """
    mode: str | None = options.ws_auth
    if mode is None:
        if _given(options, _TOKEN_FLAGS + _SIGNED_FLAGS):
            raise BadAuth(f"websocket auth flags require {_EITHER}")
        if not listen.loopback:
            raise BadAuth(
                f"refusing to start non-loopback websocket listener {listen.address} without auth; "
                f"configure {_EITHER}"
            )
        return None
    if listen.scheme != "ws":
        raise BadAuth("websocket auth flags require `--listen ws://IP:PORT`")
    return _capability(options) if mode == "capability-token" else _signed(options)


def _capability(options: argparse.Namespace) -> Authenticator:
    if foreign := _given(options, _SIGNED_FLAGS):
        raise BadAuth(f"`{foreign}` requires `--ws-auth signed-bearer-token`")
    file, digest = options.ws_token_file, options.ws_token_sha256
    if file is not None and digest is not None:
        raise BadAuth("`--ws-token-file` and `--ws-token-sha256` are mutually exclusive")
    if file is not None:
        return CapabilityToken.of(_read_secret(file).decode("utf-8", "surrogateescape"))
    if digest is None:
        raise BadAuth(
            "`--ws-token-file` or `--ws-token-sha256` is required when "
            "`--ws-auth capability-token` is set"
        )
    if not re.fullmatch(r"[0-9a-fA-F]{64}", digest.strip()):
        raise BadAuth("--ws-token-sha256 must be a 64-character hex SHA-256 digest")
    return CapabilityToken(bytes.fromhex(digest.strip()))


def _signed(options: argparse.Namespace) -> Authenticator:
    if foreign := _given(options, _TOKEN_FLAGS):
        raise BadAuth(f"`{foreign}` requires `--ws-auth capability-token`")
    file: Path | None = options.ws_shared_secret_file
    if file is None:
        raise BadAuth(
            "`--ws-shared-secret-file` is required when `--ws-auth signed-bearer-token` is set"
        )
    secret = _read_secret(file)
    if len(secret) < MIN_SECRET_BYTES:
        raise BadAuth(
            f"signed websocket bearer secret {file.absolute()} must be at least "
            f"{MIN_SECRET_BYTES} bytes"
        )
    skew: int | None = options.ws_max_clock_skew_seconds
    return SignedToken(
        secret=secret,
        issuer=options.ws_issuer,
        audience=options.ws_audience,
        skew_seconds=30 if skew is None else skew,
    )


def _read_secret(file: Path) -> bytes:
    path = file.absolute()
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise BadAuth(
            f"failed to read websocket auth secret {path}: {error.strerror} (os error "
            f"{error.errno})"
        ) from error
    if not secret:
        raise BadAuth(f"websocket auth secret {path} must not be empty")
    return secret


def _given(options: argparse.Namespace, names: tuple[str, ...]) -> str | None:
    """The first of these flags that was given, as it is typed."""
    for name in names:
        if getattr(options, name) is not None:
            return "--" + name.replace("_", "-")
    return None


def _seconds(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of seconds")
    return int(text)

"""`treadle tokens`: who may ask a manager for what, by tenant, project and role."""

import argparse
from typing import Any

from treadle.cli.ask_manager import Act, add_manager_flags, ask, complain, print_json, print_table
from treadle.cli.exit_codes import MISUSED

PROG = "treadle tokens"
ROLES = ("reader", "submitter", "operator", "admin", "runner")
_UNITS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(prog=PROG, description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", help="make a token; its secret is printed this once")
    create.add_argument("name", metavar="NAME", help="whom or what it is for")
    create.add_argument("--role", choices=ROLES, required=True)
    create.add_argument("--tenant", metavar="ID", help="default: the caller's, or all")
    create.add_argument("--project", metavar="ID", help="default: the caller's, or all")
    create.add_argument("--expires", metavar="TIME", help="as in 30m, 12h or 90d; default: never")
    listing = commands.add_parser("list", help="tokens, newest first")
    listing.add_argument("--all", action="store_true", help="those that have ended, too")
    revoke = commands.add_parser("revoke", help="end a token for good")
    revoke.add_argument("token_id", metavar="TOKEN", help="its id, as listed")
    for sub in (create, listing, revoke):
        sub.add_argument("--json", action="store_true", help="for programs")
        add_manager_flags(sub)
    return parser


def run(arguments: list[str]) -> int:
    """Ask the manager; the exit code."""
    return ask(PROG, build_parser().parse_args(arguments), _ACTS)


async def _create(client: Any, options: argparse.Namespace) -> int:
    lifetime = _milliseconds(options.expires)
    if options.expires is not None and lifetime is None:
        complain(PROG, f"--expires {options.expires}: give a number and m, h or d, as in 90d")
        return MISUSED
    made = await client.create_token(
        name=options.name,
        role=options.role,
        tenantId=options.tenant,
        projectId=options.project,
        expiresInMs=lifetime,
    )
    if options.json:
        print_json(made)
    else:
        print(made.token, flush=True)
    return 0


async def _list(client: Any, options: argparse.Namespace) -> int:
    tokens = [each for each in (await client.tokens()).items if options.all or not each.revoked_at]
    if options.json:
        print_json(tokens)
        return 0
    rows = [
        (
            each.id,
            each.name,
            each.role,
            each.tenant_id or "all",
            each.project_id or "all",
            each.expires_at or "never",
            each.revoked_at,
        )
        for each in tokens
    ]
    print_table(["token", "name", "role", "tenant", "project", "ends", "revoked"], rows)
    return 0


async def _revoke(client: Any, options: argparse.Namespace) -> int:
    token = await client.revoke_token(options.token_id)
    if options.json:
        print_json(token)
    else:
        print(f"{token.id} ({token.name}) is revoked", flush=True)
    return 0


def _milliseconds(text: str | None) -> int | None:
    if text is None or text[-1:] not in _UNITS or not text[:-1].isdecimal():
        return None
    return int(text[:-1]) * _UNITS[text[-1]]


_ACTS: dict[str, Act] = {"create": _create, "list": _list, "revoke": _revoke}

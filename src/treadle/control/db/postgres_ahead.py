"""What a group of writes is about to ask for: locked and read by one statement before it.

Heads that are named are locked in the order of their ids, waiting runs that pool claims ask for as
far as nobody else holds them. What is not found here a piece looks for by itself, so nothing
depends on it. Knows a connection only as something that is asked.
"""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from treadle.control.db.leases import OFFERED_COMMANDS
from treadle.control.db.postgres_transaction import BufferedTransaction, WaitingKey
from treadle.control.db.transaction import Needs, Row

Ask = Callable[..., list[Row]]
"""Runs a named statement; its rows."""

NAMED = 0
"""The place of heads that were named; those of pools come after it, in their order."""


def storable(names: Iterable[str]) -> list[str]:
    """Each name once; what PostgreSQL knows no text for is refused later, with its reason."""
    return sorted({name for name in names if "\0" not in name})


def read_ahead(tx: BufferedTransaction, needs: list[Needs], ask: Ask) -> None:
    """Let `tx` know the heads, folds, open commands and runners that its pieces need, and the time.

    Of two pools that see the same waiting runs, the locks of one hide none from the other: a head
    that was taken meanwhile is left out when it is looked at.
    """
    heads = storable(run_id for piece in needs for run_id in piece.runs)
    runners = storable(runner_id for piece in needs for runner_id in piece.runners)
    offered = storable(run_id for piece in needs if piece.offers for run_id in piece.runs)
    pools = _pools_of(needs)
    if not (heads or runners or pools):
        return
    profiles, tenants, projects = ([key[place] for key in pools] for place in range(3))
    rows = ask(
        "read_ahead",
        heads=heads,
        folds=storable(run_id for piece in needs if piece.folds for run_id in piece.runs),
        offered=offered,
        runners=runners,
        limit=OFFERED_COMMANDS,
        profiles=profiles,
        tenants=tenants,
        projects=projects,
        limits=list(pools.values()),
    )
    found = {row["kind"]: msgspec.json.decode(row["body"] or "[]") for row in rows}
    tx.know_time(found["clock"])
    held = _by("place", found["head"], {}, "token")
    tx.know("head", _by("run_id", held.get(NAMED, []), {}))
    for place, key in enumerate(pools, NAMED + 1):
        heads_of_pool = held.get(place, [])
        tx.know_waiting(key, heads_of_pool)
        offered += [head["run_id"] for head in heads_of_pool]
    folds = _by("run_id", found["fold"], {})
    tx.know("fold", folds)
    with_commands: dict[Any, list[Row]] = {run_id: [] for run_id in offered if run_id in folds}
    tx.know("commands", _by("run_id", found["commands"], with_commands))
    tx.know("runner", _by("runner_id", found["runner"], {name: [] for name in runners}, "session"))


def _pools_of(needs: list[Needs]) -> dict[WaitingKey, int]:
    """How many waiting runs are asked for, by what is asked of them."""
    pools: dict[WaitingKey, int] = {}
    for pool in (piece.pool for piece in needs if piece.pool):
        if pool.backend_profile is None or "\0" not in pool.backend_profile:
            key = (pool.backend_profile, pool.scope.tenant_id, pool.scope.project_id)
            pools[key] = pools.get(key, 0) + pool.limit
    return pools


def _by(
    column: str, rows: list[Row], found: dict[Any, list[Row]], hashed: str | None = None
) -> dict[Any, list[Row]]:
    """Rows by what stands in a column, added to `found`; a hash comes as hexadecimal digits."""
    for row in rows:
        if hashed is not None:
            digits = row.pop(f"{hashed}_hex")
            row[f"{hashed}_sha256"] = None if digits is None else bytes.fromhex(digits)
        found.setdefault(row[column], []).append(row)
    return found

"""Old logs and runs go, a little at a time, as functions over an open transaction.

Only runs that ended longer ago than asked are touched: nobody writes to them any more, so nothing
waits for these transactions. A log loses its oldest events first and its floor (`min_seq`) rises
with them, so that a reader finds either what it asked for or the plain answer that it is gone.
"""

from treadle.control.db.transaction import Transaction

RUNS_AT_ONCE = 20


def drop_old_events(tx: Transaction, age_ms: int, limit: int) -> int:
    """Drop up to `limit` events of runs that ended longer than `age_ms` ago; how many went."""
    dropped = 0
    for run_id in _old_runs(tx, age_ms, trimmed=False):
        row = tx.one("read_progress", run_id=run_id)
        if row is None or dropped >= limit:
            break
        end = row["last_seq"] + 1
        below = min(end, row["min_seq"] + limit - dropped)
        tx.run("drop_events", run_id=run_id, below=below)
        tx.run("set_floor", run_id=run_id, below=below)
        if below == end:
            tx.run("mark_trimmed", run_id=run_id)
        dropped += below - row["min_seq"]
    return dropped


def forget_old_runs(tx: Transaction, age_ms: int, limit: int) -> int:
    """Delete up to `limit` runs without events that ended longer than `age_ms` ago; how many."""
    run_ids = _old_runs(tx, age_ms, trimmed=True)[:limit]
    for run_id in run_ids:
        tx.run("delete_keys", scope=f"run:{run_id}")
        for name in ("delete_waits", "delete_attempts", "delete_commands"):
            tx.run(name, run_id=run_id)
        tx.run("delete_head", run_id=run_id)
        tx.run("delete_run", run_id=run_id)
    tx.run("delete_old_keys", before_ms=tx.now_ms - age_ms, limit=limit)
    return len(run_ids)


def _old_runs(tx: Transaction, age_ms: int, *, trimmed: bool) -> list[str]:
    before_ms = tx.now_ms - age_ms
    rows = tx.all("old_runs", trimmed=int(trimmed), before_ms=before_ms, limit=RUNS_AT_ONCE)
    return [row["run_id"] for row in rows]

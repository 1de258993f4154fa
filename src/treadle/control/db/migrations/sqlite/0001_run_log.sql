-- Runs, their logs, commands, leases and runners. Times are milliseconds since the epoch.
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    spec TEXT NOT NULL,
    fold TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL
);
CREATE INDEX runs_by_tenant ON runs (tenant_id, project_id, run_id);

CREATE TABLE run_heads (
    run_id TEXT PRIMARY KEY REFERENCES runs (run_id),
    epoch INTEGER NOT NULL DEFAULT 0,
    runner_id TEXT,
    attempt_id TEXT,
    token_sha256 BLOB,
    attempt INTEGER NOT NULL DEFAULT 0,
    lease_ms INTEGER NOT NULL DEFAULT 0,
    lease_until_ms INTEGER NOT NULL DEFAULT 0,
    last_seq INTEGER NOT NULL DEFAULT 0,
    producer_seq INTEGER NOT NULL DEFAULT 0,
    cmd_last INTEGER NOT NULL DEFAULT 0,
    open_commands INTEGER NOT NULL DEFAULT 0,
    cancel INTEGER NOT NULL DEFAULT 0,
    last_end TEXT,
    ended INTEGER NOT NULL DEFAULT 0,
    last_holder TEXT,
    backend_profile TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX heads_waiting ON run_heads (run_id)
    WHERE runner_id IS NULL AND ended = 0 AND open_commands > 0;
CREATE INDEX heads_live ON run_heads (run_id) WHERE runner_id IS NOT NULL;

CREATE TABLE run_attempts (
    run_id TEXT NOT NULL REFERENCES runs (run_id),
    epoch INTEGER NOT NULL,
    runner_id TEXT NOT NULL,
    attempt_id TEXT,
    claimed_at_ms INTEGER NOT NULL,
    ended_at_ms INTEGER,
    end_reason TEXT,
    PRIMARY KEY (run_id, epoch)
) WITHOUT ROWID;

CREATE TABLE claim_waits (
    run_id TEXT NOT NULL REFERENCES runs (run_id),
    epoch INTEGER NOT NULL,
    waiter TEXT NOT NULL,
    PRIMARY KEY (run_id, epoch, waiter)
) WITHOUT ROWID;

CREATE TABLE run_events (
    run_id TEXT NOT NULL REFERENCES runs (run_id),
    seq INTEGER NOT NULL,
    epoch INTEGER,
    producer_seq INTEGER,
    type TEXT NOT NULL,
    command_id TEXT,
    at TEXT NOT NULL,
    payload TEXT NOT NULL,
    PRIMARY KEY (run_id, seq)
) WITHOUT ROWID;

CREATE TABLE commands (
    run_id TEXT NOT NULL REFERENCES runs (run_id),
    cmd_seq INTEGER NOT NULL,
    command_id TEXT NOT NULL UNIQUE,
    type TEXT NOT NULL,
    payload TEXT NOT NULL,
    state TEXT NOT NULL,
    target_command_id TEXT,
    failure_kind TEXT,
    failure_message TEXT,
    delivered_epoch INTEGER,
    result TEXT,
    created_at_ms INTEGER NOT NULL,
    closed_at_ms INTEGER,
    PRIMARY KEY (run_id, cmd_seq)
) WITHOUT ROWID;

CREATE TABLE runners (
    runner_id TEXT PRIMARY KEY,
    attempt_id TEXT,
    details TEXT NOT NULL,
    session_sha256 BLOB NOT NULL,
    registered_at_ms INTEGER NOT NULL,
    last_seen_ms INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE idempotency (
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    request_sha256 BLOB NOT NULL,
    answer BLOB NOT NULL,
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (scope, key)
) WITHOUT ROWID;

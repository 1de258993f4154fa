-- Runs, their logs, commands, leases and runners. Times are milliseconds since the epoch.
-- Ids compare byte by byte, so that the order of locks does not depend on the database's locale.
-- Half-filled head pages and no index on what changes keep head updates within their page. Events,
-- commands, attempts and waits carry no foreign key: they are written under the lock of their
-- run's head only, and each check would cost a lock of its own.
CREATE TABLE runs (
    run_id TEXT COLLATE "C" PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    spec TEXT NOT NULL,
    fold TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    updated_at_ms BIGINT NOT NULL
);
CREATE INDEX runs_by_tenant ON runs (tenant_id, project_id, run_id);

CREATE TABLE run_heads (
    run_id TEXT COLLATE "C" PRIMARY KEY REFERENCES runs (run_id),
    epoch BIGINT NOT NULL DEFAULT 0,
    runner_id TEXT,
    attempt_id TEXT,
    token_sha256 BYTEA,
    attempt BIGINT NOT NULL DEFAULT 0,
    lease_ms BIGINT NOT NULL DEFAULT 0,
    lease_until_ms BIGINT NOT NULL DEFAULT 0,
    last_seq BIGINT NOT NULL DEFAULT 0,
    producer_seq BIGINT NOT NULL DEFAULT 0,
    cmd_last BIGINT NOT NULL DEFAULT 0,
    open_commands BIGINT NOT NULL DEFAULT 0,
    cancel BIGINT NOT NULL DEFAULT 0,
    last_end TEXT,
    ended BIGINT NOT NULL DEFAULT 0,
    last_holder TEXT,
    backend_profile TEXT NOT NULL
) WITH (fillfactor = 50);
CREATE INDEX heads_waiting ON run_heads (run_id)
    WHERE runner_id IS NULL AND ended = 0 AND open_commands > 0;
CREATE INDEX heads_live ON run_heads (run_id) WHERE runner_id IS NOT NULL;

CREATE TABLE run_attempts (
    run_id TEXT COLLATE "C" NOT NULL,
    epoch BIGINT NOT NULL,
    runner_id TEXT NOT NULL,
    attempt_id TEXT,
    claimed_at_ms BIGINT NOT NULL,
    ended_at_ms BIGINT,
    end_reason TEXT,
    PRIMARY KEY (run_id, epoch)
);

CREATE TABLE claim_waits (
    run_id TEXT COLLATE "C" NOT NULL,
    epoch BIGINT NOT NULL,
    waiter TEXT NOT NULL,
    PRIMARY KEY (run_id, epoch, waiter)
);

CREATE TABLE run_events (
    run_id TEXT COLLATE "C" NOT NULL,
    seq BIGINT NOT NULL,
    epoch BIGINT,
    producer_seq BIGINT,
    type TEXT NOT NULL,
    command_id TEXT,
    at TEXT NOT NULL,
    payload TEXT NOT NULL,
    PRIMARY KEY (run_id, seq)
);

CREATE TABLE commands (
    run_id TEXT COLLATE "C" NOT NULL,
    cmd_seq BIGINT NOT NULL,
    command_id TEXT COLLATE "C" NOT NULL UNIQUE,
    type TEXT NOT NULL,
    payload TEXT NOT NULL,
    state TEXT NOT NULL,
    target_command_id TEXT,
    failure_kind TEXT,
    failure_message TEXT,
    delivered_epoch BIGINT,
    result TEXT,
    created_at_ms BIGINT NOT NULL,
    closed_at_ms BIGINT,
    PRIMARY KEY (run_id, cmd_seq)
);

CREATE TABLE runners (
    runner_id TEXT PRIMARY KEY,
    attempt_id TEXT,
    details TEXT NOT NULL,
    session_sha256 BYTEA NOT NULL,
    registered_at_ms BIGINT NOT NULL,
    last_seen_ms BIGINT NOT NULL
);

CREATE TABLE idempotency (
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    request_sha256 BYTEA NOT NULL,
    answer BYTEA NOT NULL,
    created_at_ms BIGINT NOT NULL,
    PRIMARY KEY (scope, key)
);

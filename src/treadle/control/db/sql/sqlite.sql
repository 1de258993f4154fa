-- Every statement of the SQLite repository, by name. Parameters are named.

-- name: insert_run
INSERT INTO runs (run_id, tenant_id, project_id, spec, fold, status, created_at_ms, updated_at_ms)
VALUES (:run_id, :tenant_id, :project_id, :spec, :fold, :status, :now, :now)

-- name: insert_head
INSERT INTO run_heads (run_id, backend_profile, placement)
VALUES (:run_id, :backend_profile, :placement)

-- name: read_head
SELECT * FROM run_heads WHERE run_id = :run_id

-- name: write_head
UPDATE run_heads SET epoch = :epoch, runner_id = :runner_id, attempt_id = :attempt_id,
    token_sha256 = :token_sha256, attempt = :attempt, lease_ms = :lease_ms,
    lease_until_ms = :lease_until_ms, last_seq = :last_seq, producer_seq = :producer_seq,
    cmd_last = :cmd_last, open_commands = :open_commands, cancel = :cancel, last_end = :last_end,
    ended = :ended, last_holder = :last_holder
WHERE run_id = :run_id

-- name: grace_leases
UPDATE run_heads SET lease_until_ms = :now + lease_ms
WHERE runner_id IS NOT NULL AND lease_until_ms < :now + lease_ms

-- name: lapsed_runs
SELECT run_id FROM run_heads WHERE runner_id IS NOT NULL AND lease_until_ms <= :now LIMIT :limit

-- name: waiting_runs
SELECT run_id FROM run_heads
WHERE runner_id IS NULL AND ended = 0 AND open_commands > 0 AND placement = 'process'
    AND (:backend_profile IS NULL OR backend_profile = :backend_profile)
    AND (:tenant_id IS NULL OR EXISTS (SELECT 1 FROM runs AS r
        WHERE r.run_id = run_heads.run_id AND r.tenant_id = :tenant_id
            AND (:project_id IS NULL OR r.project_id = :project_id)))
ORDER BY run_id LIMIT :limit

-- name: placed_runs
SELECT run_id, epoch, runner_id, attempt_id, open_commands, ended FROM run_heads
WHERE placement = :placement AND placement <> 'process' AND ended = 0
    AND (open_commands > 0 OR runner_id IS NOT NULL)
ORDER BY run_id LIMIT :limit

-- name: named_runs
SELECT run_id, epoch, runner_id, attempt_id, open_commands, ended FROM run_heads
WHERE placement = :placement AND run_id IN (SELECT value FROM json_each(:run_ids))

-- name: read_run
SELECT r.run_id, r.spec, r.fold, r.status, r.created_at_ms, r.updated_at_ms, h.runner_id,
    h.last_holder, h.ended, h.epoch, h.attempt, h.lease_until_ms, h.last_seq, h.cmd_last
FROM runs r JOIN run_heads h ON h.run_id = r.run_id WHERE r.run_id = :run_id

-- name: list_runs
SELECT r.run_id, r.spec, r.fold, r.status, r.created_at_ms, r.updated_at_ms, h.runner_id,
    h.last_holder, h.ended, h.epoch, h.attempt, h.lease_until_ms, h.last_seq, h.cmd_last
FROM runs r JOIN run_heads h ON h.run_id = r.run_id
WHERE (:cursor IS NULL OR r.run_id < :cursor) AND (:status IS NULL OR r.status = :status)
    AND (:tenant_id IS NULL OR r.tenant_id = :tenant_id)
    AND (:project_id IS NULL OR r.project_id = :project_id)
ORDER BY r.run_id DESC LIMIT :limit

-- name: read_fold
SELECT spec, fold, created_at_ms, updated_at_ms FROM runs WHERE run_id = :run_id

-- name: write_fold
UPDATE runs SET fold = :fold, status = :status, updated_at_ms = :now, ended_at_ms = :ended_at_ms
WHERE run_id = :run_id

-- name: insert_event
INSERT INTO run_events (run_id, seq, epoch, producer_seq, type, command_id, at, payload)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)

-- name: read_events
SELECT seq, epoch, producer_seq, type, command_id, at, payload FROM run_events
WHERE run_id = :run_id AND seq > :after_seq ORDER BY seq LIMIT :limit

-- name: read_page
-- Where the run is, beside each event of the page; without events once, with nothing beside it.
SELECT h.last_seq, h.cmd_last, h.ended, h.min_seq, e.seq, e.epoch, e.producer_seq, e.type,
    e.command_id, e.at, e.payload
FROM run_heads h LEFT JOIN (
    SELECT *, sum(length(payload)) OVER (ORDER BY seq) AS total,
        row_number() OVER (ORDER BY seq) AS place
    FROM (SELECT * FROM run_events WHERE run_id = :run_id AND seq > :after_seq
        ORDER BY seq LIMIT :limit)) AS e
    ON e.total <= :size OR e.place = 1
WHERE h.run_id = :run_id ORDER BY e.seq

-- name: read_progress
SELECT last_seq, cmd_last, ended, min_seq FROM run_heads WHERE run_id = :run_id

-- name: insert_command
INSERT INTO commands (run_id, cmd_seq, command_id, type, payload, state, target_command_id,
    expires_at_ms, created_at_ms)
VALUES (:run_id, :cmd_seq, :command_id, :type, :payload, 'pending', :target_command_id,
    :expires_at_ms, :now)

-- name: change_command
UPDATE commands SET state = :state, delivered_epoch = :delivered_epoch,
    failure_kind = :failure_kind, failure_message = :failure_message, result = :result,
    closed_at_ms = :closed_at_ms
WHERE command_id = :command_id AND run_id = :run_id

-- name: read_command
SELECT * FROM commands WHERE run_id = :run_id AND command_id = :command_id

-- name: list_commands
SELECT * FROM commands WHERE run_id = :run_id AND cmd_seq > :after_seq ORDER BY cmd_seq LIMIT :limit

-- name: open_commands
SELECT * FROM commands WHERE run_id = :run_id AND state IN ('pending', 'delivered')
ORDER BY cmd_seq LIMIT :limit

-- name: due_runs
SELECT DISTINCT run_id FROM commands
WHERE state = 'pending' AND expires_at_ms IS NOT NULL AND expires_at_ms <= :now LIMIT :limit

-- name: put_runner
INSERT INTO runners (runner_id, attempt_id, details, session_sha256, tenant_id, project_id,
    registered_at_ms, last_seen_ms)
VALUES (:runner_id, :attempt_id, :details, :session_sha256, :tenant_id, :project_id, :now, :now)
ON CONFLICT (runner_id) DO UPDATE SET attempt_id = excluded.attempt_id, details = excluded.details,
    session_sha256 = excluded.session_sha256, tenant_id = excluded.tenant_id,
    project_id = excluded.project_id, registered_at_ms = excluded.registered_at_ms,
    last_seen_ms = excluded.last_seen_ms, draining = 0

-- name: list_runners
SELECT r.*, h.held_runs FROM runners r LEFT JOIN (
    SELECT runner_id, count(*) AS held_runs FROM run_heads
    WHERE runner_id IS NOT NULL GROUP BY runner_id) h ON h.runner_id = r.runner_id
WHERE (r.last_seen_ms < :seen OR (r.last_seen_ms = :seen AND r.runner_id > :after))
    AND (:tenant_id IS NULL OR r.tenant_id = :tenant_id)
    AND (:project_id IS NULL OR r.project_id = :project_id)
ORDER BY r.last_seen_ms DESC, r.runner_id LIMIT :limit

-- name: show_runner
SELECT r.*, (SELECT count(*) FROM run_heads h WHERE h.runner_id = r.runner_id) AS held_runs
FROM runners r WHERE r.runner_id = :runner_id

-- name: set_draining
UPDATE runners SET draining = :draining WHERE runner_id = :runner_id

-- name: held_by_session
SELECT h.run_id, h.epoch FROM run_heads h
JOIN run_attempts a ON a.run_id = h.run_id AND a.epoch = h.epoch
WHERE h.runner_id = :runner_id AND a.session = :session
ORDER BY h.run_id

-- name: mark_gone
UPDATE runners SET gone_session = :session, gone_at_ms = :now WHERE runner_id = :runner_id

-- name: read_runner
SELECT runner_id, attempt_id, session_sha256, draining, last_seen_ms, tenant_id, project_id,
    gone_session
FROM runners WHERE runner_id = :runner_id

-- name: touch_runner
UPDATE runners SET last_seen_ms = :now WHERE runner_id = :runner_id

-- name: note_wait
INSERT OR IGNORE INTO claim_waits (run_id, epoch, waiter) VALUES (:run_id, :epoch, :waiter)
RETURNING waiter

-- name: start_attempt
INSERT INTO run_attempts (run_id, epoch, runner_id, attempt_id, session, claimed_at_ms)
VALUES (:run_id, :epoch, :runner_id, :attempt_id, :session, :now)

-- name: end_attempt
UPDATE run_attempts SET ended_at_ms = :now, end_reason = :reason
WHERE run_id = :run_id AND epoch = :epoch AND ended_at_ms IS NULL

-- name: read_idempotency
SELECT request_sha256, answer FROM idempotency WHERE scope = :scope AND key = :key

-- name: put_idempotency
INSERT INTO idempotency (scope, key, request_sha256, answer, created_at_ms)
VALUES (:scope, :key, :request_sha256, :answer, :now)

-- name: read_run_scope
SELECT tenant_id, project_id FROM runs WHERE run_id = :run_id

-- name: insert_token
INSERT INTO api_tokens (token_id, name, tenant_id, project_id, role, secret_sha256, created_by,
    created_at_ms, expires_at_ms)
VALUES (:token_id, :label, :tenant_id, :project_id, :role, :secret_sha256, :created_by, :now,
    :expires_at)

-- name: read_token
SELECT * FROM api_tokens WHERE token_id = :token_id

-- name: list_tokens
SELECT * FROM api_tokens
WHERE (:tenant_id IS NULL OR tenant_id = :tenant_id)
    AND (:project_id IS NULL OR project_id = :project_id)
ORDER BY created_at_ms DESC, token_id LIMIT :limit

-- name: revoke_token
UPDATE api_tokens SET revoked_at_ms = :now WHERE token_id = :token_id

-- name: old_runs
SELECT run_id FROM runs
WHERE trimmed = :trimmed AND ended_at_ms < :before_ms
ORDER BY ended_at_ms LIMIT :limit

-- name: drop_events
DELETE FROM run_events WHERE run_id = :run_id AND seq < :below

-- name: set_floor
UPDATE run_heads SET min_seq = :below WHERE run_id = :run_id

-- name: mark_trimmed
UPDATE runs SET trimmed = 1 WHERE run_id = :run_id

-- name: delete_waits
DELETE FROM claim_waits WHERE run_id = :run_id

-- name: delete_attempts
DELETE FROM run_attempts WHERE run_id = :run_id

-- name: delete_commands
DELETE FROM commands WHERE run_id = :run_id

-- name: delete_keys
DELETE FROM idempotency WHERE scope = :scope

-- name: delete_head
DELETE FROM run_heads WHERE run_id = :run_id

-- name: delete_run
DELETE FROM runs WHERE run_id = :run_id

-- name: delete_old_keys
DELETE FROM idempotency WHERE (scope, key) IN (SELECT scope, key FROM idempotency
    WHERE created_at_ms < :before_ms AND scope LIKE 'tenant:%' ORDER BY created_at_ms LIMIT :limit)

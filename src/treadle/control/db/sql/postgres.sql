-- Every statement of the PostgreSQL repository, by name. Parameters are named.
-- Statements that unnest take each parameter as an array with one place per row.

-- name: read_head
SELECT * FROM run_heads WHERE run_id = :run_id FOR UPDATE

-- name: grace_leases
UPDATE run_heads SET lease_until_ms = :now + lease_ms
WHERE runner_id IS NOT NULL AND lease_until_ms < :now + lease_ms

-- name: lapsed_runs
SELECT * FROM run_heads -- one manager at a time sweeps; what is locked now is found next time
WHERE (SELECT pg_try_advisory_xact_lock(7717, 3))
    AND runner_id IS NOT NULL AND lease_until_ms <= :now
LIMIT :limit FOR UPDATE SKIP LOCKED

-- name: waiting_runs
SELECT * FROM run_heads
WHERE runner_id IS NULL AND ended = 0 AND open_commands > 0 AND placement = 'process'
    AND (:backend_profile::text IS NULL OR backend_profile = :backend_profile)
    AND (:tenant_id::text IS NULL OR :tenant_id = (SELECT r.tenant_id FROM runs AS r
        WHERE r.run_id = run_heads.run_id
            AND (:project_id::text IS NULL OR r.project_id = :project_id)))
ORDER BY run_id LIMIT :limit FOR UPDATE SKIP LOCKED

-- name: placed_runs
SELECT run_id, epoch, runner_id, attempt_id, open_commands, ended FROM run_heads
WHERE placement = :placement AND placement <> 'process' AND ended = 0
    AND (open_commands > 0 OR runner_id IS NOT NULL)
ORDER BY run_id LIMIT :limit

-- name: named_runs
SELECT run_id, epoch, runner_id, attempt_id, open_commands, ended FROM run_heads
WHERE placement = :placement
    AND run_id IN (SELECT json_array_elements_text(:run_ids::json))

-- name: read_run
SELECT r.run_id, r.spec, r.fold, r.status, r.created_at_ms, r.updated_at_ms, h.runner_id,
    h.last_holder, h.ended, h.epoch, h.attempt, h.lease_until_ms, h.last_seq, h.cmd_last
FROM runs r JOIN run_heads h ON h.run_id = r.run_id WHERE r.run_id = :run_id

-- name: list_runs
SELECT r.run_id, r.spec, r.fold, r.status, r.created_at_ms, r.updated_at_ms, h.runner_id,
    h.last_holder, h.ended, h.epoch, h.attempt, h.lease_until_ms, h.last_seq, h.cmd_last
FROM runs r JOIN run_heads h ON h.run_id = r.run_id
WHERE (:cursor::text IS NULL OR r.run_id < :cursor) AND (:status::text IS NULL OR r.status = :status)
    AND (:tenant_id::text IS NULL OR r.tenant_id = :tenant_id)
    AND (:project_id::text IS NULL OR r.project_id = :project_id)
ORDER BY r.run_id DESC LIMIT :limit

-- name: read_fold
SELECT spec, fold, created_at_ms, updated_at_ms FROM runs WHERE run_id = :run_id

-- name: read_events
SELECT seq, epoch, producer_seq, type, command_id, at, payload FROM run_events
WHERE run_id = :run_id AND seq > :after_seq ORDER BY seq LIMIT :limit

-- name: read_page
-- Where the run is, beside each event of the page; without events once, with nothing beside it. The
-- size is known without reading what is large, so that no more of that is read than is wanted.
SELECT h.last_seq, h.cmd_last, h.ended, h.min_seq, e.seq, e.epoch, e.producer_seq, e.type,
    e.command_id, e.at, e.payload
FROM run_heads h LEFT JOIN LATERAL (
    SELECT *, sum(octet_length(payload)) OVER (ORDER BY seq) AS total,
        row_number() OVER (ORDER BY seq) AS place
    FROM (SELECT * FROM run_events WHERE run_id = h.run_id AND seq > :after_seq
        ORDER BY seq LIMIT :limit) AS picked) AS e
    ON e.total <= :size::bigint OR e.place = 1
WHERE h.run_id = :run_id ORDER BY e.seq

-- name: read_pages
-- The same for many at once.
SELECT a.run_id, a.after_seq, h.last_seq, h.cmd_last, h.ended, h.min_seq, e.seq, e.epoch,
    e.producer_seq, e.type, e.command_id, e.at, e.payload
FROM unnest(:runs::text[], :afters::bigint[]) AS a (run_id, after_seq)
JOIN run_heads h ON h.run_id = a.run_id LEFT JOIN LATERAL (
    SELECT *, sum(octet_length(payload)) OVER (ORDER BY seq) AS total,
        row_number() OVER (ORDER BY seq) AS place
    FROM (SELECT * FROM run_events WHERE run_id = a.run_id AND seq > a.after_seq
        ORDER BY seq LIMIT :limit) AS picked) AS e
    ON e.total <= :size::bigint OR e.place = 1
ORDER BY a.run_id, a.after_seq, e.seq

-- name: read_progress
SELECT last_seq, cmd_last, ended, min_seq FROM run_heads WHERE run_id = :run_id

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
    AND (:tenant_id::text IS NULL OR r.tenant_id = :tenant_id)
    AND (:project_id::text IS NULL OR r.project_id = :project_id)
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

-- name: note_wait
INSERT INTO claim_waits (run_id, epoch, waiter) VALUES (:run_id, :epoch, :waiter)
ON CONFLICT DO NOTHING
RETURNING waiter

-- name: end_attempt
UPDATE run_attempts SET ended_at_ms = :now, end_reason = :reason
WHERE run_id = :run_id AND epoch = :epoch AND ended_at_ms IS NULL

-- name: read_idempotency
SELECT request_sha256, answer FROM idempotency WHERE scope = :scope AND key = :key

-- name: put_idempotency
INSERT INTO idempotency (scope, key, request_sha256, answer, created_at_ms)
VALUES (:scope, :key, :request_sha256, :answer, :now)

-- name: now
SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now

-- name: peek_head
SELECT * FROM run_heads WHERE run_id = :run_id

-- name: lock_keys
SELECT pg_advisory_xact_lock(key) FROM unnest(:keys::bigint[]) AS ordered (key)

-- name: append_plainly
-- One row of `asked` per run; events of all runs in one row of arrays, `skipped` before a run's own.
-- A run whose head does not fit has no row in the answer. The clock is read once a head is locked.
WITH asked AS (
    SELECT * FROM unnest(:runs::text[], :epochs::bigint[], :tokens::bytea[], :firsts::bigint[],
        :counts::bigint[], :skips::bigint[]) AS a (run_id, epoch, token, first, count, skipped)
    ORDER BY run_id COLLATE "C"
), held AS MATERIALIZED (
    SELECT h.run_id, a.first, a.count, a.skipped FROM asked a CROSS JOIN LATERAL (
        SELECT run_id FROM run_heads WHERE run_id = a.run_id
            AND epoch = a.epoch AND token_sha256 = a.token AND producer_seq = a.first - 1
            AND runner_id IS NOT NULL AND ended = 0
        FOR UPDATE) AS h
), moved AS (
    UPDATE run_heads AS h SET last_seq = h.last_seq + held.count,
        producer_seq = h.producer_seq + held.count,
        lease_until_ms = (extract(epoch FROM clock_timestamp()) * 1000)::bigint + h.lease_ms
    FROM held WHERE h.run_id = held.run_id
    RETURNING h.run_id, h.epoch, h.last_seq, h.producer_seq, h.cmd_last, h.cancel, h.lease_ms,
        held.skipped, held.count, h.last_seq - held.count - held.skipped AS seq_base,
        h.producer_seq - held.count - held.skipped AS producer_base,
        to_char(to_timestamp((h.lease_until_ms - h.lease_ms) / 1000.0) AT TIME ZONE 'UTC',
            'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS now
), added AS (
    INSERT INTO run_events (run_id, seq, epoch, producer_seq, type, command_id, at, payload)
    SELECT m.run_id, m.seq_base + e.place, m.epoch, m.producer_base + e.place, e.type,
        e.command_id, coalesce(e.at, m.now), e.payload
    FROM unnest(:batches::text[], :types::text[], :command_ids::text[], :ats::text[],
        :payloads::text[]) WITH ORDINALITY AS e (run_id, type, command_id, at, payload, place)
    JOIN moved m USING (run_id)
)
SELECT run_id, last_seq, producer_seq, cmd_last, cancel, lease_ms FROM moved

-- name: read_watched
SELECT run_id, last_seq, cmd_last, ended FROM run_heads WHERE run_id = ANY(:runs::text[])

-- name: work_waits
SELECT EXISTS (SELECT FROM run_heads
    WHERE runner_id IS NULL AND ended = 0 AND open_commands > 0) AS waits

-- name: notify
SELECT pg_notify('treadle_runs', :payload)

-- name: lock_schema
-- Tried again and again instead of waited for: a waiting statement would hold up the building of an
-- index, which waits for all statements that began before it.
SELECT pg_try_advisory_lock(7717, 1) AS mine

-- name: unlock_schema
SELECT pg_advisory_unlock(7717, 1)

-- name: try_alone
-- Managers hold this lock shared: who gets it alone gives all leases their grace.
SELECT pg_try_advisory_lock(7717, 2) AS alone

-- name: be_present
SELECT pg_advisory_lock_shared(7717, 2)

-- name: stop_alone
SELECT pg_advisory_unlock(7717, 2)

-- name: schema_exists
SELECT to_regclass('schema_migrations') IS NOT NULL AS found

-- name: read_server
SELECT current_setting('server_version_num')::bigint AS version

-- name: insert_run
INSERT INTO runs (run_id, tenant_id, project_id, spec, fold, status, created_at_ms, updated_at_ms)
SELECT n.run_id, n.tenant_id, n.project_id, n.spec, n.fold, n.status, n.now, n.now
FROM unnest(:run_id::text[], :tenant_id::text[], :project_id::text[], :spec::text[],
    :fold::text[], :status::text[], :now::bigint[])
    AS n (run_id, tenant_id, project_id, spec, fold, status, now)

-- name: insert_head
INSERT INTO run_heads (run_id, backend_profile, placement)
SELECT * FROM unnest(:run_id::text[], :backend_profile::text[], :placement::text[])

-- name: insert_command
INSERT INTO commands (run_id, cmd_seq, command_id, type, payload, state, target_command_id,
    expires_at_ms, created_at_ms)
SELECT n.run_id, n.cmd_seq, n.command_id, n.type, n.payload, 'pending', n.target_command_id,
    n.expires_at_ms, n.now
FROM unnest(:run_id::text[], :cmd_seq::bigint[], :command_id::text[], :type::text[],
    :payload::text[], :target_command_id::text[], :expires_at_ms::bigint[], :now::bigint[])
    AS n (run_id, cmd_seq, command_id, type, payload, target_command_id, expires_at_ms, now)

-- name: write_all
-- Heads, folds, events and attempts of all runs of a group, and when its runners were heard of. What
-- is changed is named beside the change, so that it is found by key however many rows the JSON is
-- thought to have.
WITH events AS (
    INSERT INTO run_events (run_id, seq, epoch, producer_seq, type, command_id, at, payload)
    SELECT * FROM unnest(:event_run_id::text[], :event_seq::bigint[], :event_epoch::bigint[],
        :event_producer_seq::bigint[], :event_type::text[], :event_command_id::text[],
        :event_at::text[], :event_payload::text[])
), folds AS (
    UPDATE runs AS r SET fold = n.fold, status = n.status, updated_at_ms = n.now,
        ended_at_ms = n.ended_at_ms
    FROM json_to_recordset(:folds::json) AS n
        (run_id text, fold text, status text, now bigint, ended_at_ms bigint)
    WHERE r.run_id = n.run_id AND r.run_id = ANY(:folds_named::text[])
), attempts AS (
    INSERT INTO run_attempts (run_id, epoch, runner_id, attempt_id, session, claimed_at_ms)
    SELECT * FROM json_to_recordset(:attempts::json) AS n
        (run_id text, epoch bigint, runner_id text, attempt_id text, session text, now bigint)
), touches AS (
    UPDATE runners AS r SET last_seen_ms = n.now
    FROM json_to_recordset(:touches::json) AS n (runner_id text, now bigint)
    WHERE r.runner_id = n.runner_id AND r.runner_id = ANY(:touches_named::text[])
)
UPDATE run_heads AS h SET epoch = n.epoch, runner_id = n.runner_id, attempt_id = n.attempt_id,
    token_sha256 = decode(n.token_sha256, 'base64'), attempt = n.attempt, lease_ms = n.lease_ms,
    lease_until_ms = n.lease_until_ms, last_seq = n.last_seq, producer_seq = n.producer_seq,
    cmd_last = n.cmd_last, open_commands = n.open_commands, cancel = n.cancel,
    last_end = n.last_end, ended = n.ended, last_holder = n.last_holder
FROM json_to_recordset(:heads::json) AS n
    (run_id text, epoch bigint, runner_id text, attempt_id text, token_sha256 text, attempt bigint,
    lease_ms bigint, lease_until_ms bigint, last_seq bigint, producer_seq bigint, cmd_last bigint,
    open_commands bigint, cancel bigint, last_end text, ended bigint, last_holder text)
WHERE h.run_id = n.run_id AND h.run_id = ANY(:heads_named::text[])

-- name: read_ahead
-- The heads that a group names and the waiting runs that its pools ask for, locked, and what it is
-- about to ask for: a row per kind, with a list as JSON. A head may have moved between this statement's
-- snapshot and its lock, and its fold with it: the fold and commands of such a run are left out. The
-- time comes last, when all is locked.
WITH named AS MATERIALIZED (
    SELECT * FROM run_heads WHERE run_id = ANY(:heads::text[]) ORDER BY run_id FOR UPDATE
), waiting AS MATERIALIZED (
    SELECT p.place, h.*
    FROM unnest(:profiles::text[], :tenants::text[], :projects::text[], :limits::bigint[])
        WITH ORDINALITY AS p (profile, tenant_id, project_id, most, place)
    CROSS JOIN LATERAL (
        SELECT * FROM run_heads
        WHERE runner_id IS NULL AND ended = 0 AND open_commands > 0 AND placement = 'process'
            AND (p.profile IS NULL OR backend_profile = p.profile)
            AND (p.tenant_id IS NULL OR p.tenant_id = (SELECT r.tenant_id FROM runs AS r
                WHERE r.run_id = run_heads.run_id
                    AND (p.project_id IS NULL OR r.project_id = p.project_id)))
        ORDER BY run_id LIMIT p.most FOR UPDATE SKIP LOCKED) AS h
), held AS MATERIALIZED (
    SELECT 0 AS place, n.*, encode(n.token_sha256, 'hex') AS token_hex FROM named AS n
    UNION ALL SELECT w.*, encode(w.token_sha256, 'hex') FROM waiting AS w
), asked AS MATERIALIZED (
    SELECT array_agg(DISTINCT run_id) AS runs, array_agg(DISTINCT run_id)
        FILTER (WHERE place > 0 OR run_id = ANY(:offered::text[])) AS offered
    FROM held
    WHERE (place > 0 OR run_id = ANY(:folds::text[]))
        AND last_seq = (SELECT last_seq FROM run_heads AS h WHERE h.run_id = held.run_id)
)
SELECT 'head' AS kind, json_agg(held ORDER BY place, run_id)::text AS body FROM held
UNION ALL
SELECT 'fold', json_agg(json_build_object('run_id', run_id, 'spec', spec, 'fold', fold,
    'created_at_ms', created_at_ms, 'updated_at_ms', updated_at_ms))::text
FROM runs WHERE run_id = ANY((SELECT runs FROM asked)::text[])
UNION ALL
SELECT 'commands', json_agg(c ORDER BY c.run_id, c.cmd_seq)::text
FROM asked CROSS JOIN LATERAL unnest(asked.offered) AS run (id) CROSS JOIN LATERAL (
    SELECT * FROM commands WHERE run_id = run.id AND state IN ('pending', 'delivered')
    ORDER BY cmd_seq LIMIT :limit) AS c
UNION ALL
SELECT 'runner', json_agg(json_build_object('runner_id', runner_id, 'attempt_id', attempt_id,
    'session_hex', encode(session_sha256, 'hex'), 'draining', draining,
    'last_seen_ms', last_seen_ms, 'tenant_id', tenant_id, 'project_id', project_id,
    'gone_session', gone_session))::text
FROM runners WHERE runner_id = ANY(:runners::text[])
UNION ALL
SELECT 'clock', (extract(epoch FROM clock_timestamp()) * 1000)::bigint::text

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
WHERE (:tenant_id::text IS NULL OR tenant_id = :tenant_id)
    AND (:project_id::text IS NULL OR project_id = :project_id)
ORDER BY created_at_ms DESC, token_id LIMIT :limit

-- name: revoke_token
UPDATE api_tokens SET revoked_at_ms = :now WHERE token_id = :token_id

-- name: old_runs
SELECT run_id FROM runs -- one manager at a time
WHERE trimmed = :trimmed AND ended_at_ms < :before_ms
    AND (SELECT pg_try_advisory_xact_lock(7717, 4))
ORDER BY ended_at_ms LIMIT :limit FOR UPDATE SKIP LOCKED

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

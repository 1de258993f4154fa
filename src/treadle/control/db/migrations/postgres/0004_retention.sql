-- online
-- Logs may begin later than at 1, and runs are found when they ended long enough ago.
-- Steps run by themselves, outside of a transaction, and may run again after an interruption.
-- The time of the end has a column of its own: one that changed with every fold would cost each of
-- them an entry in every index.
ALTER TABLE run_heads ADD COLUMN IF NOT EXISTS min_seq BIGINT NOT NULL DEFAULT 1;
ALTER TABLE runs ADD COLUMN IF NOT EXISTS trimmed BIGINT NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN IF NOT EXISTS ended_at_ms BIGINT;
UPDATE runs SET ended_at_ms = updated_at_ms
WHERE ended_at_ms IS NULL AND status IN ('completed', 'failed', 'blocked', 'cancelled');
DROP INDEX IF EXISTS runs_ended;
CREATE INDEX CONCURRENTLY runs_ended ON runs (trimmed, ended_at_ms) WHERE ended_at_ms IS NOT NULL;
DROP INDEX IF EXISTS idempotency_by_age;
CREATE INDEX CONCURRENTLY idempotency_by_age ON idempotency (created_at_ms);

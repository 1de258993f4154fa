-- Logs may begin later than at 1, and runs are found when they ended long enough ago.
ALTER TABLE run_heads ADD COLUMN min_seq INTEGER NOT NULL DEFAULT 1;
ALTER TABLE runs ADD COLUMN trimmed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN ended_at_ms INTEGER;
UPDATE runs SET ended_at_ms = updated_at_ms
WHERE status IN ('completed', 'failed', 'blocked', 'cancelled');
CREATE INDEX runs_ended ON runs (trimmed, ended_at_ms) WHERE ended_at_ms IS NOT NULL;
CREATE INDEX idempotency_by_age ON idempotency (created_at_ms);

-- online
-- Which registration of its runner made each claim, and which registration was last reported gone.
-- A manager of the release before leaves both empty: such a lease ends by its time.
ALTER TABLE run_attempts ADD COLUMN IF NOT EXISTS session TEXT;
ALTER TABLE runners ADD COLUMN IF NOT EXISTS gone_session TEXT;
ALTER TABLE runners ADD COLUMN IF NOT EXISTS gone_at_ms BIGINT;

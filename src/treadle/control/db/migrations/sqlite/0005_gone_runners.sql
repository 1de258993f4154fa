-- Which registration of its runner made each claim, and which registration was last reported gone.
ALTER TABLE run_attempts ADD COLUMN session TEXT;
ALTER TABLE runners ADD COLUMN gone_session TEXT;
ALTER TABLE runners ADD COLUMN gone_at_ms INTEGER;

-- Turns that nobody took up in time, and runners that are to take no more runs.
ALTER TABLE commands ADD COLUMN expires_at_ms INTEGER;
CREATE INDEX commands_due ON commands (expires_at_ms)
    WHERE expires_at_ms IS NOT NULL AND state = 'pending';
ALTER TABLE runners ADD COLUMN draining INTEGER NOT NULL DEFAULT 0;
CREATE INDEX runners_by_last_seen ON runners (last_seen_ms);

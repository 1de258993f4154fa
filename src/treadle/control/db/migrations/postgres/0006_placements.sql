-- online
-- How each run's runner is started; runs that are placed are not for the pool. A manager of the
-- release before gives them to it all the same: what was placed then finds them held.
ALTER TABLE run_heads ADD COLUMN IF NOT EXISTS placement TEXT NOT NULL DEFAULT 'process';
DROP INDEX IF EXISTS heads_placed;
CREATE INDEX CONCURRENTLY heads_placed ON run_heads (placement, run_id)
    WHERE placement <> 'process' AND ended = 0 AND (open_commands > 0 OR runner_id IS NOT NULL);

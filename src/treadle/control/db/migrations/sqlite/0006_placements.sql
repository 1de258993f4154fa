-- How each run's runner is started; runs that are placed are not for the pool.
ALTER TABLE run_heads ADD COLUMN placement TEXT NOT NULL DEFAULT 'process';
CREATE INDEX heads_placed ON run_heads (placement, run_id)
    WHERE placement <> 'process' AND ended = 0 AND (open_commands > 0 OR runner_id IS NOT NULL);

-- How old a worker's heartbeat may be before others declare it dead: its own
-- WithStaleWorkerTimeout. Others wait for that long too where theirs is shorter, as in a
-- deployment that changes it. Null in rows of a version that does not write it.
ALTER TABLE {{schema}}orchestrator_workers
    ADD COLUMN stale_timeout interval CHECK (stale_timeout > '0');

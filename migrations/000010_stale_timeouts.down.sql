ALTER TABLE {{schema}}orchestrator_workers
    DROP COLUMN stale_timeout;

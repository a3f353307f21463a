ALTER TABLE {{schema}}orchestrator_checkpoints
    DROP CONSTRAINT orchestrator_checkpoints_hold,
    DROP COLUMN hold_until,
    DROP COLUMN hold_at;

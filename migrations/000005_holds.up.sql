-- What operators hold back. Nothing beyond hold_at is handled, until hold_until if that is
-- not null. Whoever changes these raises the revision.
ALTER TABLE {{schema}}orchestrator_checkpoints
    ADD COLUMN hold_at    bigint CHECK (hold_at >= 0),
    ADD COLUMN hold_until timestamptz,
    ADD CONSTRAINT orchestrator_checkpoints_hold CHECK (hold_until IS NULL OR hold_at IS NOT NULL);

UPDATE {{schema}}orchestrator_dead_letters SET state = 'retrying' WHERE state = 'stopped';
ALTER TABLE {{schema}}orchestrator_dead_letters
    DROP CONSTRAINT orchestrator_dead_letters_state_check,
    ADD CONSTRAINT orchestrator_dead_letters_state_check CHECK (state IN ('retrying', 'handled', 'skipped'));
ALTER TABLE {{schema}}orchestrator_checkpoints DROP COLUMN stopped_at, DROP COLUMN revision;

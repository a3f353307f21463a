UPDATE {{schema}}orchestrator_dead_letters SET state = 'handled', handled_at = skipped_at WHERE state = 'skipped';
ALTER TABLE {{schema}}orchestrator_dead_letters
    DROP COLUMN skipped_at,
    DROP CONSTRAINT orchestrator_dead_letters_state_check,
    ADD CONSTRAINT orchestrator_dead_letters_state_check CHECK (state IN ('retrying', 'handled'));

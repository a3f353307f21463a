DELETE FROM {{schema}}orchestrator_dead_letters WHERE attempts = 0;
UPDATE {{schema}}orchestrator_dead_letters SET state = 'skipped', skipped_at = now() WHERE state = 'parked';
ALTER TABLE {{schema}}orchestrator_dead_letters
    DROP CONSTRAINT orchestrator_dead_letters_state_check,
    ADD CONSTRAINT orchestrator_dead_letters_state_check CHECK (state IN ('retrying', 'handled', 'skipped', 'stopped')),
    DROP CONSTRAINT orchestrator_dead_letters_attempts_check,
    ADD CONSTRAINT orchestrator_dead_letters_attempts_check CHECK (attempts > 0);
DROP TABLE {{schema}}orchestrator_parked_aggregates;

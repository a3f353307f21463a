-- skipped: a person has advanced the checkpoint past the event; no handler has handled it.
ALTER TABLE {{schema}}orchestrator_dead_letters
    DROP CONSTRAINT orchestrator_dead_letters_state_check,
    ADD CONSTRAINT orchestrator_dead_letters_state_check CHECK (state IN ('retrying', 'handled', 'skipped')),
    ADD COLUMN skipped_at timestamptz;

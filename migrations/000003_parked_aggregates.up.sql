-- Aggregates whose events a projection puts aside, in order, until a person decides: their
-- letters are the rows of orchestrator_dead_letters with the state parked. Only the owner of
-- the aggregate's slot adds to them. Whoever else changes them raises the revision of the
-- slot's checkpoint in the same transaction.
CREATE TABLE {{schema}}orchestrator_parked_aggregates (
    projection      text        NOT NULL,
    bounded_context text        NOT NULL,
    aggregate_type  text        NOT NULL,
    aggregate_id    text        NOT NULL,
    replica_set     text        NOT NULL,
    -- The event that could not be handled, and how many letters there are with it.
    global_position bigint      NOT NULL,
    letters         bigint      NOT NULL CHECK (letters > 0),
    parked_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (projection, aggregate_id, aggregate_type, bounded_context)
);

-- parked: the event's aggregate is parked. One that waits behind the event that failed was
-- attempted by nobody.
ALTER TABLE {{schema}}orchestrator_dead_letters
    DROP CONSTRAINT orchestrator_dead_letters_state_check,
    ADD CONSTRAINT orchestrator_dead_letters_state_check CHECK (state IN ('retrying', 'handled', 'skipped', 'stopped', 'parked')),
    DROP CONSTRAINT orchestrator_dead_letters_attempts_check,
    ADD CONSTRAINT orchestrator_dead_letters_attempts_check CHECK (attempts >= 0);

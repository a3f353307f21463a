-- What operators and error policies change about a projection, apart from its position.
ALTER TABLE {{schema}}orchestrator_checkpoints
    -- Raised by every change that the owner must know about before it handles more. A
    -- batch commits only at the revision that its worker has read.
    ADD COLUMN revision   bigint NOT NULL DEFAULT 0,
    -- Nothing at this position or above is handled until a person decides: the projection
    -- stopped there, because an event could not be handled. Null if it is not stopped.
    ADD COLUMN stopped_at bigint CHECK (stopped_at > position);

-- retrying: the partition waits for this event. handled: it succeeded later. skipped: no
-- handler has handled it, since the error policy left it out, or a person has advanced the
-- checkpoint past it. stopped: the projection stopped at it.
ALTER TABLE {{schema}}orchestrator_dead_letters
    DROP CONSTRAINT orchestrator_dead_letters_state_check,
    ADD CONSTRAINT orchestrator_dead_letters_state_check CHECK (state IN ('retrying', 'handled', 'skipped', 'stopped'));

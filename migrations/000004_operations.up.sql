-- What people have asked for, through package admin: who, when, what and why, and what came
-- of it. Nothing here is needed to handle events. Old rows may be deleted.
CREATE TABLE {{schema}}orchestrator_operations (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    replica_set  text        NOT NULL,
    -- Empty if it concerns all projections of the replica set.
    projection   text        NOT NULL DEFAULT '',
    -- What was asked for, in a word, and with what.
    kind         text        NOT NULL,
    arguments    jsonb       NOT NULL DEFAULT '{}',
    actor        text        NOT NULL,
    reason       text        NOT NULL,
    -- waiting: workers have yet to do what was asked for. cancelled: nobody waits for it any more.
    state        text        NOT NULL CHECK (state IN ('waiting', 'done', 'cancelled')),
    result       jsonb       NOT NULL DEFAULT '{}',
    requested_at timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz,
    CHECK ((state = 'waiting') = (finished_at IS NULL))
);

CREATE INDEX orchestrator_operations_replica_set
    ON {{schema}}orchestrator_operations (replica_set, id);

-- The part of an operation that needs the handler of a projection: one parked aggregate, whose
-- letters the owner of its slot handles again.
CREATE TABLE {{schema}}orchestrator_requests (
    operation       bigint      NOT NULL REFERENCES {{schema}}orchestrator_operations ON DELETE CASCADE,
    projection      text        NOT NULL,
    bounded_context text        NOT NULL,
    aggregate_type  text        NOT NULL,
    aggregate_id    text        NOT NULL,
    -- retry: handle the letters for good. try: handle them, and roll back.
    kind            text        NOT NULL CHECK (kind IN ('retry', 'try')),
    -- succeeded: no letter was left. failed: the letter at failed_position could not be handled.
    state           text        NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'succeeded', 'failed', 'cancelled')),
    -- How many letters were handled, and what the next one failed with.
    handled         bigint      NOT NULL DEFAULT 0 CHECK (handled >= 0),
    failed_position bigint,
    error           text        NOT NULL DEFAULT '',
    worker_id       uuid,
    finished_at     timestamptz,
    PRIMARY KEY (operation, projection, aggregate_id, aggregate_type, bounded_context),
    CHECK ((state = 'waiting') = (finished_at IS NULL)),
    CHECK ((state = 'failed') = (failed_position IS NOT NULL))
);

CREATE INDEX orchestrator_requests_waiting
    ON {{schema}}orchestrator_requests (projection, operation)
    WHERE state = 'waiting';

-- Which failures are alike: the kind of the error, and the first function of the application
-- that it came from, as far as either is known.
ALTER TABLE {{schema}}orchestrator_dead_letters
    ADD COLUMN error_kind  text NOT NULL DEFAULT '',
    ADD COLUMN error_frame text NOT NULL DEFAULT '';

-- The letters of a parked aggregate, in order.
CREATE INDEX orchestrator_dead_letters_parked
    ON {{schema}}orchestrator_dead_letters (projection, aggregate_id, global_position)
    WHERE state = 'parked';

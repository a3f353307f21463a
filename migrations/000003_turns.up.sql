-- Projections whose partitions take turns, because their batches were in conflict: they change
-- the same rows in different orders, and PostgreSQL ended one of them.
CREATE TABLE {{schema}}orchestrator_turns (
    projection  text        PRIMARY KEY,
    replica_set text        NOT NULL,
    -- They take turns until then. If there is a conflict soon afterwards, they do so for twice as long.
    until       timestamptz NOT NULL,
    seconds     integer     NOT NULL CHECK (seconds > 0),
    conflicts   bigint      NOT NULL CHECK (conflicts > 0)
);

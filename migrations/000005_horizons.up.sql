-- The position up to which no event can still appear, as workers have found it. Only they write it: a worker that
-- starts relies on it for transactions that it finds open.
CREATE TABLE {{schema}}orchestrator_horizons (
    events_table text        PRIMARY KEY,
    -- How often the position had to be taken back, since the sequence was set back or replaced. A worker
    -- that has found its position before that must not store it.
    term         bigint      NOT NULL CHECK (term > 0),
    position     bigint      NOT NULL CHECK (position >= 0),
    -- Which sequence it speaks of: its oid and its file.
    sequence     bigint      NOT NULL,
    filenode     bigint      NOT NULL,
    updated_at   timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);

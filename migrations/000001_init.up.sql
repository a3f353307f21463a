-- The coordination tables. All times are the database's. Everything that a worker
-- believes or does is a row here and can be read with SQL. docs/operating.md says
-- which rows a person may change.

-- One row per agreed configuration of a replica set. The number is the fencing
-- token: a batch commits only under the generation that it was started in.
CREATE TABLE {{schema}}orchestrator_generations (
    replica_set   text        NOT NULL,
    number        bigint      NOT NULL CHECK (number > 0),
    state         text        NOT NULL CHECK (state IN ('preparing', 'active', 'superseded')),
    -- Why it was needed: in a word, which is a metric's label; as data, which is
    -- [{"worker": ..., "name": ..., "change": "joined", "projections": [...], "detail": ...}];
    -- and as a sentence that is made from the data.
    cause         text        NOT NULL,
    changes       jsonb       NOT NULL DEFAULT '[]',
    reason        text        NOT NULL,
    -- The worker that prepared it, and those that it was activated with.
    prepared_by   uuid        NOT NULL,
    members       uuid[]      NOT NULL DEFAULT '{}',
    created_at    timestamptz NOT NULL DEFAULT now(),
    activated_at  timestamptz,
    superseded_at timestamptz,
    PRIMARY KEY (replica_set, number),
    CHECK (state <> 'active' OR activated_at IS NOT NULL),
    CHECK ((state = 'superseded') = (superseded_at IS NOT NULL))
);

-- At most one generation of a replica set is not superseded.
CREATE UNIQUE INDEX orchestrator_generations_current
    ON {{schema}}orchestrator_generations (replica_set)
    WHERE state <> 'superseded';

-- One row per running orchestrator, kept for a while after it has ended.
CREATE TABLE {{schema}}orchestrator_workers (
    worker_id        uuid        PRIMARY KEY,
    replica_set      text        NOT NULL,
    name             text        NOT NULL,
    state            text        NOT NULL CHECK (state IN ('pending', 'ready', 'running', 'stopping', 'stopped', 'dead')),
    -- The generation that the state refers to; 0 before the first.
    generation       bigint      NOT NULL DEFAULT 0,
    -- What happened last, in a sentence: why it is dead, why it left.
    detail           text        NOT NULL DEFAULT '',
    -- The projections that the worker runs. Those in unpartitioned must not be divided.
    -- The generation gave it no partition of those in left_out, because of handlers
    -- that it had abandoned.
    projections      text[]      NOT NULL,
    unpartitioned    text[]      NOT NULL DEFAULT '{}',
    left_out         text[]      NOT NULL DEFAULT '{}',
    -- How many partitions of each projection it takes.
    partitions       integer     NOT NULL DEFAULT 1 CHECK (partitions BETWEEN 1 AND 1024),
    -- Which partition numbers the worker had when there were so many partitions,
    -- as {"3": [1]}. A worker that comes back under its name inherits them.
    partition_keys   jsonb       NOT NULL DEFAULT '{}',
    -- The advisory lock that the worker's coordination session holds; null in
    -- poll-only mode, where there is none.
    session_key      bigint,
    hostname         text        NOT NULL,
    process_id       integer     NOT NULL,
    library_version  text        NOT NULL,
    started_at       timestamptz NOT NULL DEFAULT now(),
    state_changed_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX orchestrator_workers_replica_set
    ON {{schema}}orchestrator_workers (replica_set, state);

-- Apart from the workers, because these rows change all the time.
CREATE TABLE {{schema}}orchestrator_heartbeats (
    worker_id      uuid        PRIMARY KEY REFERENCES {{schema}}orchestrator_workers ON DELETE CASCADE,
    last_heartbeat timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- The position up to which a projection has handled the events of a range of slots,
-- and who owns the range: this table is the assignment.
CREATE TABLE {{schema}}orchestrator_checkpoints (
    projection       text        NOT NULL,
    slot_from        integer     NOT NULL,
    slot_to          integer     NOT NULL,
    position         bigint      NOT NULL DEFAULT 0 CHECK (position >= 0),
    replica_set      text        NOT NULL,
    -- The events table that the positions refer to, as schema.table.
    events_table     text        NOT NULL,
    generation       bigint      NOT NULL DEFAULT 0,
    -- Partition partition_key of total_partitions; null while nobody owns it.
    partition_key    integer,
    total_partitions integer,
    worker_id        uuid,
    updated_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (projection, slot_from),
    CHECK (0 <= slot_from AND slot_from < slot_to AND slot_to <= 65536),
    CHECK ((worker_id IS NULL) = (partition_key IS NULL)),
    CHECK ((partition_key IS NULL) = (total_partitions IS NULL)),
    CHECK (0 <= partition_key AND partition_key < total_partitions),
    -- Ranges of one projection never overlap. The name enters as 64 bits of its
    -- hash, so that a built-in range type does and no extension is needed.
    CONSTRAINT orchestrator_checkpoints_disjoint EXCLUDE USING gist (
        numrange(
            hashtextextended(projection, 0)::numeric * 65536 + slot_from,
            hashtextextended(projection, 0)::numeric * 65536 + slot_to
        ) WITH &&
    )
) WITH (fillfactor = 50);

CREATE INDEX orchestrator_checkpoints_replica_set
    ON {{schema}}orchestrator_checkpoints (replica_set, projection, slot_from);

-- Events that a handler failed on, with how often and the last error.
CREATE TABLE {{schema}}orchestrator_dead_letters (
    projection      text        NOT NULL,
    global_position bigint      NOT NULL,
    replica_set     text        NOT NULL,
    event_id        uuid        NOT NULL,
    event_type      text        NOT NULL,
    bounded_context text        NOT NULL,
    aggregate_type  text        NOT NULL,
    aggregate_id    text        NOT NULL,
    -- retrying: the partition waits for this event. handled: it succeeded later.
    -- skipped: a person has advanced the checkpoint past it, and no handler handled it.
    state           text        NOT NULL CHECK (state IN ('retrying', 'handled', 'skipped')),
    attempts        bigint      NOT NULL DEFAULT 1 CHECK (attempts > 0),
    last_error      text        NOT NULL,
    worker_id       uuid        NOT NULL,
    generation      bigint      NOT NULL,
    first_failed_at timestamptz NOT NULL DEFAULT now(),
    last_failed_at  timestamptz NOT NULL DEFAULT now(),
    handled_at      timestamptz,
    skipped_at      timestamptz,
    PRIMARY KEY (projection, global_position)
);

-- Handlers that did not return when they were to stop, and that their worker has
-- stopped waiting for. Each is at the event at global_position. What they do is
-- rolled back. While a worker has such a handler it handles no partition of the
-- projection. The row is deleted when the handler has returned. Rows of a worker that
-- has stopped or is dead are deleted with the next old rows, since its process is gone.
CREATE TABLE {{schema}}orchestrator_abandoned_handlers (
    worker_id        uuid        NOT NULL REFERENCES {{schema}}orchestrator_workers ON DELETE CASCADE,
    projection       text        NOT NULL,
    generation       bigint      NOT NULL,
    partition_key    integer     NOT NULL,
    total_partitions integer     NOT NULL,
    global_position  bigint      NOT NULL,
    event_id         uuid        NOT NULL,
    abandoned_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (worker_id, projection, generation, partition_key),
    CHECK (0 <= partition_key AND partition_key < total_partitions)
);

-- Projections whose partitions take turns, because their batches were in conflict: they
-- change the same rows in different orders, and PostgreSQL ended one of them.
CREATE TABLE {{schema}}orchestrator_turns (
    projection  text        PRIMARY KEY,
    replica_set text        NOT NULL,
    -- They take turns until then. If there is a conflict soon afterwards, they do so for twice as long.
    until       timestamptz NOT NULL,
    seconds     integer     NOT NULL CHECK (seconds > 0),
    conflicts   bigint      NOT NULL CHECK (conflicts > 0)
);

-- The position up to which no event can still appear, as workers have found it. Only
-- workers write it: one that starts relies on it for transactions that it finds open.
CREATE TABLE {{schema}}orchestrator_horizons (
    events_table        text        PRIMARY KEY,
    -- How often the position had to be taken back, because the sequence was set back or
    -- replaced. A worker that found its position before that must not store it.
    term                bigint      NOT NULL CHECK (term > 0),
    position            bigint      NOT NULL CHECK (position >= 0),
    -- The sequence that it was found for, by its oid and its file.
    sequence            bigint      NOT NULL,
    filenode            bigint      NOT NULL,
    -- The table that it was found for, by its oid, and the last event up to it. By them
    -- workers notice that another table has the events table's name: they handle nothing
    -- while that lacks the event. Delete the row to have them go on with the table as it is.
    table_oid           bigint      NOT NULL DEFAULT 0,
    last_event_position bigint,
    last_event_id       uuid,
    updated_at          timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);

-- When the sequence of positions was found below a checkpoint. Events that get the positions
-- between the two would be skipped, so nothing is handled until a person has decided.
CREATE TABLE {{schema}}orchestrator_sequence_regressions (
    events_table  text        NOT NULL,
    number        bigint      NOT NULL CHECK (number > 0),
    -- Where the sequence stood, at its lowest, and the highest checkpoint then.
    last_position bigint      NOT NULL CHECK (last_position >= 0),
    checkpoint    bigint      NOT NULL,
    noticed_at    timestamptz NOT NULL DEFAULT now(),
    -- When a worker has found that the checkpoints were set back to last_position
    -- or lower, or that the sequence was advanced to checkpoint before an append.
    settled_at    timestamptz,
    PRIMARY KEY (events_table, number),
    CHECK (last_position < checkpoint)
);

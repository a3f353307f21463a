-- The coordination tables. Times are the database's. Everything a worker
-- believes or does stands here and can be read with SQL.

-- One row per agreed configuration of a replica set. The number is the fencing
-- token: a batch commits only under the generation that it was started in.
CREATE TABLE {{schema}}orchestrator_generations (
    replica_set   text        NOT NULL,
    number        bigint      NOT NULL CHECK (number > 0),
    state         text        NOT NULL CHECK (state IN ('preparing', 'active', 'superseded')),
    -- Why it was needed, in a word (a metric's label) and in a sentence.
    cause         text        NOT NULL,
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

CREATE TABLE {{schema}}orchestrator_workers (
    worker_id        uuid        PRIMARY KEY,
    replica_set      text        NOT NULL,
    name             text        NOT NULL,
    state            text        NOT NULL CHECK (state IN ('pending', 'ready', 'running', 'stopping', 'stopped', 'dead')),
    -- The generation that the state speaks of; 0 before the first.
    generation       bigint      NOT NULL DEFAULT 0,
    -- What happened last, in a sentence: why it is dead, why it left.
    detail           text        NOT NULL DEFAULT '',
    -- The projections that the worker runs; those in unpartitioned must not be divided.
    projections      text[]      NOT NULL,
    unpartitioned    text[]      NOT NULL DEFAULT '{}',
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

-- Apart from the workers, since these rows change all the time.
CREATE TABLE {{schema}}orchestrator_heartbeats (
    worker_id      uuid        PRIMARY KEY REFERENCES {{schema}}orchestrator_workers ON DELETE CASCADE,
    last_heartbeat timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- Up to which position a projection has handled the events of a range of slots,
-- and who owns the range: this table is the assignment.
CREATE TABLE {{schema}}orchestrator_checkpoints (
    projection       text        NOT NULL,
    slot_from        integer     NOT NULL,
    slot_to          integer     NOT NULL,
    position         bigint      NOT NULL DEFAULT 0 CHECK (position >= 0),
    replica_set      text        NOT NULL,
    -- The events table the positions speak of, as schema.table.
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
    -- hash, so that a plain range type does and no extension is needed.
    CONSTRAINT orchestrator_checkpoints_disjoint EXCLUDE USING gist (
        numrange(
            hashtextextended(projection, 0)::numeric * 65536 + slot_from,
            hashtextextended(projection, 0)::numeric * 65536 + slot_to
        ) WITH &&
    )
) WITH (fillfactor = 50);

CREATE INDEX orchestrator_checkpoints_replica_set
    ON {{schema}}orchestrator_checkpoints (replica_set, projection, slot_from);

-- Events that a handler failed on, with how often and what it said.
CREATE TABLE {{schema}}orchestrator_dead_letters (
    projection      text        NOT NULL,
    global_position bigint      NOT NULL,
    replica_set     text        NOT NULL,
    event_id        uuid        NOT NULL,
    event_type      text        NOT NULL,
    bounded_context text        NOT NULL,
    aggregate_type  text        NOT NULL,
    aggregate_id    text        NOT NULL,
    -- retrying: the partition waits for this event; handled: it went through.
    state           text        NOT NULL CHECK (state IN ('retrying', 'handled')),
    attempts        bigint      NOT NULL DEFAULT 1 CHECK (attempts > 0),
    last_error      text        NOT NULL,
    worker_id       uuid        NOT NULL,
    generation      bigint      NOT NULL,
    first_failed_at timestamptz NOT NULL DEFAULT now(),
    last_failed_at  timestamptz NOT NULL DEFAULT now(),
    handled_at      timestamptz,
    PRIMARY KEY (projection, global_position)
);

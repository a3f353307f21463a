-- Handlers that did not return when they were to stop, and that their worker has
-- stopped waiting for. Each is at the event at global_position. What they do is
-- rolled back. While a worker has such a handler it handles no partition of the
-- projection. A row goes when the handler has returned. Rows of a worker that has
-- stopped or is dead are deleted with the next old rows: their process is gone.
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

-- The projections that the generation gave the worker no partition of, because of
-- handlers that it had abandoned.
ALTER TABLE {{schema}}orchestrator_workers ADD COLUMN left_out text[] NOT NULL DEFAULT '{}';

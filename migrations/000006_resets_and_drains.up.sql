-- Those of the worker's projections that can empty their read models.
ALTER TABLE {{schema}}orchestrator_workers
    ADD COLUMN resettable text[] NOT NULL DEFAULT '{}';

-- reset: empty the projection's read model and set its checkpoints back to target, in one
-- transaction. It names no aggregate; whoever owns the slot of the empty id does it.
ALTER TABLE {{schema}}orchestrator_requests
    ADD COLUMN target bigint CHECK (target >= 0),
    DROP CONSTRAINT orchestrator_requests_kind_check,
    ADD CONSTRAINT orchestrator_requests_kind_check CHECK (kind IN ('retry', 'try', 'reset')),
    ADD CONSTRAINT orchestrator_requests_target CHECK ((kind = 'reset') = (target IS NOT NULL));

-- Workers that get no partitions until somebody deletes the row. worker is a name, which
-- outlasts restarts, or an id.
CREATE TABLE {{schema}}orchestrator_drains (
    replica_set text        NOT NULL,
    worker      text        NOT NULL,
    actor       text        NOT NULL,
    reason      text        NOT NULL,
    drained_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (replica_set, worker)
);

-- The generation gave the worker no partitions, because it was drained.
ALTER TABLE {{schema}}orchestrator_workers
    ADD COLUMN drained boolean NOT NULL DEFAULT false;

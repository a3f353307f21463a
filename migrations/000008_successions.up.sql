-- What each of the worker's projections replaces (projection.Successor), by name, as
-- {"users-2": "users"}.
ALTER TABLE {{schema}}orchestrator_workers
    ADD COLUMN replaces jsonb NOT NULL DEFAULT '{}';

-- Projections that have replaced others, at a cut-over. A projection that was replaced
-- handles nothing any more. Its checkpoints are held where the other one has taken over.
CREATE TABLE {{schema}}orchestrator_successions (
    projection  text        PRIMARY KEY,
    replaced    text        NOT NULL UNIQUE CHECK (replaced <> projection),
    -- Null while a cut-over holds both until they are at the same positions. It holds them
    -- until held_until at most.
    cut_over_at timestamptz,
    held_until  timestamptz,
    CHECK ((cut_over_at IS NULL) = (held_until IS NOT NULL))
);

-- Projections that somebody waits for in a process whose notifications some of their
-- workers do not get, because these have no session. While the row is fresh, workers
-- write checkpoints at once. It is a hint: without it they do so within a second.
CREATE TABLE {{schema}}orchestrator_waits (
    projection text        PRIMARY KEY,
    until      timestamptz NOT NULL
);

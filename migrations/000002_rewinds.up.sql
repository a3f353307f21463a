-- When the sequence of positions stood lower than a checkpoint: events that get
-- the positions between would be skipped, so nothing is handled until it is settled.
CREATE TABLE {{schema}}orchestrator_rewinds (
    events_table  text        NOT NULL,
    number        bigint      NOT NULL CHECK (number > 0),
    -- Where the sequence stood, at its lowest, and the highest checkpoint then.
    last_position bigint      NOT NULL CHECK (last_position >= 0),
    checkpoint    bigint      NOT NULL,
    noticed_at    timestamptz NOT NULL DEFAULT now(),
    -- When a worker has found that the checkpoints were set back to last_position
    -- or lower, or that the sequence was lifted to checkpoint before an append.
    settled_at    timestamptz,
    PRIMARY KEY (events_table, number),
    CHECK (last_position < checkpoint)
);

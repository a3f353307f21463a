-- What projection.PostgresProcessor keeps of events that could not be handled. A table that exists is left as it is.

DO $$
BEGIN
    -- Aggregates whose events a projection puts aside, in order, until a person decides. Their
    -- letters are the rows of {{letters}} with the state parked.
    IF to_regclass('{{parked}}') IS NULL THEN
        CREATE TABLE {{parked}} (
            projection_name text        NOT NULL,
            bounded_context text        NOT NULL,
            aggregate_type  text        NOT NULL,
            aggregate_id    text        NOT NULL,
            -- The event that could not be handled, and how many letters there are with it.
            global_position bigint      NOT NULL,
            letters         bigint      NOT NULL CHECK (letters > 0),
            parked_at       timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (projection_name, aggregate_id, aggregate_type, bounded_context)
        );
    END IF;

    -- retrying: the event is tried again. stopped: the slots from slot_from up to slot_to wait at
    -- it. skipped: it was left out. parked: its aggregate is parked; one that waits behind the
    -- event that failed was attempted by nobody. An event that was handled after all has no row.
    IF to_regclass('{{letters}}') IS NULL THEN
        CREATE TABLE {{letters}} (
            projection_name text        NOT NULL,
            global_position bigint      NOT NULL,
            event_id        uuid        NOT NULL,
            event_type      text        NOT NULL,
            bounded_context text        NOT NULL,
            aggregate_type  text        NOT NULL,
            aggregate_id    text        NOT NULL,
            state           text        NOT NULL CHECK (state IN ('retrying', 'stopped', 'skipped', 'parked')),
            attempts        bigint      NOT NULL CHECK (attempts >= 0),
            last_error      text        NOT NULL,
            slot_from       int,
            slot_to         int,
            first_failed_at timestamptz NOT NULL DEFAULT now(),
            last_failed_at  timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (projection_name, global_position),
            CHECK (state <> 'stopped' OR slot_from IS NOT NULL AND slot_to IS NOT NULL AND slot_from < slot_to)
        );
        CREATE INDEX ON {{letters}} (projection_name, state) WHERE state IN ('retrying', 'stopped');
    END IF;
END
$$;

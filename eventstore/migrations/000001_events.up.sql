-- The tables as pupsourcing's generator makes them. A table that exists is left
-- as it is, with its indexes.
--
-- Two kinds of index that the generator adds are left out. The one on
-- (bounded_context, aggregate_type, aggregate_id, aggregate_version) repeats the
-- unique constraint's and would be written with every event for nothing. Those
-- on updated_at of the other two tables would make every update of a head write
-- all indexes (no HOT update), and nothing here looks for updated_at.

DO $$
BEGIN
    IF to_regclass('{{events}}') IS NULL THEN
        CREATE TABLE {{events}} (
            global_position   bigserial   PRIMARY KEY,
            bounded_context   text        NOT NULL,
            aggregate_type    text        NOT NULL,
            aggregate_id      text        NOT NULL,
            aggregate_version bigint      NOT NULL,
            event_id          uuid        NOT NULL UNIQUE,
            event_type        text        NOT NULL,
            event_version     int         NOT NULL DEFAULT 1,
            payload           bytea       NOT NULL,
            trace_id          text,
            correlation_id    text,
            causation_id      text,
            metadata          jsonb,
            created_at        timestamptz NOT NULL DEFAULT now(),
            UNIQUE (bounded_context, aggregate_type, aggregate_id, aggregate_version)
        );
        CREATE INDEX ON {{events}} (event_type, global_position);
        CREATE INDEX ON {{events}} (correlation_id) WHERE correlation_id IS NOT NULL;
    END IF;

    IF to_regclass('{{heads}}') IS NULL THEN
        CREATE TABLE {{heads}} (
            bounded_context   text        NOT NULL,
            aggregate_type    text        NOT NULL,
            aggregate_id      text        NOT NULL,
            aggregate_version bigint      NOT NULL,
            updated_at        timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (bounded_context, aggregate_type, aggregate_id)
        );
    END IF;

    IF to_regclass('{{checkpoints}}') IS NULL THEN
        CREATE TABLE {{checkpoints}} (
            projection_name      text        PRIMARY KEY,
            last_global_position bigint      NOT NULL DEFAULT 0,
            updated_at           timestamptz NOT NULL DEFAULT now()
        );
    END IF;
END
$$;

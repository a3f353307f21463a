-- Of which table the position was found, by its oid, and the last event up to it. By them workers notice that another table has the events table's
-- name: they handle nothing while that lacks the event. Delete the row to have them go on with the table as it is.
ALTER TABLE {{schema}}orchestrator_horizons
    ADD COLUMN table_oid           bigint NOT NULL DEFAULT 0,
    ADD COLUMN last_event_position bigint,
    ADD COLUMN last_event_id       uuid;

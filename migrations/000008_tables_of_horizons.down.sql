ALTER TABLE {{schema}}orchestrator_horizons DROP COLUMN table_oid, DROP COLUMN last_event_position, DROP COLUMN last_event_id;

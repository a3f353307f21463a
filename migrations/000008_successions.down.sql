DELETE FROM {{schema}}orchestrator_operations WHERE kind = 'cut-over' AND state = 'waiting';
DROP TABLE {{schema}}orchestrator_successions;
-- What these workers have declared is lost. One that still runs enters again, and declares
-- it again when the tables can hold it. Of one that does not, nothing wrong stays on record.
DELETE FROM {{schema}}orchestrator_workers WHERE replaces <> '{}';
ALTER TABLE {{schema}}orchestrator_workers DROP COLUMN replaces;

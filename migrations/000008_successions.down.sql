DELETE FROM {{schema}}orchestrator_operations WHERE kind = 'cut-over' AND state = 'waiting';
DROP TABLE {{schema}}orchestrator_successions;
ALTER TABLE {{schema}}orchestrator_workers DROP COLUMN replaces;

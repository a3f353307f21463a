ALTER TABLE {{schema}}orchestrator_workers DROP COLUMN left_out;
DROP TABLE {{schema}}orchestrator_abandoned_handlers;

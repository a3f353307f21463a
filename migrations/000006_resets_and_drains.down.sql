DELETE FROM {{schema}}orchestrator_operations WHERE id IN (SELECT operation FROM {{schema}}orchestrator_requests WHERE kind = 'reset');
ALTER TABLE {{schema}}orchestrator_requests
    DROP COLUMN target,
    DROP CONSTRAINT orchestrator_requests_kind_check,
    ADD CONSTRAINT orchestrator_requests_kind_check CHECK (kind IN ('retry', 'try'));
DROP TABLE {{schema}}orchestrator_drains;
-- What these workers have declared is lost. One that still runs enters again, and declares
-- it again when the tables can hold it.
DELETE FROM {{schema}}orchestrator_workers WHERE resettable <> '{}';
ALTER TABLE {{schema}}orchestrator_workers DROP COLUMN resettable, DROP COLUMN drained;

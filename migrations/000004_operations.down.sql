DROP INDEX {{schema}}orchestrator_dead_letters_parked;
ALTER TABLE {{schema}}orchestrator_dead_letters
    DROP COLUMN error_kind,
    DROP COLUMN error_frame;
DROP TABLE {{schema}}orchestrator_requests;
DROP TABLE {{schema}}orchestrator_operations;

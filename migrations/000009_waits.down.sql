DROP TABLE {{schema}}orchestrator_waits;

DROP TABLE {{schema}}orchestrator_rewinds;

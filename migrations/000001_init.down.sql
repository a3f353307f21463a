DROP TABLE {{schema}}orchestrator_dead_letters;
DROP TABLE {{schema}}orchestrator_checkpoints;
DROP TABLE {{schema}}orchestrator_heartbeats;
DROP TABLE {{schema}}orchestrator_workers;
DROP TABLE {{schema}}orchestrator_generations;

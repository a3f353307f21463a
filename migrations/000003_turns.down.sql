DROP TABLE {{schema}}orchestrator_turns;

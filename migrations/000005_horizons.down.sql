DROP TABLE {{schema}}orchestrator_horizons;

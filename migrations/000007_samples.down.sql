DROP VIEW {{schema}}orchestrator_scalable_lag;
DROP TABLE {{schema}}orchestrator_samples;

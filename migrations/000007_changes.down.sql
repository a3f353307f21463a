UPDATE {{schema}}orchestrator_generations SET cause = 'contested' WHERE cause = 'inconsistent';
ALTER TABLE {{schema}}orchestrator_generations DROP COLUMN changes;

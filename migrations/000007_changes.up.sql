-- What the generation was made for, as [{"worker": …, "name": …, "change": "joined", "projections": […], "detail": …}]; reason says
-- it in words.
ALTER TABLE {{schema}}orchestrator_generations ADD COLUMN changes jsonb NOT NULL DEFAULT '[]';
UPDATE {{schema}}orchestrator_generations SET cause = 'inconsistent' WHERE cause = 'contested';

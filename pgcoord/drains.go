package pgcoord

// drainedColumn says whether somebody has drained worker w, by its name or its id.
const drainedColumn = `
       EXISTS (SELECT 1 FROM {{schema}}orchestrator_drains WHERE replica_set = $1) AND EXISTS (SELECT 1 FROM {{schema}}orchestrator_drains AS d WHERE d.replica_set = w.replica_set AND d.worker IN (w.name, w.worker_id::text))`

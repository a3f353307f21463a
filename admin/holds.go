package admin

import (
	"time"

	"github.com/jackc/pgx/v5"
)

// Hold is a projection that is held back: it handles nothing beyond a position.
type Hold struct {
	Projection string `json:"projection"`
	// Actor, Reason and Since come from the latest pause of the projection or of all projections, or from the cut-over
	// that holds it. They are empty and null if the replica set has no record of one.
	Actor  string     `json:"actor"`
	Reason string     `json:"reason"`
	Since  *time.Time `json:"since"`
	// Until is when the hold ends by itself. It is null if somebody must resume the projection.
	Until *time.Time `json:"until"`
}

// Drain is a drained worker: it gets no partitions.
type Drain struct {
	// Worker is the argument of Admin.Drain: the worker's name, or its id.
	Worker string     `json:"worker"`
	Actor  string     `json:"actor"`
	Reason string     `json:"reason"`
	Since  *time.Time `json:"since"`
}

const sqlHolds = `
SELECT c.projection, coalesce(o.actor, ''), coalesce(o.reason, ''), o.requested_at, c.until
FROM (
    SELECT projection, CASE WHEN pg_catalog.bool_and(hold_until IS NOT NULL) THEN pg_catalog.max(hold_until) END AS until
    FROM {{schema}}orchestrator_checkpoints AS c
    WHERE replica_set = $1 AND hold_at IS NOT NULL AND (hold_until IS NULL OR hold_until > pg_catalog.now())` + notReplacedSQL + `
    GROUP BY projection) AS c
LEFT JOIN LATERAL (
    SELECT actor, reason, requested_at FROM {{schema}}orchestrator_operations
    WHERE replica_set = $1 AND (kind = 'pause' AND projection IN ('', c.projection)
        OR kind = 'cut-over' AND state = 'waiting' AND c.projection IN (projection, arguments ->> 'from')) ORDER BY id DESC LIMIT 1) AS o ON true
ORDER BY c.projection`

const sqlDrainsOf = `
SELECT worker, actor, reason, drained_at FROM {{schema}}orchestrator_drains WHERE replica_set = $1 ORDER BY worker`

func scanHold(rows pgx.Rows, h *Hold) error {
	return rows.Scan(&h.Projection, &h.Actor, &h.Reason, at(&h.Since), at(&h.Until))
}

func scanDrain(rows pgx.Rows, d *Drain) error {
	return rows.Scan(&d.Worker, &d.Actor, &d.Reason, at(&d.Since))
}

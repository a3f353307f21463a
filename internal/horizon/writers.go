package horizon

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Writer is an open transaction that may have appended, and so may hold the horizon back.
type Writer struct {
	// PID is its session's process on the server; 0 for a prepared transaction, which PreparedGID names.
	PID         int32
	PreparedGID string
	// Application is the session's application_name, and Since when the transaction began or was prepared. They are empty and nil where the role may not
	// see other roles' sessions (grant it pg_read_all_stats).
	Application string
	Since       *time.Time
}

// sqlWriters describes the holders of the writers' lock, the oldest first.
const sqlWriters = withHolders + `
SELECT h.pid, coalesce(p.gid, ''), coalesce(a.application_name, ''), coalesce(p.prepared, a.xact_start)
FROM holder AS h
LEFT JOIN pg_catalog.pg_stat_activity AS a ON h.pid <> 0 AND a.pid = h.pid
LEFT JOIN (
    pg_catalog.pg_locks AS l JOIN pg_catalog.pg_prepared_xacts AS p ON p.transaction = l.transactionid
) ON h.pid = 0 AND l.locktype = 'transactionid' AND l.virtualtransaction = h.name
ORDER BY 4, h.pid, h.name`

// Writers returns the open transactions that may have appended to the events table, the oldest first. If the sequence's last value was read before, and
// there are none, that value is settled.
func Writers(ctx context.Context, db interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}, events pgx.Identifier,
) ([]Writer, error) {
	rows, err := db.Query(ctx, sqlWriters, events.Sanitize())
	if err != nil {
		return nil, fmt.Errorf("looking up the transactions that may have appended: %w", err)
	}
	writers, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (w Writer, err error) {
		return w, row.Scan(&w.PID, &w.PreparedGID, &w.Application, &w.Since)
	})
	if err != nil {
		return nil, fmt.Errorf("looking up the transactions that may have appended: %w", err)
	}
	return writers, nil
}

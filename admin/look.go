package admin

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/horizon"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// look is a transaction in which all is read at one moment.
type look struct {
	tx     pgx.Tx
	store  *pgcoord.Store
	events pgx.Identifier
	admin  *Admin
}

// look runs do in a transaction that only reads.
func (a *Admin) look(ctx context.Context, do func(look) error) error {
	store, err := a.open(ctx)
	if err != nil {
		return err
	}
	return a.db.Look(ctx, func(tx pgx.Tx) error { return do(look{tx: tx, store: store, events: a.found.Load().events, admin: a}) })
}

// explainReading adds to an error of the database the GRANT that reading lacks.
func (a *Admin) explainReading(ctx context.Context, doing string, err error) error {
	return a.explain(ctx, readRights, doing, err)
}

// settled is the live workers, and how far the stream is settled. A transaction that begins afterwards sees every event up to the horizon.
type settled struct {
	view    replicaset.View
	horizon Horizon
}

// sqlStored is the stored horizon.
const sqlStored = `
SELECT h.position, h.updated_at FROM (VALUES (1)) AS one LEFT JOIN {{schema}}orchestrator_horizons AS h ON h.events_table = $1`

// readSettled reads the sequence before it looks at who writes. So its value is settled if nobody does.
func readSettled(ctx context.Context, db pgcoord.DB, store *pgcoord.Store, events pgx.Identifier) (s settled, err error) {
	if s.view, err = store.Observe(ctx, db, uuid.Nil, false); err != nil {
		return s, err
	}
	writers, err := horizon.Writers(ctx, db, events)
	if err != nil {
		return s, err
	}
	h := &s.horizon
	h.HeldBackBy = make([]Transaction, 0, len(writers))
	for _, w := range writers {
		h.HeldBackBy = append(h.HeldBackBy, Transaction{PID: w.PID, Prepared: w.PreparedGID, Application: w.Application, Since: w.Since})
	}
	var stored *int64
	if err := db.QueryRow(ctx, store.SQL(sqlStored), store.EventsTable()).Scan(&stored, at(&h.StoredAt)); err != nil {
		return s, fmt.Errorf("reading the stored horizon: %w", err)
	}
	if stored != nil {
		h.StoredPosition = *stored
	}
	h.Position = h.StoredPosition
	if s.view.LastAllocated > 0 {
		h.LastAllocated = &s.view.LastAllocated
		if len(writers) == 0 {
			h.Position = s.view.LastAllocated
		}
	}
	return s, nil
}

// moment scans a time. Null and the infinite times are nil.
type moment struct{ to **time.Time }

func at(to **time.Time) moment { return moment{to: to} }

// ScanTimestamptz takes the time.
func (m moment) ScanTimestamptz(v pgtype.Timestamptz) error {
	*m.to = nil
	if v.Valid && v.InfinityModifier == pgtype.Finite {
		*m.to = &v.Time
	}
	return nil
}

// collect appends what each row of a query has.
func collect[T any](to *[]T, scan func(pgx.Rows, *T) error) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		*to = []T{}
		for rows.Next() {
			var t T
			if err := scan(rows, &t); err != nil {
				return err
			}
			*to = append(*to, t)
		}
		return rows.Err()
	}
}

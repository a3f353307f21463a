package horizon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Blocker is a transaction that holds the horizon back.
type Blocker struct {
	// PID is its session's process on the server; 0 for a prepared transaction.
	PID int32
	// Application is the session's application_name. It is empty for a
	// prepared transaction and where the role may not see other roles' sessions
	// (grant it pg_read_all_stats).
	Application string
	// Age is how long ago the transaction began or was prepared; 0 if that may
	// not be seen.
	Age time.Duration
	// PreparedGID names a prepared transaction; it ends by COMMIT PREPARED or
	// ROLLBACK PREPARED. It is empty for others.
	PreparedGID string
}

// stuck remembers since when the horizon stands still.
type stuck struct {
	at      int64
	since   time.Time
	looked  time.Time
	blocker *Blocker
}

// blocker looks up who holds the horizon back, if it has stood still for long.
func (p *Prober) blocker(ctx context.Context, r Reading, seen sight) (*Blocker, error) {
	blocking := p.tracker.Blocking()
	now := time.Now()
	if len(blocking) == 0 || r.Position != p.stuck.at || p.stuck.since.IsZero() {
		p.stuck = stuck{at: r.Position, since: now}
	}
	if len(blocking) == 0 || now.Sub(p.stuck.since) < p.opts.BlockerAfter {
		return nil, nil
	}
	if now.Sub(p.stuck.looked) < p.opts.BlockerAfter {
		return p.stuck.blocker, nil
	}
	found, err := findBlocker(ctx, p.db, blocking, seen)
	if err != nil {
		return nil, err
	}
	p.stuck.looked, p.stuck.blocker = now, found
	return found, nil
}

// findBlocker describes the oldest of the blocking transactions; nil if all
// have ended meanwhile.
func findBlocker(ctx context.Context, db Querier, blocking []string, seen sight) (*Blocker, error) {
	pidOf := make(map[string]int32, len(seen.names))
	for i, name := range seen.names {
		pidOf[name] = seen.pids[i]
	}
	pids := make([]int32, 0, len(blocking))
	for _, name := range blocking {
		if pid := pidOf[name]; pid != 0 {
			pids = append(pids, pid)
		}
	}
	var (
		b   Blocker
		age float64
	)
	err := db.QueryRow(ctx, sqlBlocker, blocking, pids).Scan(&b.PID, &b.Application, &age, &b.PreparedGID)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("looking up the transaction that holds the horizon back: %w", err)
	}
	b.Age = time.Duration(age * float64(time.Second))
	return &b, nil
}

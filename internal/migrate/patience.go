package migrate

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
)

// A session that waits for an exclusive lock on a table stalls everybody who wants the table after it. A pg_dump, or a query that somebody has left
// open, would thus make a migration stall all workers until it ends. So a migration does not wait long for a lock. It gives way, and tries again.

const (
	// firstWait is how long the first attempt waits for each of its locks. Each further attempt waits twice as long, up to mostWait: while batches
	// follow one another, a short wait may never succeed.
	firstWait = 200 * time.Millisecond
	mostWait  = 5 * time.Second
	// reportEvery is how often the log says that a migration waits.
	reportEvery = 30 * time.Second
)

// pauses are the times between attempts, in which others have the tables.
var pauses = dbfault.Backoff{First: 500 * time.Millisecond, Max: 10 * time.Second}

// patience is how long a migration waits for locks on tables.
type patience struct {
	wait     time.Duration
	attempts int // that gave way
	began    time.Time
	reported time.Time
	role     time.Duration // the role's lock_timeout, which bounds all attempts together; 0 if it has none
	limited  bool          // this attempt has the lock of the migrations, and waits for tables only
}

func newPatience() *patience {
	return &patience{wait: firstWait, began: time.Now(), reported: time.Now()}
}

// limitSQL sets the lock_timeout to $1 milliseconds, unless it is shorter, until the transaction ends. It returns what it was.
const limitSQL = `
SELECT s.setting::pg_catalog.int8, pg_catalog.set_config('lock_timeout',
	CASE WHEN s.setting::pg_catalog.int8 BETWEEN 1 AND $1::pg_catalog.int8 THEN s.setting ELSE $1::pg_catalog.int8::text END, true)
FROM pg_catalog.pg_settings AS s WHERE s.name = 'lock_timeout'`

// limit bounds the waits of an attempt, which has the lock of the migrations.
func (w *patience) limit(ctx context.Context, tx pgx.Tx) error {
	var before int64
	var now string
	if err := tx.QueryRow(ctx, limitSQL, oneTrip, w.wait.Milliseconds()).Scan(&before, &now); err != nil {
		return fmt.Errorf("setting the lock_timeout: %w", err)
	}
	w.role, w.limited = time.Duration(before)*time.Millisecond, true
	return nil
}

// again says whether an attempt has given way, and another may follow.
func (w *patience) again(err error) bool {
	limited := w.limited
	w.limited = false
	switch dbfault.Code(err) {
	case "55P03", "40P01": // lock timeout, deadlock
		return limited && (w.role == 0 || time.Since(w.began) < w.role)
	}
	return false
}

// pause waits for the next attempt. It returns an error if ctx ends meanwhile.
func (w *patience) pause(ctx context.Context, log *slog.Logger, err error) error {
	w.attempts++
	w.wait = min(2*w.wait, mostWait)
	if time.Since(w.reported) >= reportEvery {
		w.reported = time.Now()
		log.WarnContext(ctx, "a migration waits for transactions that use the tables; it gives way to others and tries again until they end",
			"attempts", w.attempts, "error", err)
	}
	select {
	case <-ctx.Done():
		return fmt.Errorf("%w after %d attempts, which gave way to open transactions (the last one: %w)", ctx.Err(), w.attempts, err)
	case <-time.After(pauses.After(w.attempts)):
		return nil
	}
}

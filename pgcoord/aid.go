package pgcoord

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
)

// An aid is a table without which a replica set works, if less well: the abandoned handlers, the drains, the turns, the requests, and the record of failed
// events. Somebody may revoke a right on it, or lock it for minutes, while workers run. That must not keep them from their work. So statements on an aid wait for a lock
// for a short time only, and a statement that needs more than the aid is repeated without it where the database refuses it.

// LockPatience is how long a coordination statement waits for a lock, outside of the transitions.
const LockPatience = 2 * time.Second

// firstAidRest and mostAidRest are for how long an aid is not tried again that could not be used, the first time and at most. A look that tries it waits for up to
// LockPatience. A drain takes effect this much later than the lock on its table is gone.
const (
	firstAidRest = 2 * time.Second
	mostAidRest  = 10 * time.Second
)

// aid is tables that are not used for a while after they could not be: those that the statements on others read too, the abandoned handlers and the drains; or the
// waits. All is in nanoseconds, on this process's clock.
type aid struct {
	until atomic.Int64 // since 1970
	next  atomic.Int64 // how long the next rest is; 0 for the first
}

// rests says whether the aid is not to be used.
func (a *aid) rests() bool { return time.Now().UnixNano() < a.until.Load() }

// rest has the aid not used for a while, the longer the more often it could not be used.
func (a *aid) rest() {
	rest := max(int64(firstAidRest), a.next.Load())
	a.until.Store(time.Now().UnixNano() + rest)
	a.next.Store(min(2*rest, int64(mostAidRest)))
}

// used notes that the aid could be used.
func (a *aid) used() { a.next.Store(0) }

// aidError is the failure of a statement that reads nothing but an aid.
type aidError struct{ error }

// Unwrap is the database's error.
func (e aidError) Unwrap() error { return e.error }

// mayDoWithout says whether the error of a statement that reads an aid may be the aid's: the database has refused it, and is there, or has not
// answered. To prepare a statement takes the locks on its tables too, before the wait for them can be bounded on a connection of the pool.
func mayDoWithout(err error) bool {
	return dbfault.IsRefused(err) || errors.Is(err, dbguard.ErrNoAnswer)
}

// withoutAids is a statement that reads, in place of the abandoned handlers and the drain of worker w, what the generation has left out because of them.
func withoutAids(sql string) string {
	return strings.NewReplacer(abandonedColumn, " array_remove(w.left_out, NULL)", drainedColumn, " coalesce(w.drained, false)",
		"{{all rows and drains}}", "{{all rows}}").Replace(sql)
}

// sqlReadyAids is, for each worker that is ready, the projections of its abandoned handlers, and whether it is drained.
const sqlReadyAids = `
SELECT w.worker_id,` + abandonedColumn + `,` + drainedColumn + `
FROM {{schema}}orchestrator_workers AS w
WHERE w.replica_set = $1 AND w.state = 'ready' AND w.generation = $2 LIMIT {{all rows and drains}}`

// These bound how long a statement of a transition waits for a lock.
const (
	sqlLockPatience = `SELECT set_config('lock_timeout', '2s', true)`
	sqlWaitForLocks = `SELECT set_config('lock_timeout', '0', true)`
)

// readAids reads what the members have abandoned, and which of them are drained. To prepare a statement takes the locks too, so
// their bound comes in a round trip before. If one of the tables is what fails, the error is an aidError.
func (s *Store) readAids(ctx context.Context, tx pgx.Tx, generation int64, members []replicaset.Member) error {
	if _, err := tx.Exec(ctx, sqlLockPatience); err != nil {
		return fmt.Errorf("bounding the wait for locks: %w", err)
	}
	rows, err := tx.Query(ctx, s.q(sqlReadyAids), s.replicaSet, generation) //nolint:rowserrcheck // ForEachRow checks it
	if err == nil {
		var worker uuid.UUID
		var abandoned []string
		var drained bool
		_, err = pgx.ForEachRow(rows, []any{&worker, &abandoned, &drained}, func() error {
			for i := range members {
				if members[i].ID == worker {
					members[i].LeftOut, members[i].Drained = slices.Clone(abandoned), drained
				}
			}
			return nil
		})
	}
	if err != nil {
		return aidError{fmt.Errorf("reading the abandoned handlers and the drains: %w", err)}
	}
	if _, err := tx.Exec(ctx, sqlWaitForLocks); err != nil {
		return fmt.Errorf("waiting for locks again: %w", err)
	}
	return nil
}

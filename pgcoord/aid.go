package pgcoord

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
)

// An aid is a table without which a replica set works, if less well: the abandoned handlers, the turns, and the record of failed events. Somebody may
// revoke a right on it, or lock it for minutes, while workers run. That must not keep them from their work. So statements on an aid wait for a lock
// for a short time only, and a statement that needs more than the aid is repeated without it where the database refuses it.

// LockPatience is how long a coordination statement waits for a lock, outside of the transitions.
const LockPatience = 2 * time.Second

// aidRest is for how long an aid is not tried again that could not be used.
const aidRest = time.Minute

// aid is a table that the statements on others read too.
type aid struct{ until atomic.Int64 } // in nanoseconds since 1970, on this process's clock

// rests says whether the aid is not to be used.
func (a *aid) rests() bool { return time.Now().UnixNano() < a.until.Load() }

// rest has the aid not used for a while.
func (a *aid) rest() { a.until.Store(time.Now().Add(aidRest).UnixNano()) }

// aidError is the failure of a statement that reads nothing but an aid.
type aidError struct{ error }

// Unwrap is the database's error.
func (e aidError) Unwrap() error { return e.error }

// mayDoWithout says whether the error of a statement that reads an aid may be the aid's: the database has refused it, and is there, or has not
// answered. To prepare a statement takes the locks on its tables too, before the wait for them can be bounded on a connection of the pool.
func mayDoWithout(err error) bool {
	return dbfault.IsRefused(err) || errors.Is(err, dbguard.ErrNoAnswer)
}

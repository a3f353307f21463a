package actors

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// A worker must be allowed to end the sessions of others that are frozen, and somebody else may hold the leader's lock. This logs which rights are missing and who holds the
// lock, and ends a frozen leader's session.

// rightInterval is how often a missing right is logged.
const rightInterval = time.Hour

// checkRights warns of the other workers' roles whose sessions this worker may not end.
func (e *execution) checkRights(ctx context.Context, db pgcoord.Conn) error {
	missing, err := e.worker.Store.MissingRights(ctx, db, e.worker.self())
	for _, right := range missing {
		e.worker.warnOfRight(e.log, right)
	}
	return err
}

// warnOfRight logs a missing right, once in a while.
func (w *worker) warnOfRight(log *slog.Logger, right *pgcoord.RightError) {
	if w.notices.due("the right to end sessions of "+right.Role, rightInterval) {
		log.Warn("this worker may not end the sessions of another worker's role, so if such a worker freezes, it is replaced later, "+
			"and its open transaction may hold up the replica set", "other_role", right.Role, "remedy", right.Remedy)
	}
}

// endLeader ends the session of a frozen leader, if the worker may.
func (e *execution) endLeader(ctx context.Context, db pgcoord.Conn, a replicaset.EndLeader) error {
	w := e.worker
	err := w.Store.EndLeader(ctx, db, a.PID, a.Worker)
	if right, ok := errors.AsType[*pgcoord.RightError](err); ok {
		w.warnOfRight(e.log, right)
		e.result.refused = a.PID
		return nil
	}
	if err == nil {
		w.Metrics.BackendTerminated()
		e.log.Warn("ended the session of a frozen leader", "leader", a.Worker, "pid", a.PID)
	}
	return err
}

// warnOfHolder says who keeps the leader's lock from the live workers.
func (e *execution) warnOfHolder(ctx context.Context, db pgcoord.Conn) {
	holder, held, err := e.worker.Store.LeaderLockHolder(ctx, db)
	switch {
	case err != nil:
		e.log.Warn("this worker leads without the leader's lock, which no live worker holds; the holder could not be found", "error", err)
	case held && holder.PID == 0:
		e.log.Warn("this worker leads without the leader's lock, because a prepared transaction holds it: end that with ROLLBACK PREPARED or COMMIT PREPARED",
			"prepared_gid", holder.PreparedGID)
	case held:
		e.log.Warn("this worker leads without the leader's lock, because a session that belongs to no live worker holds it: end that with SELECT pg_terminate_backend(pid)",
			"pid", holder.PID, "role", holder.Role, "application_name", holder.Application)
	}
}

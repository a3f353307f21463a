package pgcoord

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
)

// A worker's backend is recognized by the advisory locks that it holds: the worker's session lock, or the one that its transactions
// share. Its application_name is for people: a pooler changes it, and anybody may set it.

// advisoryLocks is the advisory locks of the database that are granted, as pid and key. The pid of a prepared transaction's is null.
const advisoryLocks = `
    SELECT l.pid, (l.classid::bigint << 32) | l.objid::bigint AS key
    FROM pg_locks AS l
    WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())`

// workerKeys is the keys of the locks of worker w. $3 is applicationPrefix.
const workerKeys = `(w.session_key, hashtextextended($3 || w.worker_id::text, 0))`

// mayEnd is an SQL condition: the role may end a backend of the role usesysid. role is an SQL expression. The column rolsuper says whether
// usesysid is a superuser. The rule is pg_terminate_backend's.
func mayEnd(role string) string {
	return `(NOT rolsuper OR (SELECT own.rolsuper FROM pg_roles AS own WHERE own.rolname = ` + role + `))
        AND (pg_has_role(` + role + `, usesysid, 'USAGE') OR pg_has_role(` + role + `, 'pg_signal_backend', 'USAGE'))`
}

// ending ends the backend pid of the role usesysid. It is null if neither the current role may, nor the role that has logged in. The
// latter may always end its own, also where SET ROLE has made it another.
var ending = `CASE WHEN ` + mayEnd("current_user") + ` THEN pg_terminate_backend(pid)
         WHEN ` + mayEnd("session_user") + ` AND set_config('role', 'none', true) IS NOT NULL THEN pg_terminate_backend(pid)
         ELSE NULL END`

// granting is what a superuser can do so that ending is not null.
const granting = `CASE WHEN rolsuper THEN 'let workers not log in as a superuser'
         ELSE format('GRANT pg_signal_backend TO %I', (SELECT CASE WHEN own.rolinherit THEN current_user ELSE session_user END
                     FROM pg_roles AS own WHERE own.rolname = current_user)) END`

// ErrMayNotEnd means that the role may not end the sessions of another role. A *RightError wraps it.
var ErrMayNotEnd = errors.New("the role may not end the sessions of another role")

// RightError means that the worker's role may not end the sessions of another worker's role.
type RightError struct {
	// Role is the other role. It is a number if the role was dropped.
	Role string
	// Remedy is what a superuser can do.
	Remedy string
}

// Error names the other role and the remedy.
func (e *RightError) Error() string {
	return fmt.Sprintf("the role may not end sessions of the role %q: %s", e.Role, e.Remedy)
}

// Unwrap returns ErrMayNotEnd.
func (e *RightError) Unwrap() error { return ErrMayNotEnd }

// Blocker is a backend that another one waits for.
type Blocker struct {
	// PID is 0 for a prepared transaction.
	PID int
	// Worker is the worker of this replica set that the backend works for, or uuid.Nil for any other backend.
	Worker uuid.UUID
	State  replicaset.WorkerState
	// Role and Application describe the session to people.
	Role, Application string
}

const sqlBlockers = `
WITH locks AS MATERIALIZED (` + advisoryLocks + `
), own AS (
    SELECT DISTINCT l.pid, w.worker_id, w.state
    FROM {{schema}}orchestrator_workers AS w JOIN locks AS l ON l.key IN ` + workerKeys + `
    WHERE w.replica_set = $2
)
SELECT blocking.pid, own.worker_id, coalesce(own.state, ''), coalesce(a.usename::text, a.usesysid::text, ''), coalesce(a.application_name, '')
FROM (SELECT DISTINCT unnest(pg_blocking_pids($1)) AS pid) AS blocking
LEFT JOIN pg_stat_activity AS a ON a.pid = blocking.pid
LEFT JOIN own ON own.pid = blocking.pid
ORDER BY blocking.pid`

// Blockers finds the backends that the backend pid waits for.
func (s *Store) Blockers(ctx context.Context, db DB, pid int) ([]Blocker, error) {
	rows, err := db.Query(ctx, s.q(sqlBlockers), pid, s.replicaSet, applicationPrefix)
	if err != nil {
		return nil, fmt.Errorf("looking for the backends that block %d: %w", pid, err)
	}
	blockers, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (b Blocker, err error) {
		var worker *uuid.UUID
		if err := row.Scan(&b.PID, &worker, &b.State, &b.Role, &b.Application); err != nil {
			return b, err
		}
		if worker != nil {
			b.Worker = *worker
		}
		return b, nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking for the backends that block %d: %w", pid, err)
	}
	return blockers, nil
}

// sqlRights is the roles of the replica set's backends that this session may not end.
var sqlRights = `
WITH locks AS MATERIALIZED (` + advisoryLocks + `
), found AS (
    SELECT DISTINCT a.usesysid, coalesce(role.rolname::text, a.usesysid::text) AS name, coalesce(role.rolsuper, false) AS rolsuper
    FROM {{schema}}orchestrator_workers AS w
    JOIN locks AS l ON l.key IN ` + workerKeys + `
    JOIN pg_stat_activity AS a ON a.pid = l.pid
    LEFT JOIN pg_roles AS role ON role.oid = a.usesysid
    WHERE w.replica_set = $1 AND w.worker_id <> $2
)
SELECT name, ` + granting + ` FROM found
WHERE NOT ((` + mayEnd("current_user") + `) OR (` + mayEnd("session_user") + `))
ORDER BY name`

// MissingRights returns the rights that the session lacks to end the current sessions and batches of the replica set's
// other workers.
func (s *Store) MissingRights(ctx context.Context, db DB, worker uuid.UUID) ([]*RightError, error) {
	rows, err := db.Query(ctx, s.q(sqlRights), s.replicaSet, worker, applicationPrefix)
	if err != nil {
		return nil, fmt.Errorf("looking up the right to end the other workers' sessions: %w", err)
	}
	missing, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*RightError, error) {
		var e RightError
		return &e, row.Scan(&e.Role, &e.Remedy)
	})
	if err != nil {
		return nil, fmt.Errorf("looking up the right to end the other workers' sessions: %w", err)
	}
	return missing, nil
}

// sqlEnd ends the backend $1 if it holds a lock that %s names.
const sqlEnd = `
WITH locks AS MATERIALIZED (` + advisoryLocks + `
), target AS MATERIALIZED (
    SELECT a.pid, a.usesysid, coalesce(role.rolname::text, a.usesysid::text) AS name, coalesce(role.rolsuper, false) AS rolsuper
    FROM pg_stat_activity AS a LEFT JOIN pg_roles AS role ON role.oid = a.usesysid
    WHERE a.pid = $1 AND EXISTS (
        SELECT 1 FROM {{schema}}orchestrator_workers AS w JOIN locks AS l ON l.key IN ` + workerKeys + `
        WHERE w.replica_set = $2 AND w.worker_id = $4 AND l.pid = a.pid%s)
)
SELECT name, %s, %s FROM target`

// sqlEndBackend ends a backend of the worker.
var sqlEndBackend = fmt.Sprintf(sqlEnd, "", granting, ending)

// sqlEndLeader ends it only if it holds the leader's lock $5 too. The worker's lock is that of its session.
var sqlEndLeader = fmt.Sprintf(sqlEnd, ` AND l.key = w.session_key AND EXISTS (SELECT 1 FROM locks AS m WHERE m.pid = a.pid AND m.key = $5)`, granting, ending)

// EndBackend ends a worker's backend. It does nothing if the backend has gone, or works for somebody else by now. It
// returns a *RightError if the role lacks the right.
func (s *Store) EndBackend(ctx context.Context, db DB, pid int, worker uuid.UUID) error {
	return s.end(ctx, db, sqlEndBackend, pid, worker)
}

// EndLeader ends a worker's coordination session if it holds the leader's lock, as EndBackend does.
func (s *Store) EndLeader(ctx context.Context, db DB, pid int, worker uuid.UUID) error {
	return s.end(ctx, db, sqlEndLeader, pid, worker, s.leaderKey())
}

func (s *Store) end(ctx context.Context, db DB, sql string, pid int, worker uuid.UUID, more ...any) error {
	var right RightError
	var ended *bool
	err := db.QueryRow(ctx, s.q(sql), append([]any{pid, s.replicaSet, applicationPrefix, worker}, more...)...).Scan(&right.Role, &right.Remedy, &ended)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err == nil && ended == nil {
		err = &right
	}
	if err != nil {
		return fmt.Errorf("ending backend %d of worker %s: %w", pid, worker, err)
	}
	return nil
}

// Holder is the holder of the leader's lock, described so that a person can find it.
type Holder struct {
	PID               int // 0 for a prepared transaction
	Role, Application string
	PreparedGID       string
}

const sqlHolder = `
SELECT coalesce(l.pid, 0), coalesce(a.usename::text, a.usesysid::text, ''), coalesce(a.application_name, ''), coalesce(p.gid, '')
FROM pg_locks AS l
LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
LEFT JOIN pg_locks AS x ON l.pid IS NULL AND x.pid IS NULL AND x.locktype = 'transactionid' AND x.virtualtransaction = l.virtualtransaction
LEFT JOIN pg_prepared_xacts AS p ON p.transaction = x.transactionid
WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND ((l.classid::bigint << 32) | l.objid::bigint) = $1
ORDER BY l.pid LIMIT 1`

// LeaderLockHolder returns the session, or the prepared transaction, that holds the leader's lock. ok is false if there
// is none.
func (s *Store) LeaderLockHolder(ctx context.Context, db DB) (h Holder, ok bool, err error) {
	err = db.QueryRow(ctx, sqlHolder, s.leaderKey()).Scan(&h.PID, &h.Role, &h.Application, &h.PreparedGID)
	if errors.Is(err, pgx.ErrNoRows) {
		return h, false, nil
	}
	if err != nil {
		return h, false, fmt.Errorf("looking for who holds the leader's lock: %w", err)
	}
	return h, true, nil
}

package pgcoord

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
)

// A generation is prepared here: the leader ends the current one, enters the next, and declares the workers dead that it has found so. activation.go begins it.

const sqlCurrent = `
SELECT number, state FROM {{schema}}orchestrator_generations
WHERE replica_set = $1 AND state <> 'superseded' LIMIT {{all rows}} FOR UPDATE`

const sqlSupersede = `
UPDATE {{schema}}orchestrator_generations SET state = 'superseded', superseded_at = now()
WHERE replica_set = $1 AND number = $2 AND state = 'active'`

// The number is a fencing token, so it does not go back when somebody deletes generations: checkpoints remember it too.
const sqlPrepare = `
INSERT INTO {{schema}}orchestrator_generations (replica_set, number, state, cause, changes, reason, prepared_by)
SELECT $1, greatest(
    (SELECT max(number) FROM {{schema}}orchestrator_generations WHERE replica_set = $1),
    (SELECT max(generation) FROM {{schema}}orchestrator_checkpoints WHERE replica_set = $1), 0) + 1, 'preparing', $2, $3::text::jsonb, $4, $5
RETURNING number`

// The evidence is looked at again in the statement that acts on it.
const sqlMarkDead = `
UPDATE {{schema}}orchestrator_workers AS w
SET state = 'dead', state_changed_at = now(), detail = $2
WHERE w.worker_id = $1 AND w.state NOT IN ('stopped', 'dead')
  AND CASE WHEN $3 THEN w.session_key IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM pg_locks AS l
        WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
          AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND ((l.classid::bigint << 32) | l.objid::bigint) = w.session_key)
      ELSE $4 = coalesce((
        SELECT extract(epoch FROM h.last_heartbeat)::text FROM {{schema}}orchestrator_heartbeats AS h
        WHERE h.worker_id = w.worker_id), '') END`

// Prepared is the result of a Preparation.
type Prepared struct {
	// Number is that of the new generation, or 0 if somebody else changed the generation first.
	Number int64
	// Died is how many of the lost workers were declared dead.
	Died int
}

// Prepare supersedes the generation p.From and enters the next one, in preparation. It locks the current generation's
// row, so of two leaders one wins. If somebody else changed the generation first, it does nothing.
func (s *Store) Prepare(ctx context.Context, db Conn, p replicaset.Preparation) (Prepared, error) {
	var result Prepared
	cause, changes, reason, err := changeColumns(p.From == 0, p.Changes)
	if err != nil {
		return Prepared{}, fmt.Errorf("preparing the generation after %d of replica set %q: %w", p.From, s.replicaSet, err)
	}
	err = s.inTransaction(ctx, db, p.By, func(tx pgx.Tx, _ int) error {
		current, state, err := s.lockCurrent(ctx, tx)
		if err != nil {
			return err
		}
		if current != p.From || (current != 0 && state != replicaset.Active) {
			return nil
		}
		if _, err := tx.Exec(ctx, s.q(sqlSupersede), s.replicaSet, current); err != nil {
			return fmt.Errorf("superseding it: %w", err)
		}
		if result.Died, err = s.MarkDead(ctx, tx, p.Lost); err != nil {
			return err
		}
		return tx.QueryRow(ctx, s.q(sqlPrepare), s.replicaSet, cause, changes, reason, p.By).Scan(&result.Number)
	})
	if isUniqueViolation(err) { // nobody had a row to lock: the other inserted the first generation
		return Prepared{}, nil
	}
	if err != nil {
		return Prepared{}, fmt.Errorf("preparing the generation after %d of replica set %q: %w", p.From, s.replicaSet, err)
	}
	if result.Number != 0 {
		s.tell(ctx, db, NotifyGeneration, p.By)
	}
	return result, nil
}

// sqlTransitionSettings bound the time for which a leader that freezes within a
// transition holds its locks, and name it for those that wait. No handler runs in
// a transition, so it never pauses by itself.
//
// The role's timeouts do not hold in a transition: it waits for batches in flight, and each attempt that is cut short
// begins to wait again. The bound is the caller's, and the server ends the statement a moment after it.
// Without array_nulls an array that is sent as text cannot say that nobody has a range.
// The lock shows to every role whose transition it is. It is tried for, so that nobody can make a transition wait for it.
const sqlTransitionSettings = `
SELECT pg_backend_pid(),
       set_config('application_name', $1, true), set_config('idle_in_transaction_session_timeout', '2s', true),
       set_config('lock_timeout', '0', true), set_config('statement_timeout', $2, true), set_config('array_nulls', 'on', true),
       CASE WHEN current_setting('transaction_timeout', true) IS NOT NULL THEN set_config('transaction_timeout', '0', true) END,
       CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', true) END,
       pg_try_advisory_xact_lock_shared(hashtextextended($1, 0))`

// transitionMargin is how long after the caller's deadline the server ends a statement of a transition whose caller does
// not end it itself.
const transitionMargin = time.Second

// statementTimeout is the setting for a statement that the caller waits for until ctx ends; 0 is none.
func statementTimeout(ctx context.Context) string {
	deadline, ok := ctx.Deadline()
	if !ok {
		return "0"
	}
	return strconv.FormatInt(max(0, time.Until(deadline)+transitionMargin).Milliseconds()+1, 10)
}

// inTransaction runs a transition by a worker in a transaction. run is given the
// backend's process id, of which a connection through a pooler does not know.
func (s *Store) inTransaction(ctx context.Context, db Conn, by uuid.UUID, run func(tx pgx.Tx, pid int) error) error {
	return pgx.BeginTxFunc(ctx, db, transaction, func(tx pgx.Tx) error {
		var pid int
		row := tx.QueryRow(ctx, sqlTransitionSettings, ApplicationName(by), statementTimeout(ctx))
		if err := row.Scan(&pid, nil, nil, nil, nil, nil, nil, nil, nil); err != nil {
			return fmt.Errorf("setting the transaction's bounds: %w", err)
		}
		return run(tx, pid)
	})
}

// lockCurrent locks the row of the current generation; 0 if there is none.
func (s *Store) lockCurrent(ctx context.Context, tx pgx.Tx) (number int64, state replicaset.GenerationState, err error) {
	err = tx.QueryRow(ctx, s.q(sqlCurrent), s.replicaSet).Scan(&number, &state)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, "", nil
	}
	if err != nil {
		return 0, "", fmt.Errorf("locking the current generation: %w", err)
	}
	return number, state, nil
}

// MarkDead declares those workers dead for which the evidence still holds, and returns their number.
func (s *Store) MarkDead(ctx context.Context, db DB, losses []replicaset.Loss) (died int, err error) {
	for _, l := range losses {
		tag, err := db.Exec(ctx, s.q(sqlMarkDead), l.Worker, l.Detail, l.SessionGone, l.Heartbeat)
		if err != nil {
			return died, fmt.Errorf("declaring worker %s dead: %w", l.Worker, err)
		}
		died += int(tag.RowsAffected())
	}
	return died, nil
}

// isUniqueViolation says whether err is a violated unique index.
func isUniqueViolation(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == "23505"
}

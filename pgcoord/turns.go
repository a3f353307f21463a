package pgcoord

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
)

// While the batches of a projection are in conflict, its partitions take turns: a batch begins by waiting for an advisory lock of its
// transaction. It locks its checkpoints afterwards, so whoever waits keeps no activation waiting. PostgreSQL gives such locks in the order in
// which they were asked for.

// sqlTurn waits for the turn if the projection's partitions take turns, and returns whether they do. A time that is far away is one
// from before the database's clock was set back.
const sqlTurn = `
SELECT CASE WHEN EXISTS (
        SELECT FROM {{schema}}orchestrator_turns
        WHERE projection = $1 AND until > pg_catalog.now() AND until < pg_catalog.now() + '1 hour'::pg_catalog.interval)
    THEN (SELECT true FROM pg_catalog.pg_advisory_xact_lock($2)) ELSE false END`

const sqlConflict = `
INSERT INTO {{schema}}orchestrator_turns AS t (projection, replica_set, until, seconds, conflicts)
VALUES ($1, $2, pg_catalog.now() + pg_catalog.make_interval(secs => $3::int), $3::int, $5::bigint)
ON CONFLICT (projection) DO UPDATE SET (until, seconds, conflicts, replica_set) = (
    SELECT CASE WHEN again THEN pg_catalog.now() + pg_catalog.make_interval(secs => s) ELSE t.until END,
           CASE WHEN again THEN s ELSE t.seconds END, t.conflicts + $5::bigint, $2
    FROM (SELECT t.until <= pg_catalog.now() OR t.until > pg_catalog.now() + '1 hour'::pg_catalog.interval AS again,
                 CASE WHEN t.until + 4 * pg_catalog.make_interval(secs => t.seconds) > pg_catalog.now()
                      THEN least(2 * t.seconds, $4::int) ELSE $3::int END AS s) AS new)
RETURNING seconds, until = pg_catalog.now() + pg_catalog.make_interval(secs => seconds)`

// How long partitions take turns after a first conflict, and at most.
const (
	turnsFirst = 10 * time.Second
	turnsMost  = 5 * time.Minute
)

// TurnWait is how long a batch waits for its turn, with a connection of the pool.
const TurnWait = time.Second

// turn is the statement with which a batch takes its turn.
func (s *Store) turn(f Fence) batchtx.Statement {
	return batchtx.Statement{SQL: s.q(sqlTurn), Args: []any{f.Projection, lockKey("turn", s.schema, f.Projection)}}
}

const sqlReadTurns = `SELECT FROM {{schema}}orchestrator_turns LIMIT 0`

// CheckTurns returns the database's error if the table of turns cannot be read, or somebody has locked it.
func (s *Store) CheckTurns(ctx context.Context, db Conn) error {
	return s.record(ctx, db, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, s.q(sqlReadTurns))
		return err
	})
}

// NoteConflicts writes down that batches of the projection were in conflict with others, so that its partitions take turns from now
// on. It returns how long they do so, if they did not before; else 0.
func (s *Store) NoteConflicts(ctx context.Context, db Conn, projection string, n int) (time.Duration, error) {
	var seconds int
	var began bool
	err := s.record(ctx, db, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, s.q(sqlConflict), projection, s.replicaSet, int(turnsFirst.Seconds()), int(turnsMost.Seconds()), n).Scan(&seconds, &began)
	})
	if err != nil {
		return 0, fmt.Errorf("noting that batches of projection %q were in conflict: %w", projection, err)
	}
	if !began {
		return 0, nil
	}
	return time.Duration(seconds) * time.Second, nil
}

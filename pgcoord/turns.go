package pgcoord

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
)

// While the batches of a projection are in conflict, its partitions take turns: a batch begins by waiting for an advisory lock of its
// transaction. It locks its checkpoints afterwards, so a batch that waits for its turn keeps no activation waiting. PostgreSQL gives such
// locks in the order in which they were asked for.
//
// While a statement waits, the server cannot remove old versions of rows. A row that a batch changes for each of its events gets a version for each.
// So a batch that is handled event by event asks whether the turn is free (TurnTaken) before it begins, and waits outside the database.

// sqlTurnsLast says whether the partitions of the projection $1 take turns. A time that is far away is one from before the database's clock was set back.
const sqlTurnsLast = `EXISTS (
        SELECT FROM {{schema}}orchestrator_turns
        WHERE projection = $1 AND until > pg_catalog.now() AND until < pg_catalog.now() + '1 hour'::pg_catalog.interval)`

// sqlTurn waits for the turn if the projection's partitions take turns, and returns whether they do.
const sqlTurn = `
SELECT CASE WHEN ` + sqlTurnsLast + `
    THEN (SELECT true FROM pg_catalog.pg_advisory_xact_lock($2)) ELSE %s END`

// sqlTurnOf takes the turn. sqlTurnShown does so too, or takes the shared lock $3 (BatchSettings.Shown) if the partitions take no turns.
var (
	sqlTurnOf    = fmt.Sprintf(sqlTurn, "false")
	sqlTurnShown = fmt.Sprintf(sqlTurn, "(SELECT false FROM pg_catalog.pg_try_advisory_xact_lock_shared($3))")
)

// sqlTurnTaken says whether the partitions take turns and somebody has the turn. It tries the lock in shared mode, so that those who ask do not exclude each other.
const sqlTurnTaken = `SELECT CASE WHEN ` + sqlTurnsLast + ` THEN NOT pg_catalog.pg_try_advisory_xact_lock_shared($2) ELSE false END`

// sqlWaitsForShown looks whether the backend $1 waits for one that holds the lock $2.
const sqlWaitsForShown = `
WITH blocking AS MATERIALIZED (SELECT pg_catalog.unnest(pg_catalog.pg_blocking_pids($1)) AS pid)
SELECT EXISTS (SELECT FROM (` + advisoryLocks + `) AS l JOIN blocking ON blocking.pid = l.pid WHERE l.key = $2)`

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
func (s *Store) turn(f Fence, shown bool) batchtx.Statement {
	if shown {
		return batchtx.Statement{SQL: s.q(sqlTurnShown), Args: []any{f.Projection, s.turnKey(f.Projection), s.shownKey(f.Projection)}}
	}
	return batchtx.Statement{SQL: s.q(sqlTurnOf), Args: []any{f.Projection, s.turnKey(f.Projection)}}
}

func (s *Store) turnKey(projection string) int64 { return lockKey("turn", s.schema, projection) }

func (s *Store) shownKey(projection string) int64 { return lockKey("batch", s.schema, projection) }

// TurnTaken reports whether the partitions of the projection take turns and a batch has the turn or waits for it. It
// does not wait.
func (s *Store) TurnTaken(ctx context.Context, db DB, projection string) (bool, error) {
	var taken bool
	if err := db.QueryRow(ctx, s.q(sqlTurnTaken), projection, s.turnKey(projection)).Scan(&taken); err != nil {
		return false, fmt.Errorf("asking whether a batch of projection %q has the turn: %w", projection, err)
	}
	return taken, nil
}

// WaitsForShown reports whether the backend of a batch waits for a lock of another batch of its projection that is
// marked (BatchSettings.Shown).
func (s *Store) WaitsForShown(ctx context.Context, db DB, projection string, backend int) (bool, error) {
	var waits bool
	if err := db.QueryRow(ctx, sqlWaitsForShown, backend, s.shownKey(projection)).Scan(&waits); err != nil {
		return false, fmt.Errorf("asking whether a batch of projection %q waits for another: %w", projection, err)
	}
	return waits, nil
}

const sqlReadTurns = `SELECT FROM {{schema}}orchestrator_turns LIMIT 0`

// CheckTurns returns the database's error if the table of turns cannot be read, or somebody has locked it.
func (s *Store) CheckTurns(ctx context.Context, db Conn) error {
	return s.record(ctx, db, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, s.q(sqlReadTurns))
		return err
	})
}

// NoteConflicts records that batches of the projection were in conflict with others, so that its partitions take turns
// from now on. It returns how long they do so, or 0 if they already did.
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

package projection

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/manual"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// checkpoints are a processor's rows in the checkpoints table, which has pupsourcing's form.
type checkpoints struct {
	projection string
	partition  slot.Partition
	table      string // quoted
	events     string // the events table, as the coordination tables name it
	had        bool   // arrange has seen rows of the projection, perhaps in an attempt that failed

	selectSQL, lockSQL, serializeSQL, deleteSQL, insertSQL, lockAtSQL, advanceSQL string
}

const (
	// It reads all rows of the projection, and some of others that begin alike.
	sqlSelectCheckpoints = `
SELECT projection_name, last_global_position FROM %s
WHERE (projection_name = $1 OR pg_catalog.starts_with(projection_name, $1 || '[')) AND ` + dbguard.Primary + ` LIMIT %s`

	sqlLockCheckpoints = `SELECT FROM %s WHERE projection_name = ANY($1::pg_catalog.text[]) ORDER BY projection_name FOR UPDATE`

	// The role's timeouts may be shorter than another processor's batch.
	sqlNoTimeouts = `
SELECT pg_catalog.set_config('lock_timeout', '0', true), pg_catalog.set_config('statement_timeout', '0', true),
    CASE WHEN pg_catalog.current_setting('transaction_timeout', true) IS NOT NULL THEN pg_catalog.set_config('transaction_timeout', '0', true) END`

	sqlDeleteCheckpoints = `DELETE FROM %s WHERE projection_name = ANY($1::pg_catalog.text[])`

	sqlInsertCheckpoints = `
INSERT INTO %s (projection_name, last_global_position, updated_at)
SELECT name, position, pg_catalog.now() FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.int8[])) AS made (name, position)`

	// It compares with what the processor believes, so of two processors one
	// waits for the other and then finds that it was late.
	sqlLockAt = `
SELECT FROM %s WHERE projection_name = $1 AND last_global_position = $2 FOR NO KEY UPDATE`

	// It comes last: a handler that commits by itself must not commit the checkpoint
	// of events that were not handled.
	sqlAdvanceCheckpoint = `
UPDATE %s SET last_global_position = $3, updated_at = pg_catalog.now()
WHERE projection_name = $1 AND last_global_position = $2`
)

func newCheckpoints(table, events pgx.Identifier, projection string, partition slot.Partition) checkpoints {
	quoted := table.Sanitize()
	return checkpoints{
		projection: projection, partition: partition, table: quoted, events: strings.Join(events, "."),
		selectSQL:    fmt.Sprintf(sqlSelectCheckpoints, quoted, dbguard.LimitAllRows(table, "NULL::pg_catalog.int8")),
		lockSQL:      fmt.Sprintf(sqlLockCheckpoints, quoted),
		serializeSQL: manual.SerializeSQL(dbguard.Literal(quoted)),
		deleteSQL:    fmt.Sprintf(sqlDeleteCheckpoints, quoted),
		insertSQL:    fmt.Sprintf(sqlInsertCheckpoints, quoted),
		lockAtSQL:    fmt.Sprintf(sqlLockAt, quoted),
		advanceSQL:   batchtx.ExactlyOne(fmt.Sprintf(sqlAdvanceCheckpoint, quoted)),
	}
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// rows reads the rows of the projection. Hidden rows are an error.
func (c checkpoints) rows(ctx context.Context, db querier) ([]manual.Row, error) {
	found, err := db.Query(ctx, c.selectSQL, c.projection)
	var rows []manual.Row
	if err == nil {
		rows, err = pgx.CollectRows(found, func(row pgx.CollectableRow) (r manual.Row, err error) {
			return r, row.Scan(&r.Name, &r.Position)
		})
	}
	if dbguard.HidesRows(err) {
		return nil, fmt.Errorf("reading the checkpoints of %q in %s: row-level security is active for the role and may hide rows: ALTER TABLE %[2]s DISABLE ROW LEVEL SECURITY, "+
			"or let the processor use a role with BYPASSRLS: %w", c.projection, c.table, err)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the checkpoints of %q in %s: %w", c.projection, c.table, err)
	}
	return rows, nil
}

// read returns the partition's rows. It is ErrCheckpointGone if they do not cover its slots.
func (c checkpoints) read(ctx context.Context, db querier) ([]manual.Piece, error) {
	rows, err := c.rows(ctx, db)
	if err != nil {
		return nil, err
	}
	own, ok, err := manual.Complete(c.projection, c.partition, rows)
	if err != nil {
		return nil, fmt.Errorf("reading the checkpoints of %q in %s: %w", c.projection, c.table, err)
	}
	if !ok {
		return nil, fmt.Errorf("reading the checkpoint %q in %s: %w", manual.Name(c.projection, c.partition, c.partition.Range()), c.table, ErrCheckpointGone)
	}
	return own, nil
}

// arrange creates the rows that the partition needs, see plan. A processor of another number of partitions finishes its
// batch and then finds its rows gone. mayChange says whether arrange may create missing rows and replace those of
// another number. It returns the names of the rows that it replaced. It is ErrProjectionImported if it would create rows
// of a projection that has none, after an import.
func (c *checkpoints) arrange(ctx context.Context, db dbguard.Pool, mayChange bool) (own []manual.Piece, replaced []string, err error) {
	if !mayChange {
		if _, err := c.read(ctx, db); err != nil {
			return nil, nil, err
		}
	}
	rows, err := c.rows(ctx, db)
	if err != nil {
		return nil, nil, err
	}
	c.had = c.had || c.among(rows)
	l, err := manual.Plan(c.projection, c.partition, rows)
	if !mayChange && (l.Change || err != nil) { // rows that somebody has entered since
		own, err = c.read(ctx, db)
		return own, nil, err
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading the checkpoints of %q in %s: %w", c.projection, c.table, err)
	}
	if !l.Changed() {
		return l.Own, nil, nil
	}
	tx, err := db.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite})
	if err == nil {
		defer rollbackQuietly(ctx, tx)
		l, err = c.rearrange(ctx, tx, rows, l.Change, mayChange)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("arranging the checkpoints of %q in %s for partition %v: %w", c.projection, c.table, c.partition, err)
	}
	if !l.Change {
		return l.Own, nil, nil
	}
	return l.Own, l.Drop, nil
}

// errRowsChanged means that rows were created or deleted since they were read.
var errRowsChanged = errors.New("somebody has made or deleted checkpoints of the projection meanwhile")

// rearrange locks the rows that must change, reads them again, and changes them. change says whether the number of
// partitions changes, and starts whether the processor has not had its rows before.
func (c checkpoints) rearrange(ctx context.Context, tx pgx.Tx, seen []manual.Row, change, starts bool) (manual.Layout, error) {
	locked := map[string]bool{}
	var names []string
	for _, row := range seen {
		piece, ok, err := manual.Parse(c.projection, row)
		if err == nil && ok && (change || piece.Partition == c.partition) {
			names, locked[row.Name] = append(names, row.Name), true
		}
	}
	if _, err := tx.Exec(ctx, sqlNoTimeouts); err != nil {
		return manual.Layout{}, err
	}
	if _, err := tx.Exec(ctx, c.serializeSQL, c.projection); err != nil {
		return manual.Layout{}, err
	}
	if _, err := tx.Exec(ctx, c.lockSQL, names); err != nil {
		return manual.Layout{}, err
	}
	rows, err := c.rows(ctx, tx)
	if err == nil && !c.among(rows) {
		err = c.mayBegin(ctx, tx, starts)
	}
	if err != nil {
		return manual.Layout{}, err
	}
	l, err := manual.Plan(c.projection, c.partition, rows)
	if err != nil {
		return manual.Layout{}, err
	}
	for _, row := range rows {
		piece, ok, _ := manual.Parse(c.projection, row)
		if ok && !locked[row.Name] && (l.Change || piece.Partition == c.partition) {
			return manual.Layout{}, errRowsChanged
		}
	}
	if err := c.apply(ctx, tx, l); err != nil {
		return manual.Layout{}, err
	}
	return l, tx.Commit(ctx)
}

// among says whether a row is the projection's. So is one that has something wrong: Plan says what.
func (c checkpoints) among(rows []manual.Row) bool {
	return slices.ContainsFunc(rows, func(row manual.Row) bool {
		_, own, err := manual.Parse(c.projection, row)
		return own || err != nil
	})
}

// mayBegin returns an error unless the projection, which has no row, may begin at the first event. If it had rows before,
// an import, or somebody else, has deleted them since.
func (c checkpoints) mayBegin(ctx context.Context, tx querier, starts bool) error {
	if starts {
		if err := c.refuseImported(ctx, tx); err != nil {
			return err
		}
	}
	if c.had {
		return ErrCheckpointGone
	}
	return nil
}

// apply deletes and inserts rows according to the layout.
func (c checkpoints) apply(ctx context.Context, tx pgx.Tx, l manual.Layout) error {
	if len(l.Drop) > 0 {
		if _, err := tx.Exec(ctx, c.deleteSQL, l.Drop); err != nil {
			return fmt.Errorf("deleting the rows that are replaced (the role needs DELETE on the table): %w", err)
		}
	}
	if len(l.Put) > 0 {
		names, positions := make([]string, len(l.Put)), make([]int64, len(l.Put))
		for i, p := range l.Put {
			names[i], positions[i] = p.Name, p.Position
		}
		if _, err := tx.Exec(ctx, c.insertSQL, names, positions); err != nil {
			return err
		}
	}
	return nil
}

// locks returns the statements that lock the rows below upTo, provided that they have the expected positions.
func (c checkpoints) locks(own []manual.Piece, upTo int64) []batchtx.Statement {
	var statements []batchtx.Statement
	for _, p := range own {
		if p.Position < upTo {
			statements = append(statements, batchtx.Statement{SQL: c.lockAtSQL, Args: []any{p.Name, p.Position}})
		}
	}
	return statements
}

// advances returns the statements that advance these rows.
func (c checkpoints) advances(own []manual.Piece, upTo int64) []batchtx.Statement {
	var statements []batchtx.Statement
	for _, p := range own {
		if p.Position < upTo {
			statements = append(statements, batchtx.Statement{SQL: c.advanceSQL, Args: []any{p.Name, p.Position, upTo}})
		}
	}
	return statements
}

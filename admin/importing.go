package admin

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbrights"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/manual"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// Import is the result of ImportCheckpoints.
type Import struct {
	// Operation is the number of the row in orchestrator_operations, which keeps the imported rows.
	Operation int64 `json:"operation"`
	// Rows are the manual runner's rows, ordered by name.
	Rows []ImportedRow `json:"rows"`
	// Position is the lowest position at which a slot begins.
	Position int64 `json:"position"`
	// MayRepeat is how many events may be handled again. It is 0 if every slot begins at the position of its row.
	MayRepeat int64 `json:"may_repeat"`
	// Advice says how to avoid handling events again. It is empty if MayRepeat is 0.
	Advice string `json:"advice"`
}

// ImportedRow is a row of the manual runner's checkpoints.
type ImportedRow struct {
	Name     string `json:"name"`
	Position int64  `json:"position"`
}

// ImportCheckpoints makes the replica set continue where a manual runner stopped. The runner's rows for the projection,
// in the event store's checkpoints table, become the checkpoints of the replica set.
//
// Rows of this library's processors, "name" and "name[k/N]", are taken over exactly, and deleted. A processor that still
// runs ends with projection.ErrCheckpointGone. One that starts meanwhile ends with it, or with
// projection.ErrProjectionImported.
//
// pupsourcing's rows of partitions, "name_pK", divide the aggregates in another way. All slots therefore begin at the
// lowest of these rows, and a missing row counts as position 0. No event is left out, but some may be handled again;
// Import.MayRepeat says how many. These rows stay. Stop pupsourcing's processors first, since they do not notice the
// import.
//
// It is an error if the rows contradict each other, if the projection has checkpoints in a replica set, or if its
// processor has parked or stopped something.
func (a *Admin) ImportCheckpoints(ctx context.Context, projection, reason string) (Import, error) {
	return a.importAs(ctx, projection, reason, func(do func(change) error) error { return a.change(ctx, do) })
}

// PreviewImport returns what ImportCheckpoints would do now, without an operation. It changes nothing, and does not wait
// for running processors. It needs the same rights.
func (a *Admin) PreviewImport(ctx context.Context, projection string) (Import, error) {
	return a.importAs(ctx, projection, "", func(do func(change) error) error {
		return a.preview(ctx, append(importRights.needs(a.schema, a.eventStore.EventsTable()), a.manualNeeds()...), do)
	})
}

// manualNeeds is the rights that an import needs on the tables of the manual runner.
func (a *Admin) manualNeeds() []dbrights.Need {
	return []dbrights.Need{dbrights.On(a.eventStore.CheckpointsTable(), "SELECT", "UPDATE", "DELETE"), dbrights.On(a.eventStore.DeadLettersTable(), "SELECT")}
}

// importAs imports, or finds out what that would come to, in a transaction that run makes.
func (a *Admin) importAs(ctx context.Context, projection, reason string, run func(func(change) error) error) (Import, error) {
	var done Import
	err := checkText("the projection's name", projection, 1, mostText)
	if err == nil {
		err = checkText("the reason", reason, 0, mostReason)
	}
	if err == nil {
		err = run(func(c change) (err error) {
			done, err = c.importCheckpoints(ctx, projection, reason)
			return err
		})
	}
	if dbrights.IsRefusal(err) {
		err = dbrights.Explain(ctx, a.pool, err, a.manualNeeds())
	}
	return done, a.explain(ctx, importRights, fmt.Sprintf("importing the checkpoints of projection %q", projection), err)
}

// The rows are locked in the order in which the manual runner locks them.
const (
	sqlManualRows = `
SELECT projection_name, last_global_position FROM %s
WHERE projection_name = $1 OR starts_with(projection_name, $1 || '[') OR starts_with(projection_name, $1 || '_p')
ORDER BY projection_name COLLATE "C"`
	sqlToDelete = ` FOR UPDATE`
)

const sqlDeleteManualRows = `DELETE FROM %s WHERE projection_name = ANY ($1::text[])`

const sqlLettersThere = `SELECT to_regclass($1::text) IS NOT NULL`

const sqlSetAside = `SELECT count(*) FROM %s WHERE projection_name = $1 AND state IN ('parked', 'stopped')`

const sqlHasCheckpoints = `SELECT replica_set FROM {{schema}}orchestrator_checkpoints WHERE projection = $1 LIMIT 1`

const sqlImport = `
INSERT INTO {{schema}}orchestrator_checkpoints (projection, slot_from, slot_to, position, replica_set, events_table)
SELECT $1, s.slot_from, s.slot_to, s.position, $2, $3 FROM ROWS FROM (unnest($4::int[]), unnest($5::int[]), unnest($6::bigint[])) AS s (slot_from, slot_to, position)`

const sqlMayRepeat = `SELECT count(*) FROM {{events}} WHERE global_position > $1 AND global_position <= $2`

// sqlNamesOfRows is the first names that have rows, with one more than are listed. %s is the table.
const sqlNamesOfRows = `SELECT projection_name FROM %s ORDER BY projection_name LIMIT $1`

// noRow says that the projection has no row in a manual runner's table, and which names have one.
func (c change) noRow(ctx context.Context, table string) error {
	const most = 10
	rows, err := c.tx.Query(ctx, fmt.Sprintf(sqlNamesOfRows, table), most+1)
	if err != nil {
		return fmt.Errorf("reading the names in %s: %w", table, err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("reading the names in %s: %w", table, err)
	}
	has := "it has none at all"
	for i, name := range names {
		switch i {
		case 0:
			has = fmt.Sprintf("it has rows for %q", name)
		case most:
			has += ", …"
		default:
			has += fmt.Sprintf(", %q", name)
		}
	}
	return fmt.Errorf("%s has no row for it; %s. A projection that is new needs no import: start it, and it begins at the start of the stream", table, has)
}

// importCheckpoints finds out where the projection is to go on, and, if it is no preview, does it.
func (c change) importCheckpoints(ctx context.Context, projection, reason string) (Import, error) {
	table := c.admin.eventStore.CheckpointsTable().Sanitize()
	found, err := c.manualRows(ctx, table, projection)
	if err != nil {
		return Import{}, err
	}
	var of string
	switch err := c.tx.QueryRow(ctx, c.store.SQL(sqlHasCheckpoints), projection).Scan(&of); {
	case err == nil:
		return Import{}, fmt.Errorf("it has checkpoints in replica set %q already: it goes on from there", of)
	case !errors.Is(err, pgx.ErrNoRows):
		return Import{}, fmt.Errorf("looking for checkpoints: %w", err)
	}
	if err := c.nothingAside(ctx, projection); err != nil {
		return Import{}, err
	}
	pieces, done, err := begin(projection, found)
	if err != nil {
		return Import{}, err
	}
	if len(done.Rows) == 0 {
		return Import{}, c.noRow(ctx, table)
	}
	highest := highestOf(done.Rows)
	if err := c.notAhead(ctx, highest); err != nil {
		return Import{}, err
	}
	if done.Advice != "" {
		if err := c.tx.QueryRow(ctx, c.admin.inEvents(sqlMayRepeat), done.Position, highest).Scan(&done.MayRepeat); err != nil {
			return Import{}, fmt.Errorf("counting the events that may be handled again: %w", err)
		}
	}
	if done.MayRepeat == 0 {
		done.Advice = ""
	}
	if c.preview {
		return done, nil
	}
	return done, c.takeOver(ctx, projection, reason, table, pieces, &done)
}

// manualRows reads the projection's rows in the table of a manual runner. An import also locks them, and keeps this
// library's processors from creating others. It waits for batches.
func (c change) manualRows(ctx context.Context, table, projection string) ([]manual.Row, error) {
	if c.preview {
		return c.readManual(ctx, table, sqlManualRows, projection)
	}
	if _, err := c.tx.Exec(ctx, manual.SerializeSQL(dbguard.Literal(table)), projection); err != nil {
		return nil, fmt.Errorf("waiting until no processor creates or deletes rows in %s: %w", table, err)
	}
	for {
		locked, err := c.readManual(ctx, table, sqlManualRows+sqlToDelete, projection)
		if err != nil {
			return nil, err
		}
		// A statement that waits for a row does not see rows that were inserted meanwhile, such as by pupsourcing.
		there, err := c.readManual(ctx, table, sqlManualRows, projection)
		if err != nil || slices.Equal(locked, there) {
			return locked, err
		}
	}
}

// readManual runs a statement that reads rows of a manual runner.
func (c change) readManual(ctx context.Context, table, sql, projection string) ([]manual.Row, error) {
	rows, err := c.tx.Query(ctx, fmt.Sprintf(sql, table), projection)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", table, err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[manual.Row])
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", table, err)
	}
	return found, nil
}

// notAhead makes sure that a row is not above the events: workers would stop for it, of all projections of the events table.
func (c change) notAhead(ctx context.Context, highest int64) error {
	last, known, err := c.store.LastAllocated(ctx, c.tx)
	switch {
	case err != nil:
		return fmt.Errorf("reading the sequence of positions: %w", err)
	case known && last == 0 && highest > 0:
		return fmt.Errorf("a row is at position %d, and the events table has not given out any position: it is of another table, or from before a restore; correct it first", highest)
	case known && highest > last:
		return fmt.Errorf("a row is at position %d, above the last position of the events table, %d: it is of another table, or from before a restore; correct it first", highest, last)
	}
	return nil
}

// nothingAside makes sure that the manual runner has put nothing aside.
func (c change) nothingAside(ctx context.Context, projection string) error {
	letters := c.admin.eventStore.DeadLettersTable().Sanitize()
	var there bool
	if err := c.tx.QueryRow(ctx, sqlLettersThere, letters).Scan(&there); err != nil || !there {
		return err
	}
	var aside int64
	if err := c.tx.QueryRow(ctx, fmt.Sprintf(sqlSetAside, letters), projection).Scan(&aside); err != nil {
		return fmt.Errorf("reading %s: %w", letters, err)
	}
	if aside > 0 {
		return fmt.Errorf("%s has events that are parked, or at which the projection is stopped (%d in all): decide about them first (docs/errors.md, 'The manual runner')", letters, aside)
	}
	return nil
}

// takeOver writes the checkpoints in place of the rows.
func (c change) takeOver(ctx context.Context, projection, reason, table string, pieces []slot.Piece, done *Import) error {
	var from, to []int32
	var positions []int64
	for _, p := range pieces {
		from, to, positions = append(from, int32(p.From)), append(to, int32(p.To)), append(positions, p.Position)
	}
	if _, err := c.tx.Exec(ctx, c.store.SQL(sqlImport), projection, c.admin.replicaSet, c.store.EventsTable(), from, to, positions); err != nil {
		return fmt.Errorf("writing the checkpoints: %w", err)
	}
	var names []string
	for _, row := range done.Rows {
		if !ofPartition.MatchString(row.Name[len(projection):]) {
			names = append(names, row.Name)
		}
	}
	if _, err := c.tx.Exec(ctx, fmt.Sprintf(sqlDeleteManualRows, table), names); err != nil {
		return fmt.Errorf("deleting the rows of the manual runner from %s: %w", table, err)
	}
	o := operation{kind: "import", projection: projection, arguments: map[string]any{"table": table, "rows": done.Rows}, reason: reason}
	id, err := c.record(ctx, o, "done", map[string]any{"position": done.Position, "may_repeat": done.MayRepeat})
	if err != nil {
		return fmt.Errorf("recording the operation: %w", err)
	}
	done.Operation = id
	return nil
}

// ofPartition is the ending of a row of pupsourcing's for a partition.
var ofPartition = regexp.MustCompile(`^_p([0-9]{1,5})$`)

// begin says where each slot begins.
func begin(projection string, found []manual.Row) ([]slot.Piece, Import, error) {
	var done Import
	var own []manual.Row
	partitions := map[int]int64{}
	for _, row := range found {
		_, isOwn, err := manual.Parse(projection, row)
		switch m := ofPartition.FindStringSubmatch(row.Name[len(projection):]); {
		case err != nil:
			return nil, done, err
		case isOwn:
			own = append(own, row)
		case m == nil:
			continue // another projection's
		case row.Position < 0:
			return nil, done, fmt.Errorf("the checkpoint %q is at %d: positions begin at 0", row.Name, row.Position)
		default:
			k, _ := strconv.Atoi(m[1])
			partitions[k] = row.Position
		}
		done.Rows = append(done.Rows, ImportedRow{row.Name, row.Position})
	}
	if len(partitions) == 0 {
		layout, err := manual.Plan(projection, slot.Partition{Total: 1}, own)
		if err != nil {
			return nil, done, err
		}
		pieces := manual.Slots(layout.Own)
		done.Position = slot.Lowest(pieces)
		return pieces, done, nil
	}
	return lowestOf(projection, own, partitions, done)
}

// lowestOf has all slots begin at the lowest of pupsourcing's partitions.
func lowestOf(projection string, own []manual.Row, partitions map[int]int64, done Import) ([]slot.Piece, Import, error) {
	lowest, last := int64(-1), 0
	for k, position := range partitions {
		if last = max(last, k); lowest < 0 || position < lowest {
			lowest = position
		}
	}
	if len(partitions) <= last {
		lowest = 0 // a partition below has no row: it has handled nothing
	}
	for _, row := range own {
		if row.Name != projection || row.Position != lowest {
			return nil, done, fmt.Errorf("%w: %q is at %d, and the lowest row of pupsourcing's partitions, %q and the like, is at %d: delete the rows that were not the last",
				manual.ErrContradict, row.Name, row.Position, projection+"_p0", lowest)
		}
	}
	done.Position = lowest
	done.Advice = "drain pupsourcing's processors to one position before the import: stop the appends, wait until all rows have the same position, and stop the processors"
	return []slot.Piece{{Range: slot.All(), Position: lowest}}, done, nil
}

func highestOf(rows []ImportedRow) int64 {
	return slices.MaxFunc(rows, func(a, b ImportedRow) int { return int(min(1, max(-1, a.Position-b.Position))) }).Position
}

package horizon

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
)

// target is the table and the sequence that a prober looks at, by oid and by
// qualified name.
type target struct {
	table     uint32
	tableName pgx.Identifier
	role      string // the role that looked

	kind        string // pg_class.relkind
	isPartition bool

	column       int16  // the number of global_position; 0 if there is none
	columnFill   uint32 // its default; 0 if it has none, as an identity column
	sequences    int64  // how many sequences the position's default draws from
	sequence     uint32
	sequenceName pgx.Identifier

	ambiguous []string // columns that name an aggregate and take different texts for equal

	glanceSQL string // see sqlGlance
}

// facts are what the horizon depends on and somebody may change while it is probed. They are read by
// every probe and compared with those at the start.
type facts struct {
	table           uint32 // that has the name now; 0 if there is none
	kind            string // pg_class.relkind
	isPartition     bool
	rowSecurity     bool // is active for the role
	mayReadTable    bool
	columnFill      uint32
	sequence        uint32 // 0 if there is none any more
	filenode        uint32 // of the sequence: ALTER SEQUENCE gives it another
	cache           int64
	increment       int64
	least           int64 // MINVALUE
	cycles          bool
	mayReadSequence bool
}

// sight is what one look reads.
type sight struct {
	mayRead bool   // the sequence, just before value was read
	value   *int64 // the last value; nil if no number was drawn or the role may not read it
	facts   facts
	server  server
	names   []string
	pids    []int32
	above   []int64 // positions of the next events; see sqlGlance
	slots   []int32 // their slots
}

// state is where the columns of sqlState go.
func (s *sight) state() []any {
	f, r := &s.facts, &s.server
	return []any{
		&f.table, &f.kind, &f.isPartition, &f.rowSecurity, &f.mayReadTable, &f.columnFill, &f.sequence, &f.filenode,
		&f.cache, &f.increment, &f.least, &f.cycles, &f.mayReadSequence, &r.started, &r.now, &r.session, &r.statistics,
	}
}

// lastValue is the highest number drawn, 0 before the first.
func (s sight) lastValue() int64 {
	if s.value == nil {
		return 0
	}
	return *s.value
}

// holders are the transactions seen, as the tracker takes them.
func (s sight) holders() []Holder {
	holders := make([]Holder, len(s.names))
	for i, name := range s.names {
		holders[i] = Holder{Name: name, Prepared: s.pids[i] == 0}
	}
	return holders
}

// locate looks the events table and its sequence up.
func locate(ctx context.Context, db Querier, events pgx.Identifier, slot string) (target, error) {
	var (
		t               target
		schema          *string
		nspname, table  string
		seqSchema, name string
	)
	if len(events) > 1 {
		schema = &events[0]
	}
	err := db.QueryRow(ctx, sqlLocate, schema, events[len(events)-1]).Scan(&t.table, &nspname, &table, &t.role, &t.kind, &t.isPartition,
		&t.column, &t.columnFill, &t.sequences, &t.sequence, &seqSchema, &name, &t.ambiguous)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return target{}, missing(events)
	case dbguard.IsStandby(err):
		return target{}, &UnfitError{Faults: []Fault{{
			Reason: ReasonStandby,
			Text:   "the server is a standby: connect to the primary, where the writers are (target_session_attrs=read-write)",
		}}, cause: err}
	case err != nil:
		return target{}, fmt.Errorf("looking up the events table %s: %w", events.Sanitize(), err)
	}
	t.tableName, t.sequenceName = pgx.Identifier{nspname, table}, pgx.Identifier{seqSchema, name}
	t.glanceSQL = sqlGlance(t.tableName, slot)
	return t, t.usable()
}

// missing is the error for a table that the connection does not find.
func missing(events pgx.Identifier) error {
	if len(events) > 1 {
		return unfit(ReasonTable, "the events table %s does not exist: create it, or name another schema", events.Sanitize())
	}
	return unfit(ReasonTable, "the events table %s does not exist, or is in a schema outside the search_path: "+
		"create it, or name its schema", events.Sanitize())
}

// usable says why the horizon cannot be found for the table, if it cannot.
func (t target) usable() error {
	if faults := t.notATable(t.kind, t.isPartition); len(faults) > 0 {
		return asError(faults)
	}
	table := t.tableName.Sanitize()
	switch {
	case t.column == 0:
		return unfit(ReasonTable, "the events table %s has no column global_position: add one that a sequence feeds (bigserial)", table)
	case t.sequences == 0:
		return unfit(ReasonSequence, "no sequence feeds %s.global_position: its default must be nextval of a sequence, or the column an identity", table)
	case t.sequences > 1:
		return unfit(ReasonSequence, "%d sequences feed %s.global_position: its default must draw from one", t.sequences, table)
	case len(t.ambiguous) > 0: // workers compare them byte by byte, and what is parked would be another slot's
		return unfit(ReasonTable, "the collation of %s.%s is not deterministic, or its type is citext, so it takes different texts for equal, and events would be skipped, "+
			"or handled in another order: ALTER TABLE %[1]s ALTER COLUMN %[2]s TYPE text COLLATE \"C\"", table, pgx.Identifier{t.ambiguous[0]}.Sanitize())
	}
	return nil
}

// look reads the state of the target, and the last value.
func (t target) look(ctx context.Context, db Querier) (sight, error) {
	var seen sight
	err := db.QueryRow(ctx, sqlQuiet, t.tableName.Sanitize(), t.sequence, t.column).Scan(append([]any{&seen.mayRead, &seen.value}, seen.state()...)...)
	if err != nil {
		return sight{}, fmt.Errorf("reading the sequence %s: %w", t.sequenceName.Sanitize(), err)
	}
	return seen, nil
}

// glance reads the state of the target, the last value, and the positions of the next events above one.
func (t target) glance(ctx context.Context, db Querier, after int64) (sight, error) {
	var (
		seen  sight
		batch pgx.Batch
	)
	batch.Queue(sqlGlanceLocks)
	batch.Queue(t.glanceSQL, t.tableName.Sanitize(), t.sequence, t.column, after).QueryRow(func(row pgx.Row) error {
		return row.Scan(append([]any{&seen.mayRead, &seen.value, &seen.above, &seen.slots}, seen.state()...)...)
	})
	err := db.SendBatch(ctx, &batch).Close()
	if err != nil {
		return sight{}, t.hidden(fmt.Errorf("reading the sequence %s and the events above position %d: %w", t.sequenceName.Sanitize(), after, err))
	}
	return seen, nil
}

// withoutHole is up to where the events seen above a position follow each other without a hole, but no further than the last value, and
// their slots.
func (s sight) withoutHole(after int64) (end int64, slots []int32) {
	end = after
	for i, position := range s.above {
		if position > end+1 || position > s.lastValue() {
			return end, s.slots[:i]
		}
		end = max(end, position)
	}
	return end, s.slots
}

// lookAtHolders reads the last value and then the holders, in one round trip.
//
// The order is kept: a server works through the messages of a connection one by
// one, so the second statement of a pipeline (in the simple protocol, of a query
// text) starts executing after the first has run to its end. That both run in one
// implicit transaction does not matter, because neither answer comes from
// a snapshot: both functions read what is in shared memory at that moment.
func (t target) lookAtHolders(ctx context.Context, db Querier) (sight, error) {
	var (
		seen  sight
		batch pgx.Batch
	)
	batch.Queue(sqlLastValue, t.sequence).QueryRow(func(row pgx.Row) error {
		return row.Scan(&seen.mayRead, &seen.value)
	})
	batch.Queue(sqlHolders, t.tableName.Sanitize(), t.sequence, t.column).QueryRow(func(row pgx.Row) error {
		return row.Scan(append([]any{&seen.names, &seen.pids}, seen.state()...)...)
	})
	if err := db.SendBatch(ctx, &batch).Close(); err != nil {
		return sight{}, fmt.Errorf("reading the sequence %s and the holders of locks: %w", t.sequenceName.Sanitize(), err)
	}
	return seen, nil
}

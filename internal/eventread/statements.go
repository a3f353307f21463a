package eventread

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// DB is what reading needs. *pgxpool.Pool, *pgx.Conn and pgx.Tx satisfy it. It is the same type as eventstore.DB.
type DB = interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// statements is the SQL of the reads of one events table. A text is made once, when it is first needed.
type statements struct {
	table     uint32 // its oid; 0 for whichever has the name
	nextEvent string
	filtered  [shapes]func() string
}

func newStatements(events pgx.Identifier, oid uint32) *statements {
	limit := dbguard.LimitAllRowsOf(events, oid, "$3::bigint")
	table := strings.NewReplacer("{{events}}", events.Sanitize(),
		"{{guarded limit}}", limit, "{{limit on a primary}}", dbguard.LimitOnPrimary(limit),
		"{{guarded one}}", dbguard.LimitAllRowsOf(events, oid, "1::bigint"))
	s := &statements{table: oid, nextEvent: table.Replace(nextSQL)}
	for f := range s.filtered {
		s.filtered[f] = sync.OnceValue(func() string { return table.Replace(shape(f).sql()) })
	}
	return s
}

// shape says which filters, and which columns, a filtered read has.
type shape uint8

const (
	bySlot          shape = 1 << iota
	byAggregateType       // by the primary key
	byBoundedContext
	withSlots // the slot is the last column
	byOneIndexedType
	byIndexedTypes // several
	bySlotKeys     // by the slot index
	bySlotRange

	shapes = 1 << iota // how many there are
)

// nextSQL finds the first event above position $1. Without such an event it returns 0.
const nextSQL = `
SELECT coalesce((SELECT global_position FROM {{events}} WHERE global_position > $1::bigint AND ` + dbguard.Primary + `
	ORDER BY global_position LIMIT {{guarded one}}), 0)`

// stream reads the events that q wants, in one statement: those in one of its slots, above that slot's position, up to and including
// q.UpTo, within its scope. It calls take with every size
// events as soon as they have arrived, and with the rest at the end. The parts
// follow each other without a gap; without an error there is at least one. After an error, those
// that were taken are still what they say. The statement stays open while take runs:
// it must not wait.
func (s *statements) stream(ctx context.Context, db DB, q Query, size int, take func(Part)) error {
	if err := q.validate(); err != nil {
		return fmt.Errorf("reading events: %w", err)
	}
	if size < 1 {
		return fmt.Errorf("reading events: size must be at least 1, got %d", size)
	}
	if q.UpTo <= slot.Lowest(q.Pieces) {
		take(Part{UpTo: q.UpTo})
		return nil
	}
	ctx, abandon := context.WithCancel(ctx)
	defer abandon()
	sql, args, complete := s.read(q)
	collect := collectParts
	if q.bySlotIndex {
		collect = collectBlocks
	}
	rows, err := db.Query(ctx, sql, args...) //nolint:rowserrcheck // collect checks it
	if err != nil {
		return fmt.Errorf("reading events up to position %d: %w", q.UpTo, err)
	}
	if err := collect(rows, q, complete, size, take, abandon); err != nil {
		return fmt.Errorf("reading events up to position %d: %w", q.UpTo, err)
	}
	return nil
}

// next is the position before the next event after one, upTo at most.
func (s *statements) next(ctx context.Context, db DB, after, upTo int64) (int64, error) {
	var position int64
	if err := db.QueryRow(ctx, s.nextEvent, after).Scan(&position); err != nil {
		return 0, fmt.Errorf("looking for the next event after position %d: %w", after, err)
	}
	if position == 0 {
		return upTo, nil
	}
	return min(position-1, upTo), nil
}

package horizon

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
)

// ReplacedError says that the events table does not hold what it held before: it was replaced by a table with other contents, or restored
// without its last events. Events would be skipped, since the checkpoints speak of positions in the table before.
type ReplacedError struct {
	// Table is the name, quoted.
	Table string
	// Was is an event that was stored.
	Was Event
	// Found is the id of the event at that position now; empty if the position has no event.
	Found string
}

// Error names the event and the remedies.
func (e *ReplacedError) Error() string {
	found := "nothing"
	if e.Found != "" {
		found = "the event " + e.Found
	}
	return fmt.Sprintf("the events table %s is not the one that was handled so far: at position %d, where the event %s was, it has %s. "+
		"Rename the tables back, or put the missing events into it with their positions, and all goes on. If this table is the right one, set every checkpoint "+
		"back to the last position up to which both tables hold the same events, and then delete the table's row of orchestrator_horizons "+
		"(or restart a manual runner)", e.Table, e.Was.Position, e.Was.ID, found)
}

// verifyTable returns a ReplacedError if the last event that is known to have been stored is gone and the events table is not the one in which it was, or
// if another event is at its position. That it is gone from the same table is no fault: somebody has deleted old events.
//
// It runs before the sequence is compared. While a table is being restored, its sequence is behind the checkpoints. That would be
// recorded as a regression, which only a person can settle.
func (p *Prober) verifyTable(ctx context.Context) error {
	known := p.known.Stored
	if known.Term == 0 { // nothing is ever stored
		known = p.last
	}
	if known.Event == (Event{}) {
		return nil
	}
	found, err := p.target.eventAt(ctx, p.db, known.Event.Position)
	if err != nil {
		return err
	}
	if found == known.Event.ID || (found == "" && known.Table == p.facts.table) {
		return nil
	}
	return &ReplacedError{Table: p.target.tableName.Sanitize(), Was: known.Event, Found: found}
}

// eventAt returns the id of the event at a position, empty if there is none.
func (t target) eventAt(ctx context.Context, db Querier, position int64) (id string, err error) {
	if err := db.QueryRow(ctx, sqlEventAt(t.tableName, t.table), position).Scan(&id); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", t.hidden(fmt.Errorf("reading the event at position %d of %s: %w", position, t.tableName.Sanitize(), err))
	}
	return id, nil
}

// lastEvent returns the last event up to a position.
func (t target) lastEvent(ctx context.Context, db Querier, upTo int64) (last Event, err error) {
	err = db.QueryRow(ctx, sqlLastEvent(t.tableName, t.table), upTo).Scan(&last.Position, &last.ID)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return Event{}, t.hidden(fmt.Errorf("reading the last event up to position %d of %s: %w", upTo, t.tableName.Sanitize(), err))
	}
	return last, nil
}

// sqlEventAt reads the id of the event at position $1.
func sqlEventAt(events pgx.Identifier, oid uint32) string {
	return fmt.Sprintf(`SELECT event_id::pg_catalog.text FROM %s WHERE global_position = $1::pg_catalog.int8 AND `+dbguard.Primary+` LIMIT %s`,
		events.Sanitize(), dbguard.LimitAllRowsOf(events, oid, "1::pg_catalog.int8"))
}

// sqlLastEvent reads the last event up to position $1.
func sqlLastEvent(events pgx.Identifier, oid uint32) string {
	return fmt.Sprintf(`SELECT global_position, event_id::pg_catalog.text FROM %s
WHERE global_position <= $1::pg_catalog.int8 AND `+dbguard.Primary+` ORDER BY global_position DESC LIMIT %s`,
		events.Sanitize(), dbguard.LimitAllRowsOf(events, oid, "1::pg_catalog.int8"))
}

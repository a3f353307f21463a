package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// operation is a row of orchestrator_operations.
type operation struct {
	kind       string
	projection string // empty for all
	arguments  map[string]any
	reason     string
	until      time.Time // when a pause ends; zero if it does not by itself
}

// change is a transaction in which an operation is made.
type change struct {
	tx    pgx.Tx
	store *pgcoord.Store
	admin *Admin
	// preview says that the checks are wanted only: no rows are locked.
	preview bool
}

// locking is a statement that ends with FOR …, without that in a preview.
func (c change) locking(query, lock string) string {
	if c.preview {
		return query
	}
	return query + lock
}

// conflictsMost is how often a change is tried that the database ended because of another transaction.
const conflictsMost = 5

// change runs a change of the replica set, which do describes: it commits or leaves nothing. Then the workers are told.
func (a *Admin) change(ctx context.Context, do func(change) error) error {
	store, err := a.open(ctx)
	if err != nil {
		return err
	}
	for n := 1; ; n++ {
		err = a.db.Do(ctx, func(tx pgx.Tx) error { return do(change{tx: tx, store: store, admin: a}) })
		if n == conflictsMost || !dbfault.IsConflict(err) {
			break
		}
	}
	if err != nil {
		return err
	}
	tell, end := lastLook(ctx)
	defer end()
	store.AnnounceChange(tell, a.db)
	return nil
}

const sqlOperation = `
INSERT INTO {{schema}}orchestrator_operations (replica_set, projection, kind, arguments, actor, reason, state, result, finished_at)
VALUES ($1, $2, $3, $4::text::jsonb, $5, $6, $7::text, $8::text::jsonb, CASE WHEN $7::text <> 'waiting' THEN now() END)
RETURNING id`

// record makes the operation's row.
func (c change) record(ctx context.Context, o operation, state string, result any) (id int64, err error) {
	arguments, err := json.Marshal(o.arguments)
	if err != nil {
		return 0, fmt.Errorf("describing the operation: %w", err)
	}
	came, err := json.Marshal(result)
	if err != nil {
		return 0, fmt.Errorf("describing what came of the operation: %w", err)
	}
	err = c.tx.QueryRow(ctx, c.store.SQL(sqlOperation), c.admin.replicaSet, o.projection, o.kind, string(arguments), c.admin.actor, o.reason, state, string(came)).Scan(&id)
	return id, err
}

// Batches lock checkpoints in this order too.
const sqlLockSlots = `
SELECT FROM {{schema}}orchestrator_checkpoints AS c
WHERE c.projection = ANY ($1::text[]) AND EXISTS (
    SELECT FROM ROWS FROM (unnest($1::text[]), unnest($2::int[])) AS s (projection, slot)
    WHERE s.projection = c.projection AND s.slot >= c.slot_from AND s.slot < c.slot_to)
ORDER BY c.projection, c.slot_from
FOR NO KEY UPDATE`

const sqlRaise = `
UPDATE {{schema}}orchestrator_checkpoints AS c SET revision = revision + 1
WHERE c.projection = ANY ($1::text[]) AND EXISTS (
    SELECT FROM ROWS FROM (unnest($1::text[]), unnest($2::int[])) AS s (projection, slot)
    WHERE s.projection = c.projection AND s.slot >= c.slot_from AND s.slot < c.slot_to)
RETURNING c.projection, c.slot_from, c.slot_to`

// raise waits for the batches in flight at the slots of aggregates, and has their owners read again what they know before they commit anything more.
func (c change) raise(ctx context.Context, of parkedAggregates) error {
	projections, slots := of.slots()
	if len(slots) == 0 {
		return nil
	}
	for range recutsMost {
		if _, err := c.tx.Exec(ctx, c.store.SQL(sqlLockSlots), projections, slots); err != nil {
			return fmt.Errorf("locking the checkpoints: %w", err)
		}
		rows, err := c.tx.Query(ctx, c.store.SQL(sqlRaise), projections, slots)
		if err != nil {
			return fmt.Errorf("raising the revision of the checkpoints: %w", err)
		}
		raised, err := collectRanges(rows)
		if err != nil {
			return fmt.Errorf("raising the revision of the checkpoints: %w", err)
		}
		if raised.contain(projections, slots) {
			return nil
		} // a generation that began meanwhile has replaced rows by others
	}
	return nil // slots without checkpoints have no owner
}

// ranges are ranges of slots of projections.
type ranges map[string][]slot.Piece

// collectRanges reads projections and their ranges.
func collectRanges(rows pgx.Rows) (ranges, error) {
	found := ranges{}
	var projection string
	var r slot.Range
	_, err := pgx.ForEachRow(rows, []any{&projection, &r.From, &r.To}, func() error {
		found[projection] = append(found[projection], slot.Piece{Range: r})
		return nil
	})
	return found, err
}

// contain says whether each slot is in a range of its projection.
func (r ranges) contain(projections []string, slots []int32) bool {
	for i, projection := range projections {
		if !slices.ContainsFunc(r[projection], func(p slot.Piece) bool { return p.Contains(int(slots[i])) }) {
			return false
		}
	}
	return true
}

// parkedAggregates are aggregates that are parked, as arrays.
type parkedAggregates struct {
	projections, contexts, types, ids []string
	slotOf                            []int32
}

// slots are the aggregates' slots, each of a projection once.
func (p parkedAggregates) slots() (projections []string, slots []int32) {
	type place struct {
		projection string
		number     int32
	}
	seen := map[place]bool{}
	for i, projection := range p.projections {
		if s := (place{projection, p.slotOf[i]}); !seen[s] {
			seen[s] = true
			projections, slots = append(projections, projection), append(slots, s.number)
		}
	}
	return projections, slots
}

// key names a parked aggregate.
type key struct{ projection, context, kind, id string }

func (p parkedAggregates) key(i int) key {
	return key{p.projections[i], p.contexts[i], p.types[i], p.ids[i]}
}

// keys are the aggregates as a set.
func (p parkedAggregates) keys() map[key]bool {
	set := map[key]bool{}
	for i := range p.ids {
		set[p.key(i)] = true
	}
	return set
}

// among are those of the aggregates that are in a set.
func (p parkedAggregates) among(set map[key]bool) (kept parkedAggregates) {
	for i := range p.ids {
		if set[p.key(i)] {
			kept.add(p.key(i), p.slotOf[i])
		}
	}
	return kept
}

func (p *parkedAggregates) add(k key, slot int32) {
	p.projections, p.contexts, p.types, p.ids = append(p.projections, k.projection), append(p.contexts, k.context), append(p.types, k.kind), append(p.ids, k.id)
	p.slotOf = append(p.slotOf, slot)
}

// sqlParked is the parked aggregates that have a letter which a filter selects.
const sqlParked = `
SELECT p.projection, p.bounded_context, p.aggregate_type, p.aggregate_id, (hashtextextended(p.aggregate_id, 0) & 65535)::int
FROM {{schema}}orchestrator_parked_aggregates AS p
WHERE EXISTS (
    SELECT FROM {{schema}}orchestrator_dead_letters AS d
    WHERE d.projection = p.projection AND d.aggregate_id = p.aggregate_id AND d.aggregate_type = p.aggregate_type AND d.bounded_context = p.bounded_context
      AND ` + filterSQL + `)
  AND ` + dbguard.Primary + `
ORDER BY p.projection, p.aggregate_id, p.aggregate_type, p.bounded_context`

// parked is the parked aggregates that the filter selects.
func (c change) parked(ctx context.Context, f Filter) (parkedAggregates, error) {
	rows, err := c.tx.Query(ctx, c.store.SQL(sqlParked), f.args(c.admin.replicaSet, []string{"parked"})...) //nolint:rowserrcheck // ForEachRow checks it
	if err != nil {
		return parkedAggregates{}, err
	}
	var p parkedAggregates
	var k key
	var slot int32
	_, err = pgx.ForEachRow(rows, []any{&k.projection, &k.context, &k.kind, &k.id, &slot}, func() error {
		p.add(k, slot)
		return nil
	})
	return p, err
}

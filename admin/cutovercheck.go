package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// refusal is why a cut-over is not begun, or given up: not a failure of the database.
type refusal struct{ error }

func refuse(format string, args ...any) error { return refusal{fmt.Errorf(format, args...)} }

// Unwrap is the reason.
func (r refusal) Unwrap() error { return r.error }

// mayPass says whether another attempt may succeed after the error.
func mayPass(err error) bool {
	_, refused := errors.AsType[refusal](err)
	return !refused && !errors.Is(err, ErrCancelled) && dbguard.MayPass(err)
}

// sqlCutOverFacts is what stands in the way of a cut-over from $2 to $3.
const sqlCutOverFacts = `
WITH live AS (
    SELECT name, projections, replaces FROM {{schema}}orchestrator_workers WHERE replica_set = $1 AND state NOT IN ('stopped', 'dead'))
SELECT coalesce((SELECT s.replaced FROM {{schema}}orchestrator_successions AS s WHERE s.projection = $3 AND s.cut_over_at IS NOT NULL), ''),
    (SELECT pg_catalog.count(*) FROM live WHERE $3 = ANY (projections)),
    coalesce((SELECT pg_catalog.string_agg(name, ', ' ORDER BY name) FROM live WHERE $3 = ANY (projections) AND (replaces ->> $3::text) IS DISTINCT FROM $2), ''),
    CASE WHEN EXISTS (SELECT FROM {{schema}}orchestrator_successions AS s WHERE s.projection = $2 AND s.cut_over_at IS NOT NULL) THEN ''
    WHEN EXISTS (SELECT FROM live WHERE $2 = ANY (projections)) THEN coalesce((SELECT pg_catalog.min(replaces ->> $2::text) FROM live WHERE $2 = ANY (projections)), '')
    ELSE (SELECT coalesce(w.replaces ->> $2::text, '') FROM {{schema}}orchestrator_workers AS w WHERE w.replica_set = $1 AND $2 = ANY (w.projections)
        ORDER BY w.started_at DESC LIMIT 1) END,
    coalesce((SELECT pg_catalog.min(r.operation) FROM {{schema}}orchestrator_requests AS r WHERE r.projection IN ($2, $3) AND r.state = 'waiting'), 0),
    coalesce((SELECT d.projection FROM {{schema}}orchestrator_dead_letters AS d WHERE ` + openLetter + ` ORDER BY 1 LIMIT 1), ''),
    coalesce((SELECT pg_catalog.min(d.global_position) FROM {{schema}}orchestrator_dead_letters AS d WHERE ` + openLetter + `), 0)`

// openLetter is an event that a handler has failed on and is to handle again.
const openLetter = `d.projection IN ($2, $3) AND d.state = 'retrying'
        AND d.global_position > (SELECT pg_catalog.min(c.position) FROM {{schema}}orchestrator_checkpoints AS c WHERE c.projection = d.projection)`

// mayCutOver says why a cut-over would not begin, in a preview.
func (c change) mayCutOver(ctx context.Context, o *cutting) error {
	if err := c.lockPair(ctx, o.from, o.to); err != nil {
		return err
	}
	begun, err := c.waitingCutOvers(ctx, waitingCutOvers{from: o.from, to: o.to})
	if err != nil {
		return err
	}
	pair, err := standingsOf(ctx, c.store, c.tx, o.from, o.to)
	if err != nil {
		return err
	}
	return c.checkCutOver(ctx, o, pair.withoutHolds(begun))
}

// checkCutOver says why a cut-over must not begin. Both projections are locked.
func (c change) checkCutOver(ctx context.Context, o *cutting, pair pair) error {
	var toReplaced, others, retrying string
	var fromReplaces *string // by the workers that run it, or the last that did; nil if there is no record of one
	var workers, request, retried int64
	err := c.tx.QueryRow(ctx, c.store.SQL(sqlCutOverFacts), c.admin.replicaSet, o.from, o.to).
		Scan(&toReplaced, &workers, &others, &fromReplaces, &request, &retrying, &retried)
	switch {
	case err != nil:
		return fmt.Errorf("looking for what stands in the way: %w", err)
	case pair.from.ReplacedBy == o.to:
		return refuse("%q has replaced %q already", o.to, o.from)
	case toReplaced != "":
		return refuse("%q has replaced %q already, and can replace no other", o.to, toReplaced)
	case pair.from.ReplacedBy != "":
		return refuse("%q was replaced by %q", o.from, pair.from.ReplacedBy)
	case pair.to.ReplacedBy != "":
		return refuse("%q was replaced by %q", o.to, pair.to.ReplacedBy)
	case workers == 0:
		return refuse("no worker runs projection %q", o.to)
	case others != "":
		return refuse("the workers %s run projection %q without a method Replaces (projection.Successor) that returns %q", others, o.to, o.from)
	case fromReplaces == nil:
		return refuse("no worker is on record that has run projection %q, so it is not known whether it has taken over from another one itself: run it once", o.from)
	case *fromReplaces != "":
		return refuse("projection %q has not taken over from %q itself: cut over to it first", o.from, *fromReplaces)
	case pair.from.EventsTable != pair.to.EventsTable:
		return refuse("the positions of %q are of the events table %s, and those of %q of %s", o.from, pair.from.EventsTable, o.to, pair.to.EventsTable)
	case request != 0:
		return refuse("operation %d waits for one of the projections: let it come to its end, or cancel it", request)
	case retrying != "":
		return refuse("projection %q retries the event at position %d", retrying, retried)
	}
	return o.checkStandings(pair)
}

// checkStandings says which of the projections cannot go on, or is too far behind.
func (c *cutting) checkStandings(pair pair) error {
	highest := pair.highest()
	for _, s := range pair.each(c.from, c.to) {
		name := s.name
		if s.Parked {
			return refuse("projection %q has parked aggregates: retry or discard them first", name)
		}
		for _, p := range s.Pieces {
			switch {
			case p.Stopped != 0:
				return refuse("projection %q is stopped at position %d", name, p.Stopped)
			case p.Held != 0:
				return refuse("projection %q is held at position %d%s: resume it first", name, p.Held-1, heldUntil(p))
			}
		}
		goesOn := s.Running || name == c.from && slot.Lowest(s.Pieces) == highest
		switch {
		case !goesOn && s.LeftOut:
			return refuse("the workers that run projection %q wait for handlers of it that do not return", name)
		case !goesOn:
			return refuse("no worker runs projection %q, or those that do are drained", name)
		}
	}
	if apart := highest - pair.lowest(); apart > c.apart {
		return refuse("%w: %d positions, and at most %d are allowed: %s", ErrTooFarBehind, apart, c.apart, pair.text(c.from, c.to))
	}
	return nil
}

// heldUntil says when a hold ends; empty if it has no end.
func heldUntil(p slot.Piece) string {
	if p.HeldUntil == 0 {
		return ""
	}
	return " until " + time.UnixMicro(p.HeldUntil).UTC().Format(time.RFC3339)
}

const sqlReplacedBy = `
SELECT projection FROM {{schema}}orchestrator_successions WHERE replaced = $1 AND cut_over_at IS NOT NULL`

// notReplaced says that a projection was replaced, if it was: it handles nothing any more, so a change of it would mislead.
func (c change) notReplaced(ctx context.Context, projection string) error {
	var by string
	switch err := c.tx.QueryRow(ctx, c.store.SQL(sqlReplacedBy), projection).Scan(&by); {
	case err == nil:
		return fmt.Errorf("%q has replaced it at a cut-over: it handles nothing any more", by)
	case !errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("looking for what has replaced it: %w", err)
	}
	return nil
}

// notCuttingOver says that the projection is held by a cut-over that has begun, if it is. The projection's checkpoints are locked.
func (c change) notCuttingOver(ctx context.Context, projection string) error {
	begun, err := c.waitingCutOvers(ctx, waitingCutOvers{involving: projection})
	if err != nil {
		return err
	}
	var now time.Time
	for _, one := range begun {
		if err := c.tx.QueryRow(ctx, sqlNowPlus, 0.0).Scan(&now); err != nil {
			return err
		}
		if one.Until != nil && one.Until.After(now) {
			return fmt.Errorf("a cut-over from %q to %q has begun (operation %d): let it come to its end, or resume one of the two to end it", one.From, one.To, one.ID)
		}
	}
	return nil
}

package admin

import (
	"context"
	"errors"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbrights"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// PreviewReset checks whether [Admin.Reset] would be refused now. It returns the error that Reset would return, or nil
// if the reset would begin. It changes nothing, and does not wait for handlers. It needs the same rights. It does not
// find out whether the projection's own Reset would fail.
func (a *Admin) PreviewReset(ctx context.Context, projection string, to Point) error {
	return a.previewReset(ctx, askRights, projection, to, func(c change) error {
		if err := c.mayResetByWorker(ctx, projection); err != nil {
			return err
		}
		if _, err := c.resolve(ctx, projection, to); err != nil {
			return err
		}
		return c.mayReset(ctx, projection)
	})
}

// PreviewResetCheckpoints is [Admin.PreviewReset] for [Admin.ResetCheckpoints].
func (a *Admin) PreviewResetCheckpoints(ctx context.Context, projection string, to Point) error {
	return a.previewReset(ctx, resetRights, projection, to, func(c change) error {
		if err := c.lockAll(ctx, projection); err != nil {
			return err
		}
		if err := c.mayReset(ctx, projection); err != nil {
			return err
		}
		_, err := c.resolve(ctx, projection, to)
		return err
	})
}

// previewReset runs the checks of a reset, in the order in which the reset does.
func (a *Admin) previewReset(ctx context.Context, needs rights, projection string, to Point, checks func(change) error) error {
	err := checkReset(projection, to, "")
	if err == nil {
		err = a.preview(ctx, needs.needs(a.schema, a.eventStore.EventsTable()), checks)
	}
	return a.explainReset(ctx, needs, projection, to, err)
}

// PreviewMove checks whether [Admin.Move] would be refused now. It returns the error that Move would return, or nil if
// the move would be done. It changes nothing, and does not wait for handlers. It needs the same rights.
func (a *Admin) PreviewMove(ctx context.Context, projection, to string) error {
	err := a.validateMove(projection, to, "")
	if err == nil {
		err = a.preview(ctx, moveRights.needs(a.schema, a.eventStore.EventsTable()), func(c change) error { return c.mayMove(ctx, projection, to) })
	}
	return a.explainMove(ctx, projection, to, err)
}

// PreviewCutOver checks whether [Admin.CutOver] would be refused now. It returns the error that CutOver would return, or
// nil if the cut-over would begin. It changes and holds nothing, and does not wait for handlers. It needs the same
// rights. It does not find out whether both projections would reach one position in time.
//
// If the projections are too far apart, it looks again for up to 2 seconds, as CutOver does, since a worker may not have
// stored its position yet.
func (a *Admin) PreviewCutOver(ctx context.Context, from, to string) error {
	c := &cutting{Admin: a, from: from, to: to}
	err := c.validate()
	for since := time.Now(); err == nil; {
		err = a.preview(ctx, cutOverRights.needs(a.schema, a.eventStore.EventsTable()), func(tx change) error { return tx.mayCutOver(ctx, c) })
		if !errors.Is(err, ErrTooFarBehind) || time.Since(since) >= writtenWithin {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(4 * cutOverLook):
			err = nil
		}
	}
	return a.explainCutOver(ctx, from, to, err)
}

// preview runs the checks of a change that needs rights, at one moment. They lock nothing and change nothing.
func (a *Admin) preview(ctx context.Context, needs []dbrights.Need, do func(change) error) error {
	return a.look(ctx, func(l look) error {
		if err := dbrights.Check(ctx, l.tx, needs); err != nil {
			return err
		}
		return do(change{tx: l.tx, store: l.store, admin: a, preview: true})
	})
}

// withoutHolds is where both stand when a cut-over has ended those of the same pair that have begun: their holds do not count.
func (p pair) withoutHolds(begun []waitingCutOver) pair {
	for _, one := range begun {
		for _, pieces := range [][]slot.Piece{p.from.Pieces, p.to.Pieces} {
			for i := range pieces {
				if one.Until != nil && pieces[i].HeldUntil == one.Until.UnixMicro() {
					pieces[i].Held, pieces[i].HeldUntil = 0, 0
				}
			}
		}
	}
	return p
}

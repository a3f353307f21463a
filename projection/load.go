package projection

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbrights"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
)

// loadLetters reads what is known about failed events, after the checkpoint's rows. Any change except a person's also
// moves those rows or stops the partition, so it is noticed. If the partition is stopped, loadLetters returns the error
// that ends Run.
func (r *runner) loadLetters(ctx context.Context) error {
	if err := r.findLetters(ctx); err != nil {
		return err
	}
	if err := r.noticePerformed(ctx); err != nil {
		return err
	}
	r.parked, r.unsettled = nil, 0
	if r.letters == nil {
		return nil
	}
	db := r.db.InTransactions()
	found, err := r.letters.unfinished(ctx, db)
	if err == nil {
		found, err = r.settle(ctx, found)
	}
	if err != nil {
		return err
	}
	for _, u := range found {
		if _, both := u.stopped.Intersect(r.partition.Range()); u.state == "stopped" && both {
			return r.foundStopped(ctx, u)
		}
		if r.partition.Range().Contains(u.slot) {
			r.unsettled = max(r.unsettled, u.position)
		}
	}
	setBack, err := r.letters.setBackOver(ctx, db, r.stored())
	if err != nil {
		return err
	}
	r.unsettled = max(r.unsettled, setBack)
	r.parked, err = r.letters.parked(ctx, db)
	return err
}

// findLetters looks whether the tables are there, unless it is known. One that needs them is an error without them.
func (r *runner) findLetters(ctx context.Context) error {
	if r.letters != nil {
		return nil
	}
	store := r.config.EventStore
	table, parked := store.DeadLettersTable(), store.ParkedAggregatesTable()
	var exist bool
	var encoding string
	if err := r.db.InTransactions().QueryRow(ctx, sqlLettersExist, table.Sanitize(), parked.Sanitize()).Scan(&exist, &encoding); err != nil {
		return fmt.Errorf("looking for %s and %s: %w", table.Sanitize(), parked.Sanitize(), err)
	}
	if !exist {
		if r.policied && r.policy.Then != handling.Retry {
			return dbfault.Configuration(fmt.Errorf("the error policy needs the tables %s and %s, which are not there: eventstore.RunMigrations makes them",
				table.Sanitize(), parked.Sanitize()))
		}
		return nil
	}
	if err := dbrights.Check(ctx, r.config.DB, r.needs()); err != nil {
		return dbfault.Configuration(err)
	}
	r.letters = newLetters(table, parked, store.CheckpointsTable(), r.name, r.partition.Range(), encoding)
	return nil
}

// needs is the rights on the tables of failed events. Without a policy, what others have parked or stopped is heeded. Later events of what they have parked
// are put aside, and what they have retried or skipped may be handled.
func (r *runner) needs() []dbrights.Need {
	rights := []string{"SELECT"}
	if r.policied || len(r.parked) > 0 || r.unsettled > 0 {
		rights = []string{"SELECT", "INSERT", "UPDATE", "DELETE"}
	}
	store := r.config.EventStore
	return []dbrights.Need{dbrights.On(store.DeadLettersTable(), rights...), dbrights.On(store.ParkedAggregatesTable(), rights[:min(3, len(rights))]...)}
}

// settle records which of the events a person has skipped by moving the checkpoint, and returns the others.
func (r *runner) settle(ctx context.Context, found []unfinished) ([]unfinished, error) {
	isPassed := func(u unfinished) bool {
		for _, p := range r.own {
			if p.Contains(u.slot) && u.position <= p.Position {
				return true
			}
		}
		return false
	}
	passed := false
	for _, u := range found {
		passed = passed || isPassed(u)
	}
	if !passed {
		return found, nil
	}
	skipped, err := r.letters.passed(ctx, r.db.InTransactions(), r.own)
	if err != nil {
		return nil, err
	}
	for _, position := range skipped {
		r.log.WarnContext(ctx, "an event that had failed was skipped: the checkpoint was advanced past it, and no handler has handled it", "position", position)
	}
	return r.letters.unfinished(ctx, r.db.InTransactions())
}

// foundStopped is the error that Run ends with at a stop that the table has.
func (r *runner) foundStopped(ctx context.Context, u unfinished) error {
	if r.pending() && r.failing.outcome == handling.Stop && r.failing.event.GlobalPosition == u.position { // the answer to its commit was lost
		return r.stopped(ctx)
	}
	return r.stoppedAt(handling.FailedEvent{GlobalPosition: u.position, EventID: u.eventID, EventType: u.eventType}, errors.New(u.lastError))
}

// noticePerformed notices by the checkpoint that the event that failed is behind: its outcome was committed though the answer was lost, another
// processor has handled it, or a person has skipped it. Its letter says which.
func (r *runner) noticePerformed(ctx context.Context) error {
	position := r.failing.event.GlobalPosition
	if position == 0 || r.stored() < position {
		return nil
	}
	wanted := map[handling.Outcome]string{handling.Skip: "skipped", handling.Park: "parked"}[r.failing.outcome]
	if wanted != "" && r.letters != nil {
		state, err := r.letters.state(ctx, r.db.InTransactions(), position)
		if err != nil {
			return err
		}
		if state == wanted {
			r.conclude(ctx)
		}
	}
	r.retryAt, r.failing = time.Time{}, failing{}
	return nil
}

// hookDropped logs, once a minute, that a failure was not told to the hook.
func (r *runner) hookDropped() func() {
	var last time.Time // only this Run tells the hook
	return func() {
		if time.Since(last) < time.Minute {
			return
		}
		last = time.Now()
		r.log.Warn("the failure hook is too slow, so some failures are not passed to it", "waiting", handling.HookQueue)
	}
}

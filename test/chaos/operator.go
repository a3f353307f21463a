package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
)

// What an operator does: pauses, resumes, retries, trials, resets. What cannot be done, because the database is away or a handler hangs, is left.

const (
	operatorPatience = 2 * time.Second
	// appeaseEvery is how often an operator looks for what is parked, stopped or held, when the faults are over.
	appeaseEvery = 300 * time.Millisecond
)

// policed says whether workers have an error policy.
func (o options) policed() bool { return has(o.Faults, faultPoison) }

// operate does a step of an operator's, in the background.
func (c *chaos) operate(ctx context.Context, s step) error {
	scopes, set := c.scopes(), replicaSet
	projection := scopes[s.Pick%uint64(len(scopes))].Name
	if projection == moving && s.Fault != faultDrain {
		set = c.home.replicaSet()
	}
	operator, err := admin.New(c.pool, c.store, set, admin.WithActor(applicationName))
	if err != nil {
		return err
	}
	drained := c.fleet.pick(s.Pick)
	c.lasting.Go(func() {
		switch s.Fault {
		case faultPause:
			c.pause(ctx, operator, projection, s)
		case faultDrain:
			if drained != nil {
				c.drain(ctx, operator, drained.Name, s)
			}
		case faultReset:
			c.resetProjection(ctx, operator, projection)
		default:
			c.retry(ctx, operator, projection, s)
		}
	})
	return nil
}

// pause holds a projection back for a while. Half of the pauses end by themselves.
func (c *chaos) pause(ctx context.Context, operator *admin.Admin, projection string, s step) {
	patient, cancel := context.WithTimeout(ctx, operatorPatience)
	defer cancel()
	until := time.Time{}
	if s.Kind%2 == 0 {
		until = time.Now().Add(operatorPatience + s.For)
	}
	if operator.Pause(patient, admin.Target{Projection: projection}, "chaos", until) != nil {
		return
	}
	end := c.injections.begin(faultPause, "", projection)
	c.tell(faultPause, "%s is paused", projection)
	if until.IsZero() {
		rest(ctx, s.For)
		end()
		_ = operator.Resume(context.WithoutCancel(ctx), admin.Target{Projection: projection}, "chaos") // if not, when the faults are over
		return
	}
	rest(ctx, time.Until(until)-pauseSlack)
	end()
}

// pauseSlack is how much sooner than the server this program takes a pause for ended.
const pauseSlack = 20 * time.Millisecond

// retry asks for retries and trials of what is parked. Some are given up, and some are cancelled.
func (c *chaos) retry(ctx context.Context, operator *admin.Admin, projection string, s step) {
	patient, cancel := context.WithTimeout(ctx, operatorPatience)
	defer cancel()
	f := admin.Filter{Projection: projection}
	switch s.Kind {
	case 0:
		trials, err := operator.Try(patient, f)
		c.tell(faultRetry, "%s: %d parked aggregates were tried (%v)", projection, len(trials), err)
	case 1:
		brief, end := context.WithTimeout(patient, s.For)
		defer end()
		r, err := operator.Retry(brief, f, "chaos")
		if err != nil && r.Operation != 0 {
			err = operator.Cancel(patient, r.Operation, "chaos")
		}
		c.tell(faultRetry, "%s: a retry of %d parked aggregates was cancelled (%v)", projection, r.Aggregates, err)
	case 2:
		err := operator.Resume(patient, admin.Target{Projection: projection}, "chaos")
		c.tell(faultRetry, "%s is resumed (%v)", projection, err)
	default:
		r, err := operator.Retry(patient, f, "chaos")
		c.tell(faultRetry, "%s: of %d parked aggregates %d were retried, %d failed (%v)", projection, r.Aggregates, r.Succeeded, r.Failed, err)
	}
}

// drain takes a worker's partitions away for a while. It may have died, or be the last that has none taken away.
func (c *chaos) drain(ctx context.Context, operator *admin.Admin, worker string, s step) {
	patient, cancel := context.WithTimeout(ctx, operatorPatience)
	defer cancel()
	err := operator.Drain(patient, worker, "chaos")
	c.tell(faultDrain, "%s is drained (%v)", worker, err)
	rest(ctx, s.For)
	_ = operator.Undrain(context.WithoutCancel(ctx), worker, "chaos") // if not, when the faults are over
}

// undrainAll ends all drains.
func (c *chaos) undrainAll(ctx context.Context, operator *admin.Admin) error {
	rows, err := c.pool.Query(ctx, "SELECT worker FROM orchestrator_drains")
	if err != nil {
		return fmt.Errorf("looking for drains: %w", err)
	}
	workers, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("looking for drains: %w", err)
	}
	for _, worker := range workers {
		if err := operator.Undrain(ctx, worker, "chaos: the end"); err != nil {
			return err
		}
	}
	return nil
}

// resetProjection has a projection begin again.
func (c *chaos) resetProjection(ctx context.Context, operator *admin.Admin, projection string) {
	patient, cancel := context.WithTimeout(ctx, operatorPatience)
	defer cancel()
	err := operator.Reset(patient, projection, admin.Start(), "chaos")
	c.tell(faultReset, "%s begins again (%v)", projection, err)
}

// tell tells of an injection.
func (c *chaos) tell(f fault, format string, args ...any) {
	if c.options.Verbose {
		c.say("%6.2fs  %-9s %s", time.Since(c.began).Seconds(), f, fmt.Sprintf(format, args...))
	}
}

// sqlUnsettled counts what an operator has to see to.
const sqlUnsettled = `
SELECT (SELECT count(*) FROM orchestrator_checkpoints AS c WHERE (stopped_at IS NOT NULL OR hold_at IS NOT NULL) AND NOT ` + replaced + `), (SELECT count(*) FROM orchestrator_parked_aggregates)`

// unsettled is how many checkpoints are stopped or held, and how many aggregates are parked.
func (c *chaos) unsettled(ctx context.Context) (resting, parked int, err error) {
	if err := c.pool.QueryRow(ctx, sqlUnsettled).Scan(&resting, &parked); err != nil {
		return 0, 0, fmt.Errorf("looking for what is stopped, held or parked: %w", err)
	}
	return resting, parked, nil
}

// appease resumes and retries, as an operator does after a night, until it is ended.
func (c *chaos) appease(ctx context.Context) (end func(), err error) {
	var operators []*admin.Admin
	for _, set := range c.replicaSets() {
		operator, err := admin.New(c.pool, c.store, set, admin.WithActor(applicationName))
		if err != nil {
			return nil, err
		}
		operators = append(operators, operator)
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for rest(ctx, appeaseEvery) {
			resting, parked, err := c.unsettled(ctx)
			if err == nil {
				err = c.undrainAll(ctx, operators[0])
			}
			for _, operator := range operators {
				if err == nil && resting > 0 {
					err = operator.Resume(ctx, admin.Target{}, "chaos: the end")
				}
				if err == nil && parked > 0 {
					patient, stop := context.WithTimeout(ctx, operatorPatience)
					_, err = operator.Retry(patient, admin.Filter{}, "chaos: the end")
					stop()
				}
			}
			if err != nil && ctx.Err() == nil {
				c.tell(faultRetry, "%v", err)
			}
		}
	}()
	return func() { cancel(); <-done }, nil
}

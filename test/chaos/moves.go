package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

// A projection of its own goes to and fro between two replica sets. Its workers, the guests, leave before each move, or die, and others start where it is then. Some
// start in the old replica set at the moment of the move: they handle nothing of it, or end.

const moving = "moves"

var (
	movingProjection = workload.ProjectionSpec{Name: moving, AggregateTypes: []string{"order"}}
	movingSets       = []string{"east", "west"}
)

const (
	guestsMost = 2
	// guestPatience is how long a guest that was told to go may take, frozen or behind a broken wire, before it is killed.
	guestPatience = staleTimeout + shutdownTimeout
)

// home is the replica set that has the moving projection.
type home struct{ at atomic.Int32 }

func (h *home) replicaSet() string { return movingSets[h.at.Load()] }

func (h *home) other() string { return movingSets[1-h.at.Load()] }

// look finds out which replica set has the projection, in a database that may be away. Nobody has it before its first worker has run.
func (c *chaos) lookHome(ctx context.Context) {
	for {
		var set string
		err := c.pool.QueryRow(ctx, "SELECT coalesce(min(replica_set), '') FROM orchestrator_checkpoints WHERE projection = $1", moving).Scan(&set)
		if err == nil {
			if i := slices.Index(movingSets, set); i >= 0 {
				c.home.at.Store(int32(i))
			}
			return
		}
		if !rest(ctx, 50*time.Millisecond) {
			return
		}
	}
}

// moves has the projection moved while there are faults.
func (c *chaos) moves(ctx context.Context) error {
	rng := rand.New(rand.NewPCG(c.options.Seed, 6))
	for {
		if err := c.invite(ctx, 1+rng.IntN(guestsMost)); err != nil {
			return err
		}
		if !rest(ctx, between(rng, time.Second, 3*time.Second)) {
			return nil
		}
		guests := c.fleet.guests()
		if len(guests) > 1 && rng.IntN(3) == 0 { // the other one, or the next, declares it dead
			if err := c.kill(guests[0]); err != nil {
				return err
			}
		}
		c.seeOff(ctx, guests)
		if rng.IntN(3) == 0 { // at the moment of the move
			if _, err := c.fleet.guest(ctx, c.home.replicaSet()); err != nil {
				return err
			}
		}
		rest(ctx, between(rng, 0, 100*time.Millisecond))
		if err := c.move(ctx); err != nil {
			return err
		}
		c.seeOff(ctx, slices.DeleteFunc(c.fleet.guests(), func(w *worker) bool { return w.set == c.home.replicaSet() }))
	}
}

// move moves the projection. It is refused while somebody runs it, or while it is not known that somebody has died.
func (c *chaos) move(ctx context.Context) error {
	operator, err := admin.New(c.pool, c.store, c.home.replicaSet(), admin.WithActor(applicationName))
	if err != nil {
		return err
	}
	patient, cancel := context.WithTimeout(ctx, operatorPatience)
	defer cancel()
	to := c.home.other()
	err = operator.Move(patient, moving, to, "chaos")
	c.tell(faultMove, "%s moves to %s (%v)", moving, to, err)
	c.lookHome(ctx) // the answer may have been lost
	return nil
}

// invite starts guests where the projection is, so that there are n.
func (c *chaos) invite(ctx context.Context, n int) error {
	for len(c.fleet.guests()) < n {
		w, err := c.fleet.guest(ctx, c.home.replicaSet())
		if err != nil {
			return err
		}
		c.note(faultMove, w, "%s joins %s", w.Name, c.home.replicaSet())()
	}
	return nil
}

// seeOff has guests leave, and waits until they have.
func (c *chaos) seeOff(ctx context.Context, guests []*worker) {
	for _, w := range guests {
		_ = c.fleet.leave(w)
	}
	patient, cancel := context.WithTimeout(ctx, guestPatience)
	defer cancel()
	for _, w := range guests {
		select {
		case <-w.Done():
		case <-patient.Done():
			_ = c.fleet.kill(w)
		}
	}
}

// settleMoves leaves guests where the projection is only, when the faults are over.
func (c *chaos) settleMoves(ctx context.Context) error {
	if !has(c.options.Faults, faultMove) {
		return nil
	}
	c.lookHome(ctx)
	c.seeOff(ctx, slices.DeleteFunc(c.fleet.guests(), func(w *worker) bool { return w.set == c.home.replicaSet() }))
	return c.invite(ctx, 1)
}

// replicaSets are all that there are.
func (c *chaos) replicaSets() []string {
	if has(c.options.Faults, faultMove) {
		return []string{replicaSet, c.home.replicaSet()}
	}
	return []string{replicaSet}
}

// guest starts a worker that runs the moving projection only.
func (f *fleet) guest(ctx context.Context, set string) (*worker, error) {
	return f.start(ctx, set, []workload.ProjectionSpec{movingProjection})
}

// guests are those that are there and have not been told to go.
func (f *fleet) guests() []*worker {
	return slices.DeleteFunc(f.there(), func(w *worker) bool { return w.set == replicaSet })
}

// claimed says whether Run returned because the projection was another replica set's.
func claimed(log string) bool {
	return endsWith(log, fmt.Sprintf("projection \\\"%s\\\" belongs to replica set", moving)) || endsWith(log, fmt.Sprintf("projection %q belongs to replica set", moving))
}

package admin

import (
	"context"
	"errors"
	"fmt"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

// ErrNoEvent means that there is no event at a position, or none yet.
var ErrNoEvent = errors.New("there is no event at the position")

// Event reads the event at a position, with its payload. If the position has no event, it returns an error that wraps
// ErrNoEvent.
func (a *Admin) Event(ctx context.Context, position int64) (es.PersistedEvent, error) {
	var event es.PersistedEvent
	err := a.look(ctx, func(l look) error {
		if position < 1 {
			return ErrNoEvent
		}
		store, err := a.eventStore.Resolve(ctx, l.tx)
		if err != nil {
			return err
		}
		found, err := store.ReadEvents(ctx, l.tx, position-1, 1)
		switch {
		case err != nil:
			return err
		case len(found) == 0 || found[0].GlobalPosition != position:
			return ErrNoEvent
		}
		event = found[0]
		return nil
	})
	if err != nil {
		return es.PersistedEvent{}, a.explainReading(ctx, fmt.Sprintf("reading the event at position %d", position), err)
	}
	return event, nil
}

// As returns an Admin of the same replica set that records its changes under another actor (see WithActor). It has
// the other options of a. It is for programs that act for several people.
func (a *Admin) As(actor string) (*Admin, error) {
	if err := checkText("the actor", actor, 1, mostText); err != nil {
		return nil, fmt.Errorf("acting in replica set %q: %w", a.replicaSet, err)
	}
	return &Admin{
		pool: a.pool, db: a.db, eventStore: a.eventStore, replicaSet: a.replicaSet, schema: a.schema, actor: actor, progress: a.progress,
		apart: a.apart, pause: a.pause, mu: make(chan struct{}, 1),
	}, nil
}

// ReplicaSet returns the name of the replica set.
func (a *Admin) ReplicaSet() string { return a.replicaSet }

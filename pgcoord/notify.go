package pgcoord

import (
	"context"
	"fmt"

	"github.com/google/uuid"
)

// Notification kinds: the first word of a notification's payload.
const (
	NotifyJoined     = "joined"     // a worker came
	NotifyLeft       = "left"       // a worker went
	NotifyReady      = "ready"      // a worker is ready for the generation in preparation
	NotifyGeneration = "generation" // a generation was prepared or activated
	NotifyAppended   = "appended"   // events were appended, after a while without
	NotifyHorizon    = "horizon"    // the leader has found a horizon
	NotifyChanged    = "changed"    // somebody has changed checkpoints or asked for something
	NotifyFlush      = "flush"      // somebody waits for the projection whose name follows
)

const sqlNotify = `SELECT pg_notify($1, $2)`

// Notifying returns a Store that sends notifications, or none if send is false. failed, unless nil, is called for each
// notification that could not be sent. A Store from Open sends notifications and has no such callback.
func (s *Store) Notifying(send bool, failed func(context.Context, error)) *Store {
	same := *s
	same.silent, same.untold = !send, failed
	return &same
}

// tell notifies the other workers of a change by the worker that is committed. It is a transaction of its own: where the queue of
// notifications is full, COMMIT fails, and a change with it. The others find the change at their next look then.
func (s *Store) tell(ctx context.Context, db DB, kind string, worker uuid.UUID) {
	if s.silent {
		return
	}
	if _, err := db.Exec(ctx, sqlNotify, s.Channel(), kind+" "+worker.String()); err != nil && s.untold != nil {
		s.untold(ctx, fmt.Errorf("notifying replica set %q of %q: %w", s.replicaSet, kind, err))
	}
}

// AnnounceChange tells the workers of the replica set that an operator has changed checkpoints or requested something.
// Without it they notice at their next look.
func (s *Store) AnnounceChange(ctx context.Context, db DB) {
	s.tell(ctx, db, NotifyChanged, uuid.Nil)
}

// AnnounceAppends tells the other workers of the replica set that events were
// appended.
func (s *Store) AnnounceAppends(ctx context.Context, db DB, worker uuid.UUID) {
	s.tell(ctx, db, NotifyAppended, worker)
}

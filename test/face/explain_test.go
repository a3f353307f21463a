package face

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// explained is what Explain says of a position, by projection.
func (w *world) explained(position int64) map[string]admin.Explanation {
	w.t.Helper()
	list, err := w.admin("set").Explain(w.t.Context(), position)
	require.NoError(w.t, err)
	of := map[string]admin.Explanation{}
	for _, e := range list {
		assert.Equal(w.t, position, e.Position)
		of[e.Projection] = e
	}
	require.Len(w.t, of, len(list))
	return of
}

// expect checks the outcome and a part of the reason.
func expect(t *testing.T, e admin.Explanation, outcome admin.Outcome, reason string) {
	t.Helper()
	assert.Equal(t, outcome, e.Outcome, e.Reason)
	assert.Contains(t, e.Reason, reason)
}

// late appends an event in a transaction that stays open.
func (w *world) late(aggregateID string) (tx pgx.Tx) {
	w.t.Helper()
	tx, err := w.db.Begin(w.t.Context())
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	_, err = w.store.Append(w.t.Context(), tx, es.Any(), []es.Event{{
		BoundedContext: "Identity", AggregateType: "User", AggregateID: aggregateID, EventType: "Something", Payload: []byte("{}"),
	}})
	require.NoError(w.t, err)
	return tx
}

// Each projection's outcome is told with what it is known from. Only what a handler is known to have done is called handled.
func TestExplainSaysWhatBecomesOfAnEvent(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.appendInTurn(3, "ada", "grace", "alan")
	then := func(o projection.Outcome) projection.ErrorPolicy {
		return projection.ErrorPolicy{Attempts: 1, Then: o}
	}
	repaired := &gate{position: 1, fail: func() error { return errBad }}
	r := start(t, w.orchestrator("set", orchestrator.WithErrorPolicyFor("parks", then(projection.Park)), orchestrator.WithErrorPolicyFor("stops", then(projection.Stop)),
		orchestrator.WithErrorPolicyFor("skips", then(projection.Skip)), orchestrator.WithWorkerName("w7")),
		recorder{name: "parks", before: poisoned(errBad, 1)}, recorder{name: "stops", before: poisoned(errBad, 2)},
		recorder{name: "skips", before: poisoned(errBad, 3)}, recorder{name: "repaired", before: repaired.check})
	w.await("1", "SELECT count(*) FROM orchestrator_dead_letters WHERE projection = 'repaired'")
	found := w.explained(1)
	require.Len(t, found, 4)
	expect(t, found["repaired"], admin.Retrying, "the event is bad")
	assert.Equal(t, []any{"0/1", "w7", int64(0), "ada"}, []any{found["repaired"].Partition, found["repaired"].WorkerName, found["repaired"].Checkpoint, found["repaired"].Event.Aggregate.ID})
	found = w.explained(2)
	expect(t, found["repaired"], admin.Waiting, "its partition retries the event at 1")
	assert.EqualValues(t, 1, *found["repaired"].Behind)
	repaired.opened.Store(true)
	w.await("9 9 9", "SELECT string_agg(position::text, ' ') FROM orchestrator_checkpoints WHERE projection <> 'stops'")
	w.await("2", "SELECT stopped_at FROM orchestrator_checkpoints WHERE stopped_at IS NOT NULL")

	found = w.explained(1)
	expect(t, found["parks"], admin.PutAside, "because the handler failed on it: the event is bad")
	expect(t, found["repaired"], admin.Handled, "a handler has handled the event, after")
	expect(t, found["skips"], admin.Passed, "if it is in the projection's scope")
	expect(t, w.explained(4)["parks"], admin.PutAside, "because its aggregate is parked")
	expect(t, w.explained(2)["stops"], admin.Stopped, "the event is bad")
	found = w.explained(3)
	expect(t, found["skips"], admin.Skipped, "no handler has handled the event")
	expect(t, found["stops"], admin.Waiting, "stopped at the event at 2")
	assert.EqualValues(t, 2, *found["stops"].Behind)

	require.NoError(t, w.admin("set").Pause(t.Context(), admin.Target{Projection: "skips"}, "", time.Now().Add(time.Hour)))
	require.NoError(t, w.late("ada").Rollback(t.Context()))
	expect(t, w.explained(10)["parks"], admin.Gap, "none can appear")
	expect(t, w.explained(12)["parks"], admin.NotYet, "the last one given is 10")
	assert.Contains(t, []int64{9, 10}, w.explained(12)["parks"].Checkpoint, "where the projection is, though no event says which slot is meant; soon it has passed the gap")
	require.NoError(t, r.stop())
	w.append("ada", 1)
	found = w.explained(11)
	expect(t, found["parks"], admin.Waiting, "no worker runs the projection")
	expect(t, found["skips"], admin.Held, "held at 9 until")

	tx := w.late("late")
	w.append("ada", 1)
	pid := fmt.Sprintf("pid %d", tx.Conn().PgConn().PID())
	for _, position := range []int64{12, 13} {
		e := w.explained(position)["parks"]
		expect(t, e, admin.AboveHorizon, pid)
		require.Len(t, e.HeldBackBy, 1)
		assert.EqualValues(t, tx.Conn().PgConn().PID(), e.HeldBackBy[0].PID)
		assert.Equal(t, position == 12, e.Event == nil)
	}
	require.NoError(t, tx.Commit(t.Context()))
	expect(t, w.explained(12)["parks"], admin.Waiting, "no worker")
}

// An event whose aggregate is parked waits to be put aside. Others wait for their partition.
func TestExplainNamesWhatAnEventWaitsFor(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.append("ada", 1)
	entered, release := make(chan struct{}, 10), make(chan struct{})
	r := start(t, w.orchestrator("set", parkAtOnce), recorder{name: "p", before: func(_ context.Context, event es.PersistedEvent) error {
		if event.AggregateID == "ada" {
			return errBad
		}
		entered <- struct{}{}
		<-release
		return nil
	}})
	w.await("1", "SELECT letters FROM orchestrator_parked_aggregates")
	w.append("grace", 1)
	await(t, entered, "the handler to be called")
	w.append("ada", 1)
	e := w.explained(3)["p"]
	expect(t, e, admin.Waiting, "its aggregate is parked since the event at 1")
	assert.EqualValues(t, 1, *e.Behind)
	expect(t, w.explained(2)["p"], admin.Waiting, "partition 0/1 on worker")
	close(release)
	w.await("2", "SELECT letters FROM orchestrator_parked_aggregates")
	require.NoError(t, r.stop())

	w.append("alan", 1)
	w.exec("UPDATE orchestrator_workers SET state = 'running', left_out = '{p}'")
	expect(t, w.explained(4)["p"], admin.Waiting, "is left out, because of handlers")
	w.exec("UPDATE orchestrator_checkpoints SET worker_id = NULL, partition_key = NULL, total_partitions = NULL")
	expect(t, w.explained(4)["p"], admin.Waiting, "has no worker: it waits for a generation")
	w.exec("INSERT INTO orchestrator_sequence_regressions (events_table, number, last_position, checkpoint) VALUES ('public.events', 1, 1, 2)")
	expect(t, w.explained(4)["p"], admin.Waiting, "a person must decide")
	w.exec("UPDATE orchestrator_sequence_regressions SET settled_at = now()")
	expect(t, w.explained(2)["p"], admin.Passed, "may have been given up, or given twice")
	w.exec("UPDATE orchestrator_dead_letters SET event_id = gen_random_uuid() WHERE global_position = 1")
	expect(t, w.explained(1)["p"], admin.Passed, "in the projection's scope")
	w.exec("DELETE FROM events WHERE global_position = 1")
	expect(t, w.explained(1)["p"], admin.Gap, "in state parked, is about an event there")
	w.exec("UPDATE orchestrator_checkpoints SET slot_to = 1")
	expect(t, w.explained(4)["p"], admin.Uncovered, "no checkpoint for slot")
}

// What is committed while Explain reads is no gap.
func TestAnEventOnItsWayIsNoGap(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.append("ada", 1)
	w.exec("INSERT INTO orchestrator_checkpoints (projection, slot_from, slot_to, replica_set, events_table) VALUES ('p', 0, 65536, 'set', 'public.events')")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		var err error
		for ctx.Err() == nil && err == nil {
			err = pgx.BeginTxFunc(context.WithoutCancel(ctx), w.db, readWrite, func(tx pgx.Tx) error {
				_, err := w.store.Append(context.WithoutCancel(ctx), tx, es.Any(), []es.Event{{BoundedContext: "c", AggregateType: "t", AggregateID: "a", EventType: "e", Payload: []byte("{}")}})
				return err
			})
		}
		ended <- err
	}()
	a := w.admin("set")
	for range 300 {
		var position int64
		require.NoError(t, w.db.QueryRow(t.Context(), "SELECT last_value + 1 FROM events_global_position_seq").Scan(&position))
		found, err := a.Explain(t.Context(), position)
		require.NoError(t, err)
		if found[0].Outcome == admin.Gap {
			require.Equal(t, "0", w.value("SELECT count(*) FROM events WHERE global_position = $1", position), found[0].Reason)
		}
	}
	cancel()
	require.NoError(t, <-ended)
	_, err := a.Explain(t.Context(), 0)
	require.ErrorContains(t, err, "the position must be at least 1, got 0")
}

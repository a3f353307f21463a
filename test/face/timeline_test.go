package face

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// timeline is the texts since a time, one a line. Entries must be in order of time.
func (w *world) timeline(since time.Time) string {
	w.t.Helper()
	entries, err := w.admin("set").Timeline(w.t.Context(), since)
	require.NoError(w.t, err)
	var b strings.Builder
	for i, e := range entries {
		assert.False(w.t, i > 0 && e.At.Before(entries[i-1].At), "%v", e)
		fmt.Fprintf(&b, "%s: %s\n", e.Kind, e.Text)
	}
	return b.String()
}

// What happened to workers, events and operations is one list, in order.
func TestTheTimelineIsOneList(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	assert.Empty(t, w.timeline(time.Time{}))
	w.append("ada", 2)
	w.append("grace", 1)
	a := w.admin("set")
	broken := &gate{position: 1, fail: func() error { return errBad }}
	named := orchestrator.WithWorkerName("w7")
	r := start(t, w.orchestrator("set", named, parkAtOnce), recorder{name: "parks", before: broken.check})
	w.await("2", "SELECT letters FROM orchestrator_parked_aggregates")
	w.awaitHandled("parks", 1)
	require.Contains(t, w.timeline(time.Time{}), `aggregate_parked: projection "parks" parked Identity User ada at the event at 1; it has 2 letters now`)
	broken.opened.Store(true)
	_, err := a.Retry(w.patiently(), admin.Filter{}, "repaired")
	require.NoError(t, err)
	require.NoError(t, a.Pause(t.Context(), admin.Target{}, "a break", time.Time{}))
	require.NoError(t, r.stop())
	since := w.time("SELECT clock_timestamp()")
	r = start(t, w.orchestrator("set", named, orchestrator.WithErrorPolicy(projection.ErrorPolicy{Attempts: 1, Then: projection.Skip})), recorder{name: "skips", before: poisoned(errBad, 3)})
	w.await("3", "SELECT min(position) FROM orchestrator_checkpoints WHERE projection = 'skips'")
	w.awaitRunning("set", 1)
	require.NoError(t, r.stop())
	w.exec("INSERT INTO orchestrator_abandoned_handlers SELECT worker_id, 'skips', 2, 0, 1, 3, gen_random_uuid() FROM orchestrator_workers WHERE generation = 2")
	w.exec("INSERT INTO orchestrator_sequence_regressions (events_table, number, last_position, checkpoint, settled_at) VALUES ('public.events', 1, 2, 3, now() + interval '1 s')")

	assert.Equal(t, `worker_joined: worker "w7" joined
generation_prepared: generation 2 is prepared: ID joined
generation_activated: generation 2 is active, with 1 workers
handler_failed: projection "skips" failed on the event at 3, once until now: the event is bad
event_skipped: projection "skips" skipped the event at 3
worker_stopped: worker "w7" stopped: left gracefully
handler_abandoned: a handler of projection "skips" on worker "w7" did not return from the event at 3, and was abandoned
regression_noticed: the sequence of positions was found at 2, below the checkpoint 3
regression_settled: the regression of the sequence to 2, below the checkpoint 3, was settled
`, w.withoutIDs(w.timeline(since)))
	whole := w.withoutIDs(w.timeline(time.Time{}))
	before, _, _ := strings.Cut(whole, "generation_prepared: generation 2")
	assert.Equal(t, `worker_joined: worker "w7" joined
generation_prepared: generation 1 is prepared: ID joined
generation_activated: generation 1 is active, with 1 workers
handler_failed: projection "parks" failed on the event at 1, once until now: the event is bad
event_put_aside: projection "parks" put the event at 2 aside, because its aggregate is parked
operation_requested: anna asked for operation 1: retry of all projections: repaired
event_handled: projection "parks" handled the event at 1, after it had failed once
event_handled: projection "parks" handled the event at 2, which was put aside
operation_ended: operation 1 ended: retry of all projections: 1 succeeded, 2 events
operation_requested: anna asked for operation 2: pause of all projections: a break
worker_stopped: worker "w7" stopped: left gracefully
worker_joined: worker "w7" joined
`, before)

	w.exec("UPDATE orchestrator_workers SET state = 'dead', detail = 'no heartbeat', state_changed_at = clock_timestamp() WHERE generation = 2")
	w.exec("UPDATE orchestrator_generations SET created_at = 'infinity' WHERE number = 2")
	assert.Contains(t, w.timeline(since), `worker_died: worker "w7" was declared dead: no heartbeat`)
	assert.NotContains(t, w.timeline(since), "generation 2 is prepared")
	assert.Empty(t, w.timeline(time.Now().Add(time.Hour)))
	entries, err := w.admin("other").Timeline(t.Context(), time.Time{})
	require.NoError(t, err)
	for _, e := range entries {
		assert.Contains(t, e.Kind, "regression", "it is of the events table, which replica sets share")
	}
}

// What came of an operation that has ended is told, also where it failed or was cancelled.
func TestTheTimelineTellsResults(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	for state, result := range map[string]string{
		"done 1":      `{"aggregates": 3, "succeeded": 1, "failed": 2, "discarded": 0, "events": 7}`,
		"done 2":      `{"succeeded": 0, "failed": 0, "discarded": 2, "events": 0}`,
		"done 3":      `{}`,
		"cancelled 4": `{"cancelled_by": "grace", "cancelled_because": "not today"}`,
		"cancelled 5": `{"cancelled_by": "grace", "cancelled_because": ""}`,
	} {
		w.exec(`INSERT INTO orchestrator_operations (replica_set, kind, projection, actor, reason, state, requested_at, finished_at, result)
			SELECT 'set', 'retry', 'p', 'anna', '', split_part($1, ' ', 1), '2026-01-01Z', timestamptz '2026-01-02Z' + split_part($1, ' ', 2)::int * interval '1 s', $2::jsonb`, state, result)
	}
	ended := regexp.MustCompile("operation [0-9] ").ReplaceAllString(w.timeline(w.time("SELECT '2026-01-02Z'::timestamptz")), "")
	assert.Equal(t, `operation_ended: ended: retry of projection "p": 1 succeeded, 2 failed, 7 events
operation_ended: ended: retry of projection "p": 0 succeeded, 2 discarded
operation_ended: ended: retry of projection "p"
operation_ended: ended: retry of projection "p": cancelled by grace: not today
operation_ended: ended: retry of projection "p": cancelled by grace
`, ended)
}

// A timeline has the latest entries, and no more than 10,000.
func TestATimelineIsBounded(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.exec(`INSERT INTO orchestrator_operations (replica_set, kind, actor, reason, state, requested_at) SELECT 'set', 'pause', 'anna', '', 'waiting', now() + n * interval '1 s' FROM generate_series(1, 10100) AS n`)
	entries, err := w.admin("set").Timeline(context.WithoutCancel(t.Context()), time.Time{})
	require.NoError(t, err)
	require.Len(t, entries, 10_000)
	assert.Equal(t, []int64{101, 10_100}, []int64{*entries[0].Operation, *entries[9999].Operation})
}

// time is a time that a query yields.
func (w *world) time(sql string) (at time.Time) {
	w.t.Helper()
	require.NoError(w.t, w.db.QueryRow(w.t.Context(), sql).Scan(&at))
	return at
}

// withoutIDs leaves out what names a worker in the reason of a generation, and whether the one before had left when it was prepared.
func (w *world) withoutIDs(text string) string {
	w.t.Helper()
	rows, err := w.db.Query(w.t.Context(), "SELECT 'worker ' || name || ' (' || right(worker_id::text, 8) || ')' FROM orchestrator_workers")
	require.NoError(w.t, err)
	for rows.Next() {
		var name string
		require.NoError(w.t, rows.Scan(&name))
		text = strings.ReplaceAll(text, name, "ID")
	}
	require.NoError(w.t, rows.Err())
	return strings.ReplaceAll(text, "; ID left", "")
}

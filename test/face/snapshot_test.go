package face

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/migrations"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// snapshot reads one.
func (w *world) snapshot(a *admin.Admin) admin.Snapshot {
	w.t.Helper()
	s, err := a.Snapshot(w.t.Context())
	require.NoError(w.t, err)
	return s
}

// A snapshot shows who runs what, how far it is, and what holds it back.
func TestASnapshotShowsWhatIs(t *testing.T) {
	w := newWorld(t)
	a := w.admin("set")
	s := w.snapshot(a)
	assert.Equal(t, []any{"set", "public.events", (*admin.Generation)(nil), migrations.Latest(), migrations.Latest()},
		[]any{s.ReplicaSet, s.EventsTable, s.Generation, s.Versions.Schema, s.Versions.LatestSchema})
	assert.WithinDuration(t, time.Now(), s.At, time.Minute)

	w.appendInTurn(3, "ada", "grace", "alan")
	r := start(t, w.orchestrator("set", parkAtOnce, orchestrator.WithPartitionsPerWorker(2), orchestrator.WithWorkerName("w7"),
		orchestrator.WithErrorPolicyFor("q", projection.ErrorPolicy{Attempts: 1, Then: projection.Stop}),
		orchestrator.WithErrorPolicyFor("r", projection.ErrorPolicy{Attempts: 1, Then: projection.Skip})),
		recorder{name: "p", before: poisoned(errBad, 1)}, recorder{name: "q", before: poisoned(errBad, 2)}, recorder{name: "r", before: poisoned(errBad, 3)})
	w.await("9", "SELECT min(position) FROM orchestrator_checkpoints WHERE projection = 'r'")
	w.await("3", "SELECT letters FROM orchestrator_parked_aggregates")
	w.await("2", "SELECT stopped_at FROM orchestrator_checkpoints WHERE stopped_at IS NOT NULL")
	until := time.Now().Add(time.Hour).Truncate(time.Microsecond)
	require.NoError(t, a.Pause(t.Context(), admin.Target{Projection: "r"}, "", until))
	w.appendInTurn(2, "ada", "grace", "alan")
	w.await(w.lastPosition(), "SELECT min(position) FROM orchestrator_checkpoints WHERE projection = 'p' OR projection = 'q' AND stopped_at IS NULL")

	s = w.snapshot(a)
	require.NotNil(t, s.Generation)
	assert.Equal(t, []any{int64(1), "active", "first", 1}, []any{s.Generation.Number, s.Generation.State, s.Generation.Cause, len(s.Generations)})
	assert.Equal(t, []any{"joined", "w7"}, []any{s.Generation.Changes[0].Change, s.Generation.Changes[0].Name})
	require.Len(t, s.Workers, 1)
	worker := s.Workers[0]
	assert.Equal(t, []any{"w7", "running", int64(1), 2, []string{"p", "q", "r"}}, []any{worker.Name, worker.State, worker.Generation, worker.PartitionsPerProjection, worker.Projections})
	assert.Equal(t, !pgtest.BehindPooler(), worker.Leading && worker.Connected)
	assert.Len(t, worker.Partitions, 6)
	assert.WithinDuration(t, s.At, *worker.LastHeartbeat, patience)
	assert.Equal(t, []any{int64(15), int64(15)}, []any{s.Horizon.Position, *s.Horizon.LastAllocated})
	assert.Empty(t, s.Horizon.HeldBackBy)

	require.Len(t, s.Projections, 3)
	p, q, held := s.Projections[0], s.Projections[1], s.Projections[2]
	assert.Equal(t, admin.Projection{Name: "p", Position: 15, LagExact: true, LagSeconds: new(float64), Workers: 1, Parked: admin.Parked{Aggregates: 1, Events: 5}, Partitions: p.Partitions}, p)
	assert.Equal(t, []any{true, false, admin.Letters{Stopped: 1}}, []any{q.Stopped, q.Paused, q.Letters})
	assert.Equal(t, []any{false, true, admin.Letters{Skipped: 1}, int64(6), true}, []any{held.Stopped, held.Paused, held.Letters, held.Lag, held.LagExact})
	for i, part := range held.Partitions {
		assert.Equal(t, []any{fmt.Sprint(i, "/2"), worker.ID, "w7", int64(1), 1}, []any{part.Partition, *part.Worker, part.WorkerName, part.Generation, len(part.Ranges)})
		assert.Equal(t, []any{int64(9), until.UTC()}, []any{*part.Ranges[0].HoldAt, part.Ranges[0].HoldUntil.UTC()})
	}
	counted := w.value(`SELECT count(*) FROM events e JOIN orchestrator_checkpoints c ON c.projection = 'q' AND e.global_position > c.position
		AND (hashtextextended(e.aggregate_id, 0) & 65535) >= c.slot_from AND (hashtextextended(e.aggregate_id, 0) & 65535) < c.slot_to`)
	assert.Equal(t, counted, fmt.Sprint(q.Lag))
	require.NoError(t, r.stop())

	_, err := w.asks(a, admin.Filter{Projection: "p"})
	require.ErrorIs(t, err, context.Canceled)
	s = w.snapshot(a)
	require.Len(t, s.Operations, 1)
	assert.Equal(t, []any{"retry", "p", "anna", 1, `{"projection": "p"}`}, []any{s.Operations[0].Kind, s.Operations[0].Projection, s.Operations[0].Actor, s.Operations[0].Waiting, string(s.Operations[0].Arguments)})
	assert.Equal(t, []any{"stopped", 0}, []any{s.Workers[0].State, s.Projections[0].Workers})
}

// Who holds the horizon back is named.
func TestASnapshotNamesWhoHoldsTheHorizonBack(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.append("ada", 2)
	tx, err := w.db.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = tx.Exec(t.Context(), "SET LOCAL application_name = 'importer'")
	require.NoError(t, err)
	_, err = w.store.Append(t.Context(), tx, es.Any(), []es.Event{{BoundedContext: "c", AggregateType: "t", AggregateID: "late", EventType: "e", Payload: []byte("{}")}})
	require.NoError(t, err)
	s := w.snapshot(w.admin("set"))
	require.Len(t, s.Horizon.HeldBackBy, 1)
	by := s.Horizon.HeldBackBy[0]
	assert.EqualValues(t, tx.Conn().PgConn().PID(), by.PID)
	assert.Equal(t, "importer", by.Application)
	assert.WithinDuration(t, s.At, *by.Since, patience)
	assert.Equal(t, []any{int64(0), int64(3)}, []any{s.Horizon.Position, *s.Horizon.LastAllocated})
}

// All is read at one moment, though others write between the statements.
func TestASnapshotIsOfOneMoment(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	r := start(t, w.orchestrator("set"), recorder{name: "p"})
	w.awaitRunning("set", 1)
	require.NoError(t, r.stop())
	a := w.admin("set")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		var err error
		for n := 1; ctx.Err() == nil && err == nil; n++ {
			_, err = w.db.Exec(context.WithoutCancel(ctx), fmt.Sprintf(`UPDATE orchestrator_generations SET reason = '%d'; UPDATE orchestrator_workers SET detail = '%d'`, n, n))
		}
		ended <- err
	}()
	w.await("1", "SELECT count(*) FROM orchestrator_generations WHERE reason = '1' OR length(reason) < 5 AND reason > '1'")
	for range 300 {
		s := w.snapshot(a)
		require.Equal(t, s.Workers[0].Detail, s.Generation.Reason)
	}
	cancel()
	require.NoError(t, <-ended)
}

// A lag is exact up to 2,000 events. Beyond it is an estimate.
func TestALagIsCountedOrEstimated(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	for i := range 50 {
		w.append(fmt.Sprint("user ", i), 60)
	}
	r := start(t, w.orchestrator("set", orchestrator.WithPartitionsPerWorker(2)), recorder{name: "p"})
	w.awaitHandled("p", 3000)
	require.NoError(t, r.stop())
	for _, position := range []int64{0, 998, 999, 1000, 2999, 3000} {
		w.exec("UPDATE orchestrator_checkpoints SET position = $1", position)
		p := w.snapshot(w.admin("set")).Projections[0]
		assert.Equal(t, position >= 999, p.LagExact, position)
		if p.LagExact {
			assert.Equal(t, 3000-position, p.Lag, position)
		} else {
			assert.InDelta(t, 3000-position, p.Lag, 2, position)
		}
	}
}

// The names in the JSON are stable. What is null or empty in it is listed like the rest.
func TestTheJSONOfASnapshotIsStable(t *testing.T) {
	directOnly(t)
	w := newManyWorld(t)
	text, err := json.Marshal(w.snapshot(w.admin("set")))
	require.NoError(t, err)
	var decoded any
	require.NoError(t, json.Unmarshal(text, &decoded))
	names := map[string]bool{}
	jsonNames(decoded, "", names)
	lines := make([]string, 0, len(names))
	for name := range names {
		lines = append(lines, name+"\n")
	}
	sort.Strings(lines)
	const file = "testdata/snapshot.txt"
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(strings.Join(lines, "")), 0o600))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, string(want), strings.Join(lines, ""), "names may be added: go test ./test/face -run TestTheJSONOfASnapshotIsStable -update")
	assert.NotContains(t, string(text), `:null,"slot`, "lists are never null")
}

// jsonNames collects the paths of a value's fields.
func jsonNames(value any, path string, names map[string]bool) {
	switch v := value.(type) {
	case map[string]any:
		for name, field := range v {
			jsonNames(field, path+"."+name, names)
		}
	case []any:
		for _, element := range v {
			jsonNames(element, path+"[]", names)
		}
	default:
		names[strings.TrimPrefix(path, ".")] = true
	}
}

// newManyWorld has the rows of 32 workers that run 20 projections, of each of which one aggregate is parked, one request waits and 50 events are yet to be handled.
func newManyWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.append("ada", 1000)
	for _, sql := range []string{
		`INSERT INTO orchestrator_workers (worker_id, replica_set, name, state, generation, projections, hostname, process_id, library_version)
			SELECT gen_random_uuid(), 'set', 'w' || n, 'running', 40, (SELECT array_agg('p' || p) FROM generate_series(1, 20) AS p), 'host', n, 'v2.0.0' FROM generate_series(0, 31) AS n`,
		`INSERT INTO orchestrator_heartbeats (worker_id) SELECT worker_id FROM orchestrator_workers`,
		`INSERT INTO orchestrator_generations (replica_set, number, state, cause, changes, reason, prepared_by, members, activated_at, superseded_at)
			SELECT 'set', n, CASE WHEN n = 40 THEN 'active' ELSE 'superseded' END, 'joined', (SELECT jsonb_agg(jsonb_build_object('worker', worker_id, 'name', name, 'change', 'joined', 'projections', '["p1"]'::jsonb)) FROM orchestrator_workers),
			'w1 joined', gen_random_uuid(), (SELECT array_agg(worker_id) FROM orchestrator_workers), now(), CASE WHEN n < 40 THEN now() END FROM generate_series(1, 40) AS n`,
		`INSERT INTO orchestrator_checkpoints (projection, slot_from, slot_to, position, replica_set, events_table, generation, partition_key, total_partitions, worker_id, hold_at, hold_until, stopped_at)
			SELECT 'p' || p, n * 2048, (n + 1) * 2048, 950, 'set', 'public.events', 40, n, 32, worker_id, 2000, now() + interval '1 hour', 3000
			FROM generate_series(1, 20) AS p, generate_series(0, 31) AS n JOIN orchestrator_workers ON process_id = n`,
		`INSERT INTO orchestrator_dead_letters (projection, global_position, replica_set, event_id, event_type, bounded_context, aggregate_type, aggregate_id, state, last_error, worker_id, generation)
			SELECT 'p' || p, global_position, 'set', event_id, event_type, bounded_context, aggregate_type, aggregate_id, CASE WHEN global_position % 2 = 0 THEN 'parked' ELSE 'skipped' END, '', gen_random_uuid(), 1
			FROM generate_series(1, 20) AS p, events WHERE global_position <= 200`,
		`INSERT INTO orchestrator_parked_aggregates SELECT 'p' || p, 'Identity', 'User', 'ada', 'set', 2, 100 FROM generate_series(1, 20) AS p`,
		`INSERT INTO orchestrator_operations (replica_set, projection, kind, actor, reason, state, arguments) SELECT 'set', 'p' || p, 'retry', 'anna', '', 'waiting', '{"projection": "p"}' FROM generate_series(1, 20) AS p`,
		`INSERT INTO orchestrator_requests (operation, projection, bounded_context, aggregate_type, aggregate_id, kind) SELECT id, projection, 'Identity', 'User', 'ada', 'retry' FROM orchestrator_operations`,
		`INSERT INTO orchestrator_turns SELECT 'p' || p, 'set', now() + interval '1 hour', 60, 1 FROM generate_series(1, 20) AS p`,
		`INSERT INTO orchestrator_abandoned_handlers SELECT worker_id, 'p1', 40, process_id, 32, 951, gen_random_uuid() FROM orchestrator_workers`,
		`INSERT INTO orchestrator_sequence_regressions (events_table, number, last_position, checkpoint, settled_at) SELECT 'public.events', n, 1, 2, now() FROM generate_series(1, 20) AS n`,
		`ANALYZE`,
	} {
		w.exec(sql)
	}
	return w
}

// A snapshot of 32 workers and 20 projections takes milliseconds. docs/operating.md has the figure.
func TestASnapshotOfManyWorkersIsQuick(t *testing.T) {
	directOnly(t)
	w := newManyWorld(t)
	a := w.admin("set")
	s := w.snapshot(a)
	assert.Equal(t, []any{32, 20, 32, 20}, []any{len(s.Workers), len(s.Projections), len(s.Projections[0].Partitions), len(s.Operations)})
	assert.Equal(t, []any{int64(50), admin.Parked{Aggregates: 1, Events: 100}, admin.Letters{Skipped: 100}, 32}, []any{s.Projections[0].Lag, s.Projections[0].Parked, s.Projections[0].Letters, s.Projections[0].Workers})
	took := make([]time.Duration, 50)
	for i := range took {
		began := time.Now()
		w.snapshot(a)
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	t.Logf("a snapshot of 32 workers and 20 projections: median %s, fastest %s, slowest %s", took[len(took)/2], took[0], took[len(took)-1])
	assert.Less(t, took[len(took)/2], 500*time.Millisecond)
}

// readers are the methods that only read, and what they read besides the version.
var readers = map[string]struct {
	events bool // are read
	tables []string
	read   func(context.Context, *admin.Admin) error
}{
	"Snapshot": {
		true,
		[]string{
			"generations", "workers", "heartbeats", "checkpoints", "horizons", "sequence_regressions", "turns", "abandoned_handlers", "dead_letters", "parked_aggregates",
			"operations", "requests", "drains", "samples",
		},
		func(ctx context.Context, a *admin.Admin) error {
			_, err := a.Snapshot(ctx)
			return err
		},
	},
	"Explain": {
		true,
		[]string{"generations", "workers", "heartbeats", "checkpoints", "horizons", "sequence_regressions", "dead_letters", "parked_aggregates"},
		func(ctx context.Context, a *admin.Admin) error {
			_, err := a.Explain(ctx, 1)
			return err
		},
	},
	"Timeline": {
		false,
		[]string{"generations", "workers", "sequence_regressions", "abandoned_handlers", "dead_letters", "parked_aggregates", "operations"},
		func(ctx context.Context, a *admin.Admin) error {
			_, err := a.Timeline(ctx, time.Time{})
			return err
		},
	},
	"Verify": {
		true,
		[]string{
			"generations", "workers", "heartbeats", "checkpoints", "horizons", "sequence_regressions", "abandoned_handlers", "dead_letters", "parked_aggregates",
			"operations", "requests", "drains",
		},
		func(ctx context.Context, a *admin.Admin) error {
			_, err := a.Verify(ctx)
			return err
		},
	},
}

// A role that may read the tables, and do nothing else, is enough. What it lacks is named.
func TestWhoOnlyReadsNeedsOnlySelect(t *testing.T) {
	pgtest.SkipBehindPooler(t, "the roles that connect are its own")
	w := newWorld(t)
	w.append("ada", 2)
	r := start(t, w.orchestrator("set"), recorder{name: "p"})
	w.awaitHandled("p", 2)
	reader := w.role("reader", "")
	w.exec("REVOKE ALL ON SCHEMA public FROM PUBLIC")
	w.exec(regexp.MustCompile(`\breader\b`).ReplaceAllString(documentedSQL(t, "operating.md", "## See everything at once"), reader))
	w.exec("ALTER ROLE " + reader + " SET default_transaction_read_only = on")
	w.workers = w.as(reader)
	for name, of := range readers {
		t.Run(name, func(t *testing.T) {
			rights := []string{"USAGE ON SCHEMA public", "SELECT ON orchestrator_schema_version"}
			if of.events {
				rights = append(rights, "SELECT ON events")
			}
			for _, table := range of.tables {
				rights = append(rights, "SELECT ON orchestrator_"+table)
			}
			read := func() error { return of.read(t.Context(), w.admin("set")) }
			require.NoError(t, read())
			eachRight(t, w, reader, rights, func() error {
				err := read()
				require.ErrorIs(t, err, orchestrator.ErrNotGranted)
				return err
			})
			require.NoError(t, read())
		})
	}
	assert.EqualValues(t, 2, *w.snapshot(w.admin("set")).Horizon.LastAllocated)
	w.exec("REVOKE SELECT ON SEQUENCE events_global_position_seq FROM " + reader)
	assert.Nil(t, w.snapshot(w.admin("set")).Horizon.LastAllocated)
	require.NoError(t, r.stop())
}

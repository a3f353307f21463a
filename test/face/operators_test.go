package face

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
)

// What one operator does while another one waits, or believes something else.

// An Admin of another actor has all other options of the first.
func TestAnAdminOfAnotherActorHasTheOptions(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	for want, a := range map[string]*admin.Admin{
		"it has no checkpoints":                                 w.admin("set"),
		"WithCutOverLimits: apart must not be negative, got -1": w.admin("set", admin.WithCutOverLimits(-1, time.Second)),
		"pause must be above 0 and at most 10m0s, got 11m0s":    w.admin("set", admin.WithCutOverLimits(1, 11*time.Minute)),
	} {
		grace, err := a.As("grace")
		require.NoError(t, err)
		_, err = grace.CutOver(w.patiently(), "p1", "p2", "")
		require.ErrorContains(t, err, want)
	}
}

// locking runs do while somebody else has the checkpoints, who has done what the statements say when do goes on.
func (w *world) locking(do func(context.Context) error, statements ...string) error {
	w.t.Helper()
	tx, err := w.db.Begin(w.t.Context())
	require.NoError(w.t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(w.t.Context())) }()
	_, err = tx.Exec(w.t.Context(), "SELECT FROM orchestrator_checkpoints FOR NO KEY UPDATE")
	require.NoError(w.t, err)
	ended := make(chan error, 1)
	go func() { ended <- do(w.patiently()) }()
	w.await("true", waitsForLock)
	for _, statement := range statements {
		_, err = tx.Exec(w.t.Context(), statement)
		require.NoError(w.t, err, statement)
	}
	require.NoError(w.t, tx.Commit(w.t.Context()))
	return await(w.t, ended, "the operator")
}

// Who cancels or resumes a cut-over that is done at the same moment learns that it is done.
func TestACutOverThatIsDoneIsNotCancelled(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	a := w.admin("set")
	for name, test := range map[string]struct {
		do   func(context.Context) error
		want string
	}{
		"a cancel":            {func(ctx context.Context) error { return a.Cancel(ctx, 1, "not today") }, "there is no such operation that waits"},
		"a resume of the old": {func(ctx context.Context) error { return a.Resume(ctx, admin.Target{Projection: "p1"}, "") }, `"p2" has replaced it at a cut-over`},
	} {
		t.Run(name, func(t *testing.T) {
			w.exec("TRUNCATE orchestrator_checkpoints, orchestrator_successions, orchestrator_operations RESTART IDENTITY CASCADE")
			w.exec(`INSERT INTO orchestrator_checkpoints (projection, slot_from, slot_to, position, replica_set, events_table, hold_at, hold_until)
				SELECT p, 0, 65536, 7, 'set', 'public.events', 7, '2999-01-01Z' FROM unnest('{p1,p2}'::text[]) AS p`)
			w.exec(`INSERT INTO orchestrator_successions (projection, replaced, held_until) VALUES ('p2', 'p1', '2999-01-01Z')`)
			w.exec(`INSERT INTO orchestrator_operations (replica_set, kind, projection, actor, reason, state, arguments)
				VALUES ('set', 'cut-over', 'p2', 'anna', '', 'waiting', '{"from": "p1", "to": "p2", "position": 7, "key": "k", "until": "2999-01-01T00:00:00Z"}')`)
			err := w.locking(test.do,
				"UPDATE orchestrator_operations SET state = 'done', finished_at = now()",
				"UPDATE orchestrator_successions SET cut_over_at = now(), held_until = NULL",
				"UPDATE orchestrator_checkpoints SET hold_until = NULL, revision = revision + 1 WHERE projection = 'p1'",
				"UPDATE orchestrator_checkpoints SET hold_at = NULL, hold_until = NULL, revision = revision + 1 WHERE projection = 'p2'")
			require.ErrorContains(t, err, test.want)
			assert.Equal(t, "done", w.value("SELECT state FROM orchestrator_operations WHERE kind = 'cut-over'"))
			assert.Equal(t, "p1 7", w.value("SELECT projection, hold_at FROM orchestrator_checkpoints WHERE hold_at IS NOT NULL"))
		})
	}
}

// worker adds the row of a worker of p that has a heartbeat of an age, and no process.
func (w *world) worker(name, state, heartbeat string) {
	w.t.Helper()
	w.exec(`INSERT INTO orchestrator_workers (worker_id, replica_set, name, state, projections, hostname, process_id, library_version, generation)
		SELECT md5($1::text)::uuid, 'set', $1::text, $2::text, '{p}', 'h', 1, 'v', 1`, name, state)
	w.exec("INSERT INTO orchestrator_heartbeats SELECT md5($1::text)::uuid, now() - $2::text::interval", name, heartbeat)
}

// Who waits for a drain that somebody else ends is told, and does not wait on for what nobody does any more.
func TestADrainThatSomebodyElseEnds(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.worker("first", "running", "0 s")
	w.worker("second", "running", "0 s")
	w.exec(`INSERT INTO orchestrator_checkpoints (projection, slot_from, slot_to, replica_set, events_table, generation, worker_id, partition_key, total_partitions)
		SELECT 'p', 0, 65536, 'set', 'public.events', 1, md5('first')::uuid, 0, 1`)
	a := w.admin("set")
	ended := make(chan error, 1)
	go func() { ended <- a.Drain(w.patiently(), "first", "its host is patched") }()
	w.await("1", "SELECT count(*) FROM orchestrator_drains")
	require.NoError(t, w.admin("set", admin.WithActor("grace")).Undrain(t.Context(), "first", "it is needed"))
	err := await(t, ended, "the drain")
	require.ErrorIs(t, err, admin.ErrCancelled)
	require.ErrorContains(t, err, "somebody has ended the drain")
}

// A worker whose heartbeat is old has probably died, though nobody has declared it dead: it is no reason to take partitions from one that lives. How old that is depends
// on how often the worker sends heartbeats.
func TestWhoIsSilentDependsOnItsHeartbeats(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	a := w.admin("set")
	w.worker("first", "running", "0 s")
	w.worker("second", "running", "20 s")
	require.ErrorContains(t, a.Drain(w.shortly(), "first", ""), "no other worker handles p")
	silent := func() (names []string) {
		s := w.snapshot(a)
		for _, worker := range s.Workers {
			if worker.SilentFor(s.At) > 0 {
				names = append(names, worker.Name)
			}
		}
		findings, err := a.Verify(t.Context())
		require.NoError(t, err)
		for _, f := range findings {
			if f.Kind == "worker_silent" {
				names = append(names, "a finding")
			}
		}
		return names
	}
	assert.Equal(t, []string{"second", "a finding"}, silent())

	w.exec("UPDATE orchestrator_workers SET stale_timeout = '2 minutes', drained = (name = 'first')") // it sends a heartbeat every 30 s or so
	assert.Empty(t, silent())
	require.NoError(t, a.Drain(w.patiently(), "first", ""))
}

// What a process that has ended did not return from is over.
func TestWhatAWorkerThatHasEndedHadAbandoned(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.worker("first", "running", "0 s")
	w.worker("second", "stopped", "0 s")
	w.exec(`INSERT INTO orchestrator_abandoned_handlers (worker_id, projection, generation, partition_key, total_partitions, global_position, event_id)
		SELECT worker_id, 'p', 1, 0, 1, 7, worker_id FROM orchestrator_workers`)
	for _, worker := range w.snapshot(w.admin("set")).Workers {
		assert.Len(t, worker.Abandoned, map[string]int{"first": 1}[worker.Name], worker.Name)
	}
}

// parks starts a worker whose projection "p" parks an aggregate with two letters.
func (w *world) parks(t *testing.T) *running {
	t.Helper()
	w.append("ada", 2)
	r := start(t, w.orchestrator("set", parkAtOnce), recorder{name: "p", before: poisoned(errBad, 1)})
	w.await("2", "SELECT letters FROM orchestrator_parked_aggregates")
	return r
}

// Somebody has agreed to lose two letters. When a third is put aside before that is done, none is lost.
func TestNoMoreIsDiscardedThanAgreedTo(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	r := w.parks(t)
	a, letters := w.admin("set"), admin.Filter{Projection: "p"}
	w.append("ada", 1)
	w.await("3", "SELECT letters FROM orchestrator_parked_aggregates")
	require.NoError(t, r.stop())

	_, err := a.DiscardAtMost(t.Context(), letters, "a test account", 2)
	require.ErrorIs(t, err, admin.ErrMoreLetters)
	require.ErrorContains(t, err, "there are more letters than may be discarded: 3 match, and the limit is 2")
	assert.Equal(t, "3 1 0", w.value("SELECT (SELECT count(*) FROM orchestrator_dead_letters), (SELECT count(*) FROM orchestrator_parked_aggregates), (SELECT count(*) FROM orchestrator_operations)"))
	_, err = a.DiscardAtMost(t.Context(), letters, "", -1)
	require.ErrorIs(t, err, admin.ErrInvalid)
	result, err := a.DiscardAtMost(t.Context(), letters, "a test account", 3)
	require.NoError(t, err)
	assert.Equal(t, admin.Result{Operation: result.Operation, Aggregates: 1, Succeeded: 1, Events: 3}, result)

	w.exec(`INSERT INTO orchestrator_dead_letters (projection, global_position, replica_set, event_id, event_type, bounded_context, aggregate_type, aggregate_id, state, last_error, worker_id, generation)
		SELECT 'p', global_position, 'set', event_id, event_type, bounded_context, aggregate_type, aggregate_id, 'skipped', '', event_id, 1 FROM events`)
	letters.State = "skipped"
	_, err = a.DiscardAtMost(t.Context(), letters, "", 2)
	require.ErrorIs(t, err, admin.ErrMoreLetters)
	assert.Equal(t, "3", w.value("SELECT count(*) FROM orchestrator_dead_letters"))
	result, err = a.DiscardAtMost(t.Context(), letters, "", 3)
	require.NoError(t, err)
	assert.EqualValues(t, 3, result.Events)
}

// What was asked for and is not on record any more was not done, as far as anybody knows.
func TestRequestsThatSomebodyDeletes(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	r := w.parks(t)
	require.NoError(t, r.stop())
	w.worker("first", "running", "0 s")
	w.exec("UPDATE orchestrator_workers SET resettable = '{p}'")
	a := w.admin("set")
	for name, do := range map[string]func(context.Context) error{
		"a retry": func(ctx context.Context) error { _, err := a.Retry(ctx, admin.Filter{}, ""); return err },
		"a trial": func(ctx context.Context) error { _, err := a.Try(ctx, admin.Filter{}); return err },
		"a reset": func(ctx context.Context) error { return a.Reset(ctx, "p", admin.Start(), "") },
	} {
		ended := make(chan error, 1)
		go func() { ended <- do(w.patiently()) }()
		w.await("1", "SELECT count(*) FROM orchestrator_requests")
		w.exec("DELETE FROM orchestrator_operations")
		require.ErrorContains(t, await(t, ended, name), "so it is not known whether they were done", name)
	}
}

// A retry of a paused projection waits for the end of the pause, not for a worker.
func TestARetryOfAPausedProjectionSaysSo(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	r := w.parks(t)
	a := w.admin("set")
	require.NoError(t, a.Pause(w.patiently(), admin.Target{Projection: "p"}, "", time.Time{}))
	_, err := w.asks(a, admin.Filter{})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "1 of 1 aggregates still wait for the pause of p to end, and are done then")
	require.NoError(t, a.Resume(w.patiently(), admin.Target{Projection: "p"}, ""))
	w.await("done", "SELECT state FROM orchestrator_operations WHERE kind = 'retry'")
	require.NoError(t, r.stop())
}

// A pause that has ended before the projection was paused pauses nothing, so it must not be reported as one.
func TestAPauseThatEndsWhileItWaits(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.append("ada", 1)
	r := start(t, w.orchestrator("set"), recorder{name: "p"})
	w.await("1", "SELECT position FROM orchestrator_checkpoints")
	require.NoError(t, r.stop())
	until := time.Now().Add(time.Second)
	err := w.locking(func(ctx context.Context) error {
		return w.admin("set").Pause(ctx, admin.Target{Projection: "p"}, "", until)
	}, "SELECT pg_sleep_until('"+until.UTC().Format(time.RFC3339Nano)+"')")
	require.ErrorContains(t, err, "has passed before anything was paused, by the database's clock")
	assert.Equal(t, "0 0", w.value("SELECT (SELECT count(*) FROM orchestrator_checkpoints WHERE hold_at IS NOT NULL), (SELECT count(*) FROM orchestrator_operations)"))
}

// What a part of a projection has handled beyond the rebuild does not make up for what another part has yet to handle.
func TestARebuildOfWhichAPartIsAhead(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.exec(`INSERT INTO orchestrator_checkpoints (projection, slot_from, slot_to, position, replica_set, events_table)
		VALUES ('p', 0, 32768, 10, 'set', 'public.events'), ('p', 32768, 65536, 100000, 'set', 'public.events')`)
	w.exec(`INSERT INTO orchestrator_operations (replica_set, kind, projection, actor, reason, state, finished_at, result)
		VALUES ('set', 'reset', 'p', 'anna', '', 'done', now() - interval '55 s', '{"position": 0, "until": 100}')`)
	r, err := w.admin("set").Rebuild(t.Context(), "p")
	require.NoError(t, err)
	assert.Equal(t, []any{false, int64(10), int64(55)}, []any{r.Complete, r.Position, r.Handled})
	assert.InDelta(t, 45, r.Left.Seconds(), 5)

	w.exec("UPDATE orchestrator_checkpoints SET position = least(position, 1)")
	w.exec(`UPDATE orchestrator_operations SET finished_at = now() - interval '10 years', result = '{"position": 0, "until": 1000000000000}'`)
	r, err = w.admin("set").Rebuild(t.Context(), "p")
	require.NoError(t, err)
	assert.Greater(t, r.Left, 50*365*24*time.Hour)
}

// After ALTER TABLE ... SET SCHEMA the next call finds the tables where they are by then.
func TestAnAdminFindsTablesThatWereMoved(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.exec("CREATE SCHEMA moved")
	w.with(func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["search_path"] = "public,moved" })
	a := w.admin("set")
	w.snapshot(a)
	w.exec(`DO $$ DECLARE t record; BEGIN
		FOR t IN SELECT relname FROM pg_class WHERE relkind IN ('r', 'v') AND relnamespace = 'public'::regnamespace AND (relname LIKE 'orchestrator%' OR relname = 'events') LOOP
			EXECUTE format('ALTER TABLE public.%I SET SCHEMA moved', t.relname);
		END LOOP; END $$`)
	_, err := a.Snapshot(t.Context())
	require.ErrorContains(t, err, "does not exist")
	assert.Equal(t, "moved.events", w.snapshot(a).EventsTable)
	require.ErrorContains(t, a.Pause(t.Context(), admin.Target{}, "", time.Time{}), "it has no checkpoints")
}

// The metric counts workers, not drains: one by name is of all workers that have the name, and stays when they have gone.
func TestDrainedWorkersAreCounted(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.worker("first", "running", "0 s")
	w.worker("second", "running", "0 s")
	w.worker("third", "stopped", "0 s")
	w.exec("UPDATE orchestrator_workers SET name = 'same'")
	w.exec("INSERT INTO orchestrator_drains (replica_set, worker, actor, reason) VALUES ('set', 'same', '', ''), ('set', 'gone', '', ''), ('set', 'gone too', '', '')")
	requireSeries(t, scrape(t, w.tablesOf(w.admin("set"))), "workers_drained 2")
}

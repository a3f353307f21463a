package face

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

// findings is what Verify finds.
func (w *world) findings(a *admin.Admin) []admin.Finding {
	w.t.Helper()
	found, err := a.Verify(w.t.Context())
	require.NoError(w.t, err)
	return found
}

// sound is rows without a fault: of a worker that runs p, of which an aggregate is parked and a pause has ended, and q, which is stopped and held, and leaves out l. Another, which runs d and m, is drained, and m was moved here. An
// event that was handled after it had failed is not there any more.
const sound = `
INSERT INTO orchestrator_workers (worker_id, replica_set, name, state, generation, projections, hostname, process_id, library_version, left_out)
	VALUES ('00000000-0000-0000-0000-000000000001', 'set', 'w7', 'running', 1, '{p,q,l}', 'host', 1, 'v2.0.0', '{l}');
INSERT INTO orchestrator_heartbeats SELECT worker_id, now() FROM orchestrator_workers;
INSERT INTO orchestrator_generations (replica_set, number, state, cause, reason, prepared_by, members, activated_at)
	SELECT 'set', 1, 'active', 'first', '', worker_id, ARRAY[worker_id], now() FROM orchestrator_workers;
INSERT INTO orchestrator_checkpoints (projection, slot_from, slot_to, position, replica_set, events_table, generation, partition_key, total_partitions, worker_id, stopped_at, hold_at)
	SELECT p, f, t, pos, 'set', 'public.events', 1, key, total, worker_id, stopped, hold
	FROM orchestrator_workers, (VALUES ('p', 0, 32768, 6, 0, 2, NULL::bigint, NULL::bigint), ('p', 32768, 65536, 6, 1, 2, NULL, NULL), ('q', 0, 65536, 3, 0, 1, 4, 3)) AS c (p, f, t, pos, key, total, stopped, hold);
INSERT INTO orchestrator_checkpoints (projection, slot_from, slot_to, replica_set, events_table, generation) VALUES ('l', 0, 65536, 'set', 'public.events', 1);
UPDATE orchestrator_checkpoints SET hold_at = 2, hold_until = now() - interval '1 s' WHERE projection = 'p';
INSERT INTO orchestrator_dead_letters (projection, global_position, replica_set, event_id, event_type, bounded_context, aggregate_type, aggregate_id, state, last_error, worker_id, generation)
	VALUES ('p', 99, 'set', gen_random_uuid(), 't', 'c', 't', 'gone', 'handled', '', gen_random_uuid(), 1);
INSERT INTO orchestrator_dead_letters (projection, global_position, replica_set, event_id, event_type, bounded_context, aggregate_type, aggregate_id, state, last_error, worker_id, generation)
	SELECT p, global_position, 'set', event_id, event_type, bounded_context, aggregate_type, aggregate_id, CASE p WHEN 'p' THEN 'parked' ELSE 'stopped' END, 'bad', gen_random_uuid(), 1
	FROM events, (VALUES ('p', 1), ('p', 2), ('p', 3), ('q', 4)) AS l (p, at) WHERE at = global_position;
INSERT INTO orchestrator_parked_aggregates VALUES ('p', 'Identity', 'User', 'ada', 'set', 1, 3);
INSERT INTO orchestrator_operations (replica_set, projection, kind, actor, reason, state) VALUES ('set', 'p', 'retry', 'anna', '', 'waiting');
INSERT INTO orchestrator_requests (operation, projection, bounded_context, aggregate_type, aggregate_id, kind) SELECT id, 'p', 'Identity', 'User', 'ada', 'retry' FROM orchestrator_operations;
INSERT INTO orchestrator_workers (worker_id, replica_set, name, state, generation, projections, hostname, process_id, library_version, drained)
	VALUES ('00000000-0000-0000-0000-000000000002', 'set', 'w8', 'running', 1, '{d,m}', 'host', 1, 'v2.0.0', true);
INSERT INTO orchestrator_heartbeats VALUES ('00000000-0000-0000-0000-000000000002', now());
UPDATE orchestrator_generations SET members = members || '{00000000-0000-0000-0000-000000000002}';
INSERT INTO orchestrator_checkpoints (projection, slot_from, slot_to, replica_set, events_table, generation) VALUES ('d', 0, 65536, 'set', 'public.events', 1), ('m', 0, 65536, 'set', 'public.events', 9);
INSERT INTO orchestrator_drains VALUES ('set', 'w8', 'anna', '');
INSERT INTO orchestrator_horizons (events_table, term, position, sequence, filenode, updated_at) VALUES ('public.events', 1, 6, 1, 1, now() - interval '1 minute')`

// faults is what is made wrong, and what of it is found: its kind, severity, projection and count, and a part of its text.
var faults = map[string]struct{ sql, about, text string }{
	"letter_without_event":            {"DELETE FROM events WHERE global_position IN (2, 3)", "fault p 2", `2 letters of projection "p", the first at 2,`},
	"letter_of_other_event":           {"UPDATE events SET event_id = gen_random_uuid() WHERE global_position = 4", "fault q 1", "the first at 4"},
	"letter_of_unparked_aggregate":    {"DELETE FROM orchestrator_parked_aggregates", "fault p 3", "the first at 1"},
	"parked_aggregate_without_letter": {"DELETE FROM orchestrator_dead_letters WHERE projection = 'p' AND state = 'parked'", "fault p 1", "such as ada"},
	"parked_aggregate_disagrees":      {"UPDATE orchestrator_parked_aggregates SET letters = 2", "fault p 1", "such as ada"},
	"stop_without_letter":             {"DELETE FROM orchestrator_dead_letters WHERE projection = 'q'", "fault q 1", "stopped at 4"},
	"hold_passed":                     {"UPDATE orchestrator_checkpoints SET hold_at = 5, hold_until = NULL WHERE projection = 'p' AND slot_from = 0", "fault p 1", "held, at 5"},
	"checkpoint_of_other_events_table": {
		"UPDATE orchestrator_checkpoints SET events_table = 'public.others' WHERE projection = 'q'", "fault q 1", "public.others",
	},
	"regression_stands": {
		"INSERT INTO orchestrator_sequence_regressions (events_table, number, last_position, checkpoint) VALUES ('public.events', 1, 5, 6)", "fault  1", "at 5, below the checkpoint 6",
	},
	"checkpoint_of_no_generation": {"UPDATE orchestrator_checkpoints SET generation = 7 WHERE projection = 'q'", "fault q 1", "generation 7"},
	"worker_of_no_generation":     {"UPDATE orchestrator_workers SET generation = 7 WHERE name = 'w7'", "fault  1", "such as w7"},
	"checkpoint_contradicts_generation": {
		"UPDATE orchestrator_checkpoints SET worker_id = gen_random_uuid() WHERE slot_from > 0", "fault p 1", "as generation 1 has divided",
	},
	"worker_silent":     {"UPDATE orchestrator_heartbeats SET last_heartbeat = now() - interval '3 minutes' WHERE worker_id::text LIKE '%1'", "warning  1", "such as w7"},
	"drain_of_nobody":   {"INSERT INTO orchestrator_drains VALUES ('set', 'w99', 'anna', '')", "note  1", "such as w99"},
	"handler_abandoned": {"INSERT INTO orchestrator_abandoned_handlers SELECT worker_id, 'p', 1, 0, 2, 3, gen_random_uuid() FROM orchestrator_workers WHERE name = 'w7'", "warning p 1", "on worker w7"},
	"request_without_operation": {
		"ALTER TABLE orchestrator_requests DROP CONSTRAINT orchestrator_requests_operation_fkey; DELETE FROM orchestrator_operations", "fault p 1", "such as 1,",
	},
	"request_of_ended_operation": {"UPDATE orchestrator_operations SET state = 'done', finished_at = now()", "fault p 1", "such as 1,"},
	"operation_without_request":  {"DELETE FROM orchestrator_requests", "warning p 1", "wait for nothing"},
	"letters_of_moved_projection": {
		`INSERT INTO orchestrator_checkpoints (projection, slot_from, slot_to, replica_set, events_table) VALUES ('moved', 0, 65536, 'other', 'public.events');
		INSERT INTO orchestrator_dead_letters (projection, global_position, replica_set, event_id, event_type, bounded_context, aggregate_type, aggregate_id, state, last_error, worker_id, generation)
			SELECT 'moved', global_position, replica_set, event_id, event_type, bounded_context, aggregate_type, aggregate_id, 'retrying', last_error, worker_id, generation FROM orchestrator_dead_letters WHERE projection = 'q'`,
		"warning moved 1", "replica set other runs it",
	},
	"rows_of_no_projection": {
		`INSERT INTO orchestrator_dead_letters (projection, global_position, replica_set, event_id, event_type, bounded_context, aggregate_type, aggregate_id, state, last_error, worker_id, generation)
			SELECT 'removed', global_position, replica_set, event_id, event_type, bounded_context, aggregate_type, aggregate_id, 'skipped', last_error, worker_id, generation FROM orchestrator_dead_letters WHERE projection = 'q'`,
		"note removed 1", `of projection "removed"`,
	},
	"projection_without_worker":      {"UPDATE orchestrator_workers SET projections = '{p,l}' WHERE name = 'w7'", "note q 1", `projection "q"`},
	"slots_without_checkpoint":       {"UPDATE orchestrator_checkpoints SET slot_to = 100 WHERE projection = 'q'", "fault q 1", "[100,65536)"},
	"slots_of_two_checkpoints":       {"ALTER TABLE orchestrator_checkpoints DROP CONSTRAINT orchestrator_checkpoints_disjoint; UPDATE orchestrator_checkpoints SET slot_to = 40000 WHERE slot_to = 32768", "fault p 1", "overlap"},
	"projection_of_two_replica_sets": {"UPDATE orchestrator_checkpoints SET replica_set = 'other' WHERE projection = 'p' AND slot_from > 0", "fault p 1", "another replica set's"},
	"checkpoint_above_sequence":      {"UPDATE orchestrator_checkpoints SET position = 7 WHERE projection = 'p'", "fault p 1", "at 7, and the sequence of positions at 6"},
}

// Each fault is found, and nothing besides.
func TestVerifyFindsEachFault(t *testing.T) {
	directOnly(t)
	for kind, fault := range faults {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t)
			w.append("ada", 3)
			w.append("grace", 3)
			w.exec(sound)
			a := w.admin("set")
			require.Empty(t, w.findings(a))
			w.exec(fault.sql)
			found := w.findings(a)
			require.Len(t, found, 1, "%v", found)
			f := found[0]
			assert.Equal(t, []any{kind, fault.about}, []any{f.Kind, fmt.Sprint(f.Severity, " ", f.Projection, " ", f.Count)})
			assert.Contains(t, f.Text, fault.text)
			assert.NotContains(t, f.Text+f.Remedy, "{")
			assert.NotEmpty(t, f.Remedy)
		})
	}
}

// Every check has a fault that it finds, and docs/operating.md lists it.
func TestEachFindingIsTested(t *testing.T) {
	directOnly(t)
	tested := map[string]bool{"checkpoint_above_horizon": true} // by TestVerifyFindsACheckpointAboveTheHorizon
	for kind := range faults {
		tested[kind] = true
	}
	document := documentedText(t, "operating.md")
	for _, kind := range admin.FindingKinds() {
		assert.True(t, tested[kind], kind)
		assert.Contains(t, document, "| `"+kind+"` |")
	}
	assert.Len(t, tested, len(admin.FindingKinds()))
}

// A checkpoint where a transaction may yet append is found when the horizon has been held back for seconds.
func TestVerifyFindsACheckpointAboveTheHorizon(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.append("ada", 3)
	w.append("grace", 3)
	w.exec(sound)
	w.exec("UPDATE orchestrator_workers SET state_changed_at = now() - interval '1 minute'")
	began := time.Now()
	tx := w.late("late")
	w.append("ada", 1)
	w.exec("UPDATE orchestrator_checkpoints SET position = 8 WHERE projection = 'p'")
	a := w.admin("set")
	if early := w.findings(a); time.Since(began) < time.Second { // a busy machine may take longer
		require.Empty(t, early, "workers may not have stored it yet")
	}
	var found []admin.Finding
	eventually(t, func() bool {
		w.exec("UPDATE orchestrator_heartbeats SET last_heartbeat = now()")
		found = w.findings(a)
		return len(found) > 0
	}, func() string { return "a finding" })
	require.Len(t, found, 1)
	assert.Equal(t, []any{"checkpoint_above_horizon", admin.Warning, "p"}, []any{found[0].Kind, found[0].Severity, found[0].Projection})
	assert.Contains(t, found[0].Text, fmt.Sprintf("at 8, and the horizon at 6, held back by pid %d", tx.Conn().PgConn().PID()))
}

// While workers come and go, park, retry, are paused and reset, there is nothing to find.
func TestALiveReplicaSetHasNoFindings(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	p := recorder{name: "p", before: breakable(func(es.PersistedEvent) error {
		if rand.IntN(20) == 0 {
			return errBad
		}
		return nil
	})}
	ids := make([]string, 10)
	for i := range ids {
		ids[i] = fmt.Sprint("user ", i)
	}
	always := start(t, w.orchestrator("set", parkAtOnce, orchestrator.WithPartitionsPerWorker(2)), p, recorder{name: "q"})
	w.awaitRunning("set", 1)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan string, 1)
	looks := 0
	go func() {
		a := w.admin("set")
		for ctx.Err() == nil {
			found, err := a.Verify(context.WithoutCancel(ctx))
			if err != nil || len(found) > 0 {
				ended <- fmt.Sprint(found, err)
				return
			}
			looks++
		}
		ended <- ""
	}()
	a := w.admin("set")
	for range 5 {
		other := start(t, w.orchestrator("set", parkAtOnce), p, recorder{name: "q"})
		w.appendInTurn(3, ids...)
		require.NoError(t, a.Pause(w.patiently(), admin.Target{Projection: "q"}, "", time.Time{}))
		w.awaitRunning("set", 2)
		_, err := a.Retry(w.patiently(), admin.Filter{}, "")
		require.NoError(t, err)
		_, err = a.Discard(t.Context(), admin.Filter{}, "")
		require.NoError(t, err)
		require.NoError(t, a.Resume(t.Context(), admin.Target{}, ""))
		require.NoError(t, a.ResetWith(w.patiently(), "q", admin.Start(), "", func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "DELETE FROM handled WHERE projection = 'q'")
			return err
		}))
		require.NoError(t, other.stop())
	}
	w.awaitHandled("q", 150)
	cancel()
	assert.Empty(t, <-ended)
	t.Logf("%d looks", looks)
	require.NoError(t, always.stop())
	found := w.findings(a)
	require.Len(t, found, 2)
	assert.True(t, strings.HasPrefix(found[0].Text, "no worker runs projection"), found[0].Text)
}

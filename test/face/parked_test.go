package face

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// appendInTurn appends one event to each of the aggregates, and again.
func (w *world) appendInTurn(times int, aggregateIDs ...string) {
	w.t.Helper()
	for range times {
		for _, id := range aggregateIDs {
			w.append(id, 1)
		}
	}
}

const lettersOf = `SELECT string_agg(concat_ws(' ', global_position, aggregate_id, state, attempts), ', ' ORDER BY global_position) FROM orchestrator_dead_letters`

// The event that failed and all later ones of its aggregate become letters, in order. The others go on.
func TestParkPutsAnAggregateAside(t *testing.T) {
	for kind, of := range map[string]func(recorder) projection.Projection{
		"one by one": func(r recorder) projection.Projection { return r },
		"batches":    func(r recorder) projection.Projection { return inBatches{r} },
	} {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t)
			w.appendInTurn(4, "ada", "grace", "alan") // ada has 1, 4, 7, 10
			park := orchestrator.WithErrorPolicy(projection.ErrorPolicy{Attempts: 2, Then: projection.Park})
			orch := w.orchestrator("set", park)
			r := start(t, orch, of(recorder{name: "p", before: poisoned(errBad, 4)}))
			w.awaitHandled("p", 9)
			w.await("12", "SELECT position FROM orchestrator_checkpoints")
			assert.Equal(t, "4 ada parked 2, 7 ada parked 0, 10 ada parked 0", w.value(lettersOf))
			assert.Equal(t, "p Identity User ada set 4 3", w.value(`SELECT projection, bounded_context, aggregate_type, aggregate_id, replica_set, global_position, letters
				FROM orchestrator_parked_aggregates`))
			awaitMetric(t, orch, "1", `parked_aggregates{partition="0/1",projection="p",replica_set="set"}`)
			awaitMetric(t, orch, "3", `events_parked_total{projection="p",replica_set="set"}`)
			awaitMetric(t, orch, "9", `events_handled_total{projection="p",replica_set="set"}`)
			awaitMetric(t, orch, "0", `retrying{partition="0/1",projection="p",replica_set="set"}`)
			w.logs.AwaitLine(t, "its aggregate is parked")
			w.append("ada", 1)
			w.await("4", "SELECT letters FROM orchestrator_parked_aggregates")
			require.NoError(t, r.stop())

			w.append("ada", 1)
			w.append("grace", 1)
			r = start(t, w.orchestrator("other", park), recorder{name: "other"}) // another projection handles them
			w.awaitHandled("other", 15)
			require.NoError(t, r.stop())
			r = start(t, w.orchestrator("set"), of(recorder{name: "p"})) // whatever the policy is by now
			w.awaitHandled("p", 10)
			w.await("5 5", "SELECT letters, (SELECT count(*) FROM orchestrator_dead_letters WHERE state = 'parked') FROM orchestrator_parked_aggregates")
			require.NoError(t, r.stop())
			w.requireOrder("other")
		})
	}
}

// Aggregates stay parked when the number of partitions changes, workers come and go, and the projection moves to another replica set.
// Every event is handled once or is a letter, and each aggregate is in order.
func TestParkedAggregatesFollowTheirSlots(t *testing.T) {
	w := newWorld(t)
	var ids []string
	for i := range 24 {
		ids = append(ids, fmt.Sprint("user ", i))
	}
	bad := func(_ context.Context, event es.PersistedEvent) error {
		if event.AggregateVersion == 3 && (event.AggregateID == ids[0] || event.AggregateID == ids[7] || event.AggregateID == ids[13]) {
			return errBad
		}
		return nil
	}
	policy := orchestrator.WithErrorPolicy(projection.ErrorPolicy{Attempts: 1, Then: projection.Park})
	total := 0
	for i, partitions := range []int{2, 1, 3, 5} {
		w.appendInTurn(2, ids...)
		total += 2 * len(ids)
		set := "set"
		if i == 3 {
			set = "moved"
			w.exec("UPDATE orchestrator_checkpoints SET replica_set = 'moved'")
		}
		r := start(t, w.orchestrator(set, policy, orchestrator.WithPartitionsPerWorker(partitions)), recorder{name: "p", before: bad})
		second := start(t, w.orchestrator(set, policy), recorder{name: "p", before: bad})
		w.await(fmt.Sprint(total), "SELECT (SELECT count(*) FROM handled) + (SELECT count(*) FROM orchestrator_dead_letters WHERE state = 'parked')")
		if i > 0 {
			assert.Equal(t, fmt.Sprint(3*2*i, " 3"), w.value("SELECT sum(letters)::int, count(*) FROM orchestrator_parked_aggregates"))
		}
		require.NoError(t, second.stop())
		require.NoError(t, r.stop())
	}
	w.requireOrder("p")
	assert.Equal(t, "0", w.value("SELECT count(*) FROM handled h JOIN orchestrator_dead_letters d ON d.global_position = h.position"))
	assert.Equal(t, "3, 3, 3", w.value(`SELECT min(e.aggregate_version) FROM orchestrator_dead_letters d JOIN events e USING (global_position) GROUP BY e.aggregate_id`))
	assert.Equal(t, "0", w.value(`SELECT count(*) FROM handled h JOIN orchestrator_parked_aggregates p ON p.aggregate_id = h.aggregate_id AND h.position >= p.global_position`))
}

// Beyond the caps the projection stops instead: at the aggregate that would be one too many, and at the letter.
func TestCapsOfParking(t *testing.T) {
	for name, tt := range map[string]struct {
		policy        projection.ErrorPolicy
		stopped, says string
		letters       string
	}{
		"aggregates": {projection.ErrorPolicy{Attempts: 1, Then: projection.Park, MaxParked: 1}, "2", "as its error policy allows (MaxParked)", "1 ada parked 1, 2 grace stopped 1"},
		"events":     {projection.ErrorPolicy{Attempts: 1, Then: projection.Park, MaxParkedEvents: 2}, "7", "(MaxParkedEvents)", "1 ada parked 1, 2 grace parked 1, 4 ada parked 0, 5 grace parked 0, 7 ada stopped 0"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.appendInTurn(3, "ada", "grace", "alan")
			r := start(t, w.orchestrator("set", orchestrator.WithErrorPolicy(tt.policy)), recorder{name: "p", before: poisoned(errBad, 1, 2)})
			w.await(tt.stopped, "SELECT stopped_at FROM orchestrator_checkpoints")
			assert.Equal(t, tt.letters, w.value(lettersOf))
			assert.Contains(t, w.value("SELECT last_error FROM orchestrator_dead_letters WHERE state = 'stopped'"), tt.says)
			w.exec("DELETE FROM orchestrator_parked_aggregates") // as a person discards them
			w.exec("DELETE FROM orchestrator_dead_letters WHERE state = 'parked'")
			w.exec("UPDATE orchestrator_checkpoints SET stopped_at = NULL, revision = revision + 1")
			if name == "events" {
				w.await("handled", "SELECT state FROM orchestrator_dead_letters")
				w.await("9", "SELECT position FROM orchestrator_checkpoints")
			} else {
				w.await("3", "SELECT letters FROM orchestrator_parked_aggregates WHERE aggregate_id = 'grace'")
			}
			require.NoError(t, r.stop())
		})
	}
}

// A person may end a stop before its worker has read it. The letter says all the same what became of the event.
func TestAStopThatIsEndedAtOnce(t *testing.T) {
	w := newWorld(t)
	w.exec(`CREATE FUNCTION end_stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		DELETE FROM orchestrator_parked_aggregates;
		DELETE FROM orchestrator_dead_letters WHERE state = 'parked';
		UPDATE orchestrator_checkpoints SET stopped_at = NULL, revision = revision + 1 WHERE stopped_at IS NOT NULL;
		RETURN NULL;
	END $$`)
	w.exec("CREATE TRIGGER end_stop AFTER UPDATE ON orchestrator_checkpoints FOR EACH ROW WHEN (NEW.stopped_at IS NOT NULL) EXECUTE FUNCTION end_stop()")
	w.alwaysFire("end_stop")
	w.appendInTurn(3, "ada", "grace", "alan")
	r := start(t, w.orchestrator("set", orchestrator.WithErrorPolicy(projection.ErrorPolicy{Attempts: 1, Then: projection.Park, MaxParkedEvents: 2})),
		recorder{name: "p", before: poisoned(errBad, 1)})
	w.await("9", "SELECT position FROM orchestrator_checkpoints")
	w.await("7 handled", "SELECT global_position, state FROM orchestrator_dead_letters")
	require.NoError(t, r.stop())
}

// Who discards a parked aggregate raises the revision, so the owner handles its next event, though it keeps what is parked in memory.
func TestADiscardedAggregateIsHandledAgain(t *testing.T) {
	w := newWorld(t)
	w.append("ada", 2)
	r := start(t, w.orchestrator("set", orchestrator.WithErrorPolicy(projection.ErrorPolicy{Attempts: 1, Then: projection.Park})),
		recorder{name: "p", before: poisoned(errBad, 1)})
	w.await("2", "SELECT letters FROM orchestrator_parked_aggregates")
	w.exec(`WITH raised AS (UPDATE orchestrator_checkpoints SET revision = revision + 1), gone AS (DELETE FROM orchestrator_parked_aggregates)
		DELETE FROM orchestrator_dead_letters`)
	w.append("ada", 1)
	w.awaitHandled("p", 1)
	assert.Equal(t, "0 3", w.value("SELECT (SELECT count(*) FROM orchestrator_dead_letters), max(position) FROM handled"))
	w.exec("DELETE FROM handled")
	require.NoError(t, r.stop())
}

// An event that fails among events of parked aggregates is found, and all that is before it is committed.
func TestAFailureAmongParkedEvents(t *testing.T) {
	for kind, of := range map[string]func(recorder) projection.Projection{
		"one by one": func(r recorder) projection.Projection { return r },
		"batches":    func(r recorder) projection.Projection { return inBatches{r} },
	} {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t)
			w.appendInTurn(20, "ada", "grace", "alan")
			w.exec(`INSERT INTO orchestrator_parked_aggregates (projection, bounded_context, aggregate_type, aggregate_id, replica_set, global_position, letters)
				VALUES ('p', 'Identity', 'User', 'ada', 'set', 1, 1)`)
			r := start(t, w.orchestrator("set", orchestrator.WithErrorPolicy(projection.ErrorPolicy{Attempts: 2, First: time.Millisecond, Then: projection.Park})),
				of(recorder{name: "p", before: poisoned(errBad, 32, 45)}))
			w.await("60", "SELECT position FROM orchestrator_checkpoints")
			assert.Equal(t, "10 14", w.value(`SELECT count(*) FILTER (WHERE aggregate_id = 'grace'), count(*) FILTER (WHERE aggregate_id = 'alan') FROM handled`))
			assert.Equal(t, "20 10 6", w.value(`SELECT count(*) FILTER (WHERE aggregate_id = 'ada'), count(*) FILTER (WHERE aggregate_id = 'grace'),
				count(*) FILTER (WHERE aggregate_id = 'alan') FROM orchestrator_dead_letters WHERE state = 'parked'`))
			require.NoError(t, r.stop())
			w.requireOrder("p")
		})
	}
}

// Positions are exact beyond what a float64 can hold, and an event without metadata is a letter like any other.
func TestLettersBeyondTheFloats(t *testing.T) {
	w := newWorld(t)
	w.exec("SELECT setval('events_global_position_seq', 9007199254740993)")
	w.append("ada", 3)
	w.append("grace", 2)
	first := int64(9007199254740994)
	r := start(t, w.orchestrator("set", orchestrator.WithErrorPolicy(projection.ErrorPolicy{Attempts: 1, Then: projection.Park}),
		orchestrator.WithErrorPolicyFor("skips", projection.ErrorPolicy{Attempts: 1, Then: projection.Skip})),
		recorder{name: "p", before: poisoned(errBad, first+1)}, recorder{name: "skips", before: poisoned(errBad, first+2)})
	w.awaitHandled("p", 3)
	w.awaitHandled("skips", 4)
	w.await("9007199254740998 9007199254740998", "SELECT min(position), max(position) FROM orchestrator_checkpoints")
	assert.Equal(t, "p 9007199254740995 parked, p 9007199254740996 parked, skips 9007199254740996 skipped", w.value(`
		SELECT projection, global_position, state FROM orchestrator_dead_letters ORDER BY 1, 2`))
	assert.Equal(t, "true", w.value("SELECT bool_and(metadata IS NULL) FROM events"))
	require.NoError(t, r.stop())
}

package actors

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/measure"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// What people are told of the generations that a worker sees: each change once, and none that is long past.
func TestChangesOfGenerationAreToldOnce(t *testing.T) {
	generation := func(number int64, state replicaset.GenerationState) replicaset.Generation {
		return replicaset.Generation{Number: number, State: state, Cause: replicaset.CauseLost, Reason: "a test", Age: time.Hour, ActiveFor: time.Minute}
	}
	const (
		found       = "found a generation"
		preparation = "a new generation is in preparation"
		activation  = "a generation is active"
	)
	for name, test := range map[string]struct {
		looks   []replicaset.Generation
		told    []string
		changes int
	}{
		"none":                         {[]replicaset.Generation{{}, {}}, nil, 0},
		"one that was there":           {[]replicaset.Generation{generation(7, replicaset.Active), generation(7, replicaset.Active)}, []string{found}, 0},
		"one in preparation":           {[]replicaset.Generation{generation(7, replicaset.Preparing), generation(7, replicaset.Active)}, []string{preparation, activation}, 1},
		"the first":                    {[]replicaset.Generation{{}, generation(1, replicaset.Preparing), generation(1, replicaset.Active)}, []string{preparation, activation}, 1},
		"one that was prepared unseen": {[]replicaset.Generation{{}, generation(1, replicaset.Active)}, []string{activation}, 1},
		"one after another": {
			[]replicaset.Generation{generation(7, replicaset.Active), generation(8, replicaset.Preparing), generation(8, replicaset.Active), generation(9, replicaset.Active)},
			[]string{found, preparation, activation, activation},
			2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			log, registry := newLog(), prometheus.NewRegistry()
			m, err := measure.New(registry)
			require.NoError(t, err)
			k := newCoordinator(&worker{Config: Config{Membership: pgcoord.Membership{ID: uuid.UUID{1}}, Logger: log.Logger(), Metrics: m.ReplicaSet("main")}})
			defer k.cancel()
			for _, g := range test.looks {
				k.transitions.observe(k, replicaset.View{Generation: g})
			}
			var told []string
			for _, line := range log.Find("") {
				told = append(told, line.Message)
				if line.Message != found {
					assert.Equal(t, "a test", line.Attrs["reason"])
				}
			}
			assert.Equal(t, test.told, told)
			assert.InDelta(t, test.changes, counted(t, registry, "generation_changes_total"), 0)
		})
	}
}

// Who was declared dead is counted as long as the row is kept, so that an alert can see it.
func TestTheDeadAreCounted(t *testing.T) {
	registry := prometheus.NewRegistry()
	m, err := measure.New(registry)
	require.NoError(t, err)
	k := newCoordinator(&worker{Config: Config{Membership: pgcoord.Membership{ID: uuid.UUID{1}}, Logger: slog.New(slog.DiscardHandler), Metrics: m.ReplicaSet("main")}})
	defer k.cancel()
	k.transitions.observe(k, replicaset.View{Dead: 2, Workers: []replicaset.Worker{{State: replicaset.Running}, {State: replicaset.Dead}}}) // a member that has just died
	assert.InDelta(t, 3, counted(t, registry, "workers"), 0)
}

// In the log and in the table, how long a generation took is the same time: until it became active.
func TestHowLongAGenerationTook(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.start(nil, &recorder{name: "p"})
	f.awaitState(r, replicaset.Running)
	took, err := time.ParseDuration(r.log.Await(t, "a generation is active").Attrs["took"])
	require.NoError(t, err)
	table := query[float64](f, `SELECT extract(epoch FROM activated_at - created_at)::float8 FROM orchestrator_generations`)
	assert.InDelta(t, table, took.Seconds(), 1e-5)
	activation := r.log.Await(t, "activated a generation").Attrs
	assert.NotContains(t, activation, "took", "its transaction took another time")
	assert.NotEmpty(t, activation["activation_took"])
}

// A worker that dies while a generation is in preparation because another joined is counted once, by the leader, and the generation is
// one that a worker was lost in.
func TestADeathInAChangeIsCountedOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first := f.start(nil, &recorder{name: "p"})
	f.awaitState(first, replicaset.Running)
	second := f.start(nil, &recorder{name: "p"})
	eventually(t, func() bool { return f.active(2) != 0 }, "they are never two")
	eventually(t, func() bool { return first.count("generation_changes_total", "cause", replicaset.CauseJoined) == 1 }, "the second is not counted")
	assert.Zero(t, first.count("workers_lost_total"))

	third := pgcoord.Membership{ID: uuid.New(), Name: "third", Projections: []string{"p"}, Partitions: 1, Hostname: "h", Version: "v"}
	require.NoError(t, f.store.Join(t.Context(), f.pool, third))
	eventually(t, func() bool {
		return query[string](f, `SELECT state FROM orchestrator_generations ORDER BY number DESC LIMIT 1`) == "preparing"
	}, "the third is not seen")
	number := query[int64](f, `SELECT max(number) FROM orchestrator_generations`)
	second.Stop()
	second.awaitDone()
	eventually(t, func() bool {
		return query[string](f, `SELECT state FROM orchestrator_workers WHERE worker_id = $1`, second.id) == "dead"
	}, "the second is not declared dead")
	_, err := f.store.SetState(t.Context(), f.pool, third.ID, replicaset.Ready, number)
	require.NoError(t, err)
	eventually(t, func() bool { return first.count("generation_changes_total", "cause", replicaset.CauseLost) == 1 }, "the loss is no cause")
	assert.EqualValues(t, 1, first.count("workers_lost_total"))
	assert.EqualValues(t, 1, first.count("generation_changes_total", "cause", replicaset.CauseJoined), "of the second")
	told := first.log.Find("a generation is active")
	attrs := told[len(told)-1].Attrs
	assert.Equal(t, replicaset.CauseLost, attrs["cause"])
	assert.Contains(t, attrs["reason"], "was lost")
	assert.Contains(t, attrs["reason"], replicaset.Change{Name: "third", Worker: third.ID, Kind: replicaset.Joined}.String())
}

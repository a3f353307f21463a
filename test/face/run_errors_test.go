package face

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// named is a projection that does nothing.
type named string

func (n named) Name() string { return string(n) }

func (named) Handle(context.Context, pgx.Tx, es.PersistedEvent) error { return nil }

// panics is a projection that cannot say what it is.
type panics struct{ named }

func (panics) Name() string { panic("no name yet") }

// logged is a wrapper that hides what it wraps.
type logged struct{ projection.Projection }

func (l logged) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	return l.Projection.Handle(ctx, tx, event)
}

// wrongBatches has a HandleBatch that nobody calls.
type wrongBatches struct{ named }

func (wrongBatches) HandleBatch(context.Context, pgx.Tx, []es.Event) error { return nil }

func TestRunRefusesProjections(t *testing.T) {
	orch, err := orchestrator.New(unconnected(t, 10), eventstore.New(), "set")
	require.NoError(t, err)
	for name, test := range map[string]struct {
		projections []projection.Projection
		text        string
	}{
		"nil":                {nil, "at least one"},
		"none":               {[]projection.Projection{}, "at least one"},
		"a nil":              {[]projection.Projection{named("a"), nil}, "index 1 is nil"},
		"a nil pointer":      {[]projection.Projection{named("a"), (*batches)(nil)}, "index 1: it is a nil *face.batches"},
		"one that panics":    {[]projection.Projection{panics{}}, "index 0: describing itself it panicked: no name yet"},
		"a hidden batch":     {[]projection.Projection{logged{&batches{}}}, "face.logged hides the method HandleBatch of the *face.batches in its field Projection"},
		"a wrong signature":  {[]projection.Projection{wrongBatches{}}, "it must be HandleBatch(context.Context, pgx.Tx, []es.PersistedEvent) error"},
		"no name":            {[]projection.Projection{named("")}, "index 0 must have between 1 and 255 bytes"},
		"an over-long name":  {[]projection.Projection{named(strings.Repeat("x", 256))}, "between 1 and 255 bytes"},
		"a name with NUL":    {[]projection.Projection{named("\x00")}, "without NUL"},
		"a name not UTF-8":   {[]projection.Projection{named("\xff")}, "valid UTF-8"},
		"one name two times": {[]projection.Projection{named("a"), named("b"), named("a")}, `index 0 and 2 are both named "a"`},
	} {
		t.Run(name, func(t *testing.T) {
			err := orch.Run(t.Context(), test.projections)
			require.ErrorIs(t, err, orchestrator.ErrInvalidProjections)
			require.ErrorContains(t, err, test.text)
			require.ErrorContains(t, err, `replica set "set"`)
		})
	}
}

func TestRunWithAnEndedContext(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, pool := range map[string]*pgxpool.Pool{
		"no database":        unconnected(t, 10),
		"no tables":          newEmptyWorld(t).application(),
		"all that is needed": newWorld(t).application(),
	} {
		t.Run(name, func(t *testing.T) {
			orch, err := orchestrator.New(pool, eventstore.New(), "set")
			require.NoError(t, err)
			require.NoError(t, orch.Run(ended, []projection.Projection{named("a")}))
		})
	}
}

// A database that cannot be reached is waited for, not given up, and the error says that it never was.
func TestRunEndsWhileItWaitsForTheDatabase(t *testing.T) {
	logs := newLogs()
	orch, err := orchestrator.New(unconnected(t, 10), eventstore.New(), "set", orchestrator.WithLogger(logs.Logger()))
	require.NoError(t, err)
	r := start(t, orch, named("a"))
	logs.AwaitLine(t, "the database is not ready, trying again")
	err = r.stop()
	require.ErrorIs(t, err, orchestrator.ErrNeverReached)
	require.ErrorContains(t, err, "127.0.0.1:1")
}

func TestRunWithoutAContext(t *testing.T) {
	orch, err := orchestrator.New(unconnected(t, 10), eventstore.New(), "set")
	require.NoError(t, err)
	var none context.Context
	require.ErrorContains(t, orch.Run(none, []projection.Projection{named("a")}), "ctx must not be nil")
}

// Without WithLogger the default logger hears of everything.
func TestTheDefaultLogger(t *testing.T) {
	logs := newLogs()
	before := slog.Default()
	slog.SetDefault(logs.Logger())
	defer slog.SetDefault(before)
	orch, err := orchestrator.New(unconnected(t, 10), eventstore.New(), "set")
	require.NoError(t, err)
	r := start(t, orch, named("a"))
	logs.AwaitLine(t, "the database is not ready, trying again")
	require.Error(t, r.stop())
}

func TestRunTwiceAtOnce(t *testing.T) {
	w := newWorld(t)
	orch := w.orchestrator("set")
	r := start(t, orch, named("a"))
	w.awaitRunning("set", 1)

	err := orch.Run(t.Context(), []projection.Projection{named("b")})
	require.ErrorIs(t, err, orchestrator.ErrAlreadyRunning)
	require.ErrorContains(t, err, `replica set "set"`)

	require.NoError(t, r.stop())
	again := start(t, orch, named("a"))
	w.awaitRunning("set", 1)
	require.NoError(t, again.stop())
}

func TestRunSaysWhatIsMissing(t *testing.T) {
	run := func(db *pgxpool.Pool, store *eventstore.Store, options ...orchestrator.Option) error {
		orch, err := orchestrator.New(db, store, "set", forPooler(options...)...)
		require.NoError(t, err)
		return orch.Run(t.Context(), []projection.Projection{named("a")})
	}
	t.Run("all", func(t *testing.T) {
		err := run(newEmptyWorld(t).application(), eventstore.New())
		require.ErrorIs(t, err, orchestrator.ErrMigrationsMissing)
		require.ErrorContains(t, err, "orchestrator.RunMigrations")
	})
	t.Run("the events table", func(t *testing.T) {
		db := newEmptyWorld(t).application()
		require.NoError(t, orchestrator.RunMigrations(db))
		err := run(db, eventstore.New())
		require.ErrorContains(t, err, "events table")
		require.NotErrorIs(t, err, orchestrator.ErrMigrationsMissing)
	})
	t.Run("the schema", func(t *testing.T) {
		w := newWorld(t)
		err := run(w.application(), w.store, orchestrator.WithSchema("elsewhere"))
		require.ErrorIs(t, err, orchestrator.ErrMigrationsMissing)
		require.ErrorContains(t, err, `"elsewhere"`)
	})
	t.Run("a newer program", func(t *testing.T) {
		w := newWorld(t)
		w.exec("INSERT INTO orchestrator_schema_version (version, name) VALUES (999, 'of the future')")
		err := run(w.application(), w.store)
		require.ErrorIs(t, err, orchestrator.ErrMigrationsNewer)
		require.ErrorIs(t, orchestrator.RunMigrations(w.application()), orchestrator.ErrMigrationsNewer)
	})
	t.Run("a sequence that positions can follow", func(t *testing.T) {
		w := newWorld(t)
		w.exec("ALTER SEQUENCE events_global_position_seq CACHE 20")
		require.ErrorContains(t, run(w.application(), w.store), "CACHE 1")
	})
}

func TestProjectionOfAnotherReplicaSet(t *testing.T) {
	w := newWorld(t)
	first := start(t, w.orchestrator("first"), named("shared"), named("own"))
	w.awaitRunning("first", 1)

	err := w.orchestrator("second").Run(t.Context(), []projection.Projection{named("another"), named("shared")})
	require.ErrorIs(t, err, orchestrator.ErrProjectionClaimed)
	require.ErrorContains(t, err, `"first"`)
	require.ErrorContains(t, err, `"shared"`)
	require.ErrorContains(t, err, `replica set "second"`)

	require.NoError(t, first.stop())
	err = w.orchestrator("second").Run(t.Context(), []projection.Projection{named("shared")})
	require.ErrorIs(t, err, orchestrator.ErrProjectionClaimed, "it is the first's while its checkpoints are, not while it runs")
}

// One events table feeds a projection's checkpoints.
func TestProjectionOfAnotherEventsTable(t *testing.T) {
	w := newWorld(t)
	r := start(t, w.orchestrator("set"), named("a"))
	w.awaitRunning("set", 1)
	require.NoError(t, r.stop())

	options := []eventstore.Option{eventstore.WithEventsTable("other_events"), eventstore.WithAggregateHeadsTable("other_heads")}
	require.NoError(t, eventstore.RunMigrations(w.application(), options...))
	orch, err := orchestrator.New(w.application(), eventstore.New(options...), "set", forPooler()...)
	require.NoError(t, err)
	err = orch.Run(t.Context(), []projection.Projection{named("a")})
	require.ErrorIs(t, err, orchestrator.ErrProjectionClaimed)
	require.ErrorContains(t, err, "other_events")
	assert.NotContains(t, err.Error(), "belongs to replica set", "the reason is the table")
}

// Checkpoints that are carried over from other workers must not leave slots out: their events would be handled again.
func TestCheckpointsThatLeaveSlotsOut(t *testing.T) {
	w := newWorld(t)
	const enter = `INSERT INTO orchestrator_checkpoints (projection, slot_from, slot_to, position, replica_set, events_table) VALUES ('a', $1, $2, 0, 'set', 'public.events')`
	w.exec(enter, 0, 32768)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := w.orchestrator("set").Run(ctx, []projection.Projection{named("a")})
	require.ErrorIs(t, err, orchestrator.ErrCheckpointsIncomplete)
	require.ErrorContains(t, err, `projection "a" has none of the slots [[32768,65536)]`)

	w.exec(enter, 32768, 65536)
	r := start(t, w.orchestrator("set"), named("a"))
	w.awaitRunning("set", 1)
	require.NoError(t, r.stop())
}

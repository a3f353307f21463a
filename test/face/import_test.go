package face

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// manually runs a partition of a projection by hand until its checkpoint is at a position.
func (w *world) manually(name string, key, total int, until string) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	p := projection.NewPostgresProcessor(projection.ProcessorConfig{
		DB: w.application(), EventStore: w.store, Projection: recorder{name: name}, PartitionKey: key, TotalPartitions: total, Logger: w.logs.Logger(),
	})
	go func() { ended <- p.Run(ctx) }()
	w.await(until, "SELECT last_global_position FROM projection_checkpoints WHERE projection_name LIKE '%["+fmt.Sprint(key)+"/%'")
	cancel()
	require.NoError(w.t, await(w.t, ended, "the processor to end"))
}

// A replica set goes on exactly where manual runners have stopped, each partition at its own position.
func TestImportGoesOnWhereManualProcessorsWere(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.appendInTurn(6, "ada", "grace", "alan", "linus", "edsger") // of slots of both partitions
	w.manually("p", 0, 2, "30")
	assert.Equal(t, "true", w.value("SELECT count(*) BETWEEN 1 AND 29 FROM handled"))
	w.appendInTurn(2, "ada", "grace", "alan", "linus", "edsger")
	before := w.value("SELECT string_agg(projection_name || ' ' || last_global_position, ', ' ORDER BY 1) FROM projection_checkpoints")
	assert.Equal(t, "p[0/2] 30", before)
	a := w.admin("set")
	done, err := a.ImportCheckpoints(t.Context(), "p", "no more by hand")
	require.NoError(t, err)
	assert.Equal(t, admin.Import{Operation: 1, Rows: []admin.ImportedRow{{Name: "p[0/2]", Position: 30}}}, done, "partition 1 has handled nothing")
	assert.Equal(t, "0-32768 30, 32768-65536 0", w.value("SELECT string_agg(slot_from || '-' || slot_to || ' ' || position, ', ' ORDER BY slot_from) FROM orchestrator_checkpoints"))
	assert.Equal(t, "0", w.value("SELECT count(*) FROM projection_checkpoints"))
	assert.Equal(t, "import anna no more by hand [{\"name\": \"p[0/2]\", \"position\": 30}]", w.value("SELECT concat_ws(' ', kind, actor, reason, arguments -> 'rows') FROM orchestrator_operations"))

	r := start(t, w.orchestrator("set"), recorder{name: "p"}) // an event that is handled again violates the read model's key
	w.awaitHandled("p", 40)
	require.NoError(t, r.stop())
	w.requireOrder("p")
	_, err = a.ImportCheckpoints(t.Context(), "p", "")
	require.ErrorContains(t, err, `it has checkpoints in replica set "set" already`)
}

// Workers that are started before the import would handle everything again, which Run warns of, once.
func TestRunWarnsOfCheckpointsThatWereNotImported(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.append("ada", 3)
	w.exec("INSERT INTO projection_checkpoints (projection_name, last_global_position) VALUES ('p[0/2]', 3), ('p[1/2]', 2), ('q_p1', 1), ('other', 3), ('r', 0)")
	const says = "a manual runner has checkpoints of a projection that has none in this replica set"
	first := start(t, w.orchestrator("set"), recorder{name: "p"}, recorder{name: "q"}, recorder{name: "r"})
	w.awaitHandled("p", 3)
	require.NoError(t, first.stop())
	w.logs.AwaitLine(t, says, `rows="[p[0/2] at 3 p[1/2] at 2 q_p1 at 1]"`)
	second := start(t, w.orchestrator("set"), recorder{name: "p"}, recorder{name: "q"})
	w.awaitRunning("set", 1)
	require.NoError(t, second.stop())
	assert.Equal(t, 1, strings.Count(w.logs.String(), says))
}

// A manual runner that still runs ends: nobody handles an event that the replica set handles too.
func TestAnImportEndsManualProcessors(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.append("ada", 5)
	ended := make(chan error, 1)
	p := projection.NewPostgresProcessor(projection.ProcessorConfig{DB: w.application(), EventStore: w.store, Projection: recorder{name: "p"}, Logger: w.logs.Logger()})
	go func() { ended <- p.Run(t.Context()) }()
	w.awaitHandled("p", 5)
	w.await("5", "SELECT last_global_position FROM projection_checkpoints")
	done, err := w.admin("set").ImportCheckpoints(w.patiently(), "p", "")
	require.NoError(t, err)
	assert.EqualValues(t, 5, done.Position)
	w.append("ada", 5)
	require.ErrorIs(t, await(t, ended, "the manual runner to end"), projection.ErrCheckpointGone)
	err = p.Run(w.patiently()) // by whatever starts it again
	require.ErrorIs(t, err, projection.ErrProjectionImported)
	require.ErrorContains(t, err, `replica set "set" has taken over its checkpoints: run it there, or enter the rows to go on from into "public"."projection_checkpoints"`)
	w.await("0", "SELECT count(*) FROM projection_checkpoints")
	r := start(t, w.orchestrator("set"), recorder{name: "p"})
	w.awaitHandled("p", 10)
	require.NoError(t, r.stop())
}

// beforeStatement calls do once, before the first statement that contains text is sent.
type beforeStatement struct {
	text string
	do   func()
	fail bool // the statement, too
	once sync.Once
}

func (b *beforeStatement) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	fails := false
	if strings.Contains(d.SQL, b.text) {
		b.once.Do(func() {
			b.do()
			fails = b.fail
		})
	}
	if !fails {
		return ctx
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	return ended
}
func (b *beforeStatement) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// A processor has read its rows, and is about to replace them, when an import deletes them.
func TestAnImportWhileAProcessorArrangesItsRows(t *testing.T) {
	directOnly(t)
	for name, tt := range map[string]struct {
		rows    string
		blind   bool // the processor's role may not read the orchestrator's tables
		fails   bool // what the processor does fails, and it tries again
		ends    error
		handled string
	}{
		"the number of partitions changes":                     {"('p', 10)", false, false, projection.ErrProjectionImported, "0"},
		"the partition has no row yet":                         {"('p[1/2]', 10)", false, false, projection.ErrProjectionImported, "0"},
		"the role cannot see the import":                       {"('p', 10)", true, false, projection.ErrCheckpointGone, "0"},
		"the role cannot see the import, nor has the rows":     {"('p[1/2]', 10)", true, false, projection.ErrCheckpointGone, "0"},
		"the role cannot see the import, and an attempt fails": {"('p', 10)", true, true, projection.ErrCheckpointGone, "0"},
		"rows that have met are joined":                        {"('p[0/2:0-16384]', 5), ('p[0/2:16384-32768]', 10), ('p[1/2]', 10)", false, false, projection.ErrCheckpointGone, "5"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.append(w.aggregateIn(0, 16384), 10)
			w.exec("INSERT INTO projection_checkpoints (projection_name, last_global_position) VALUES " + tt.rows)
			role := w.role("manual", "")
			w.exec("GRANT SELECT ON events TO " + role + "; GRANT SELECT, INSERT, UPDATE, DELETE ON projection_checkpoints, handled TO " + role +
				"; GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO " + role)
			config := w.db.Config()
			if tt.blind {
				config.ConnConfig.User, config.ConnConfig.Password = role, "pw"
			}
			imported := make(chan error, 1)
			config.ConnConfig.Tracer = &beforeStatement{text: "pg_advisory_xact_lock", fail: tt.fails, do: func() {
				_, err := w.admin("set").ImportCheckpoints(w.patiently(), "p", "")
				imported <- err
			}}
			pool, err := pgxpool.NewWithConfig(t.Context(), config)
			require.NoError(t, err)
			t.Cleanup(pool.Close)
			p := projection.NewPostgresProcessor(projection.ProcessorConfig{DB: pool, EventStore: w.store, Projection: recorder{name: "p"}, Logger: w.logs.Logger(), TotalPartitions: 2})
			err = p.Run(w.patiently())
			require.NoError(t, await(t, imported, "the import"))
			require.ErrorIs(t, err, tt.ends)
			assert.Equal(t, tt.handled, w.value("SELECT count(*) FROM handled"))
			assert.Equal(t, "0", w.value("SELECT count(*) FROM projection_checkpoints"))
		})
	}
}

// aggregateIn is the name of an aggregate whose slot is in a range.
func (w *world) aggregateIn(from, to int) string {
	w.t.Helper()
	return w.value("SELECT min('a' || n) FROM generate_series(1, 1000) AS n WHERE hashtextextended('a' || n, 0) & 65535 >= $1 AND hashtextextended('a' || n, 0) & 65535 < $2", from, to)
}

// A processor whose partition has no row waits until the import has ended, and makes none then.
func TestProcessorsThatStartWaitForAnImport(t *testing.T) {
	w := newWorld(t)
	w.append("ada", 10)
	w.exec("INSERT INTO projection_checkpoints (projection_name, last_global_position) VALUES ('p[1/2]', 10)")
	tx := w.locked("orchestrator_operations") // which the import writes to last
	imported, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := w.admin("set").ImportCheckpoints(w.patiently(), "p", "")
		imported <- err
	}()
	w.await("true", waitsForLock)
	p := projection.NewPostgresProcessor(projection.ProcessorConfig{DB: w.application(), EventStore: w.store, Projection: recorder{name: "p"}, Logger: w.logs.Logger(), TotalPartitions: 2})
	go func() { ended <- p.Run(w.patiently()) }()
	const made = "EXISTS (SELECT FROM projection_checkpoints WHERE projection_name = 'p[0/2]')"
	w.await("true", "SELECT "+made+" OR EXISTS (SELECT FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) WHERE NOT l.granted AND l.locktype = 'advisory' AND a.datname = current_database())")
	require.Equal(t, "false", w.value("SELECT "+made), "the processor has begun though the projection is being imported")
	require.NoError(t, tx.Rollback(t.Context()))
	require.NoError(t, await(t, imported, "the import"))
	require.ErrorIs(t, await(t, ended, "the processor to end"), projection.ErrProjectionImported)
	assert.Equal(t, "0 0", w.value("SELECT (SELECT count(*) FROM handled), count(*) FROM projection_checkpoints"))
}

// While an import waits for rows, another program replaces them, without the lock by which processors of this library take turns.
func TestAnImportFindsRowsThatAreInsertedWhileItWaits(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.append("ada", 100)
	w.exec(`INSERT INTO projection_checkpoints (projection_name, last_global_position)
		VALUES ('p[0/2:0-16384]', 100), ('p[0/2:16384-32768]', 100), ('p[1/2]', 100)`)
	tx, err := w.db.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = tx.Exec(t.Context(), "DELETE FROM projection_checkpoints WHERE starts_with(projection_name, 'p[0/2:')")
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "INSERT INTO projection_checkpoints (projection_name, last_global_position) VALUES ('p[0/2]', 100)")
	require.NoError(t, err)
	ended := make(chan error, 1)
	var done admin.Import
	go func() {
		var err error
		done, err = w.admin("set").ImportCheckpoints(w.patiently(), "p", "")
		ended <- err
	}()
	w.await("true", waitsForLock)
	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, await(t, ended, "the import"))
	assert.Equal(t, []admin.ImportedRow{{Name: "p[0/2]", Position: 100}, {Name: "p[1/2]", Position: 100}}, done.Rows)
	assert.Equal(t, "0-65536 100", w.value("SELECT string_agg(slot_from || '-' || slot_to || ' ' || position, ', ' ORDER BY slot_from) FROM orchestrator_checkpoints"))
	assert.Equal(t, "0", w.value("SELECT count(*) FROM projection_checkpoints"), "a manual processor goes on with a row that is left")
}

// The row is of another events table: all projections of this one would stand still for it.
func TestAnImportAboveASequenceThatWasNeverUsedIsRefused(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.exec("INSERT INTO projection_checkpoints (projection_name, last_global_position) VALUES ('p', 50), ('q', 0)")
	_, err := w.admin("set").ImportCheckpoints(t.Context(), "p", "")
	require.ErrorContains(t, err, "a row is at position 50, and the events table has not given out any position")
	assert.Equal(t, "2 0", w.value("SELECT (SELECT count(*) FROM projection_checkpoints), count(*) FROM orchestrator_checkpoints"))
	_, err = w.admin("set").ImportCheckpoints(t.Context(), "q", "")
	require.NoError(t, err)
}

func TestImportOfWhatCannotBeExact(t *testing.T) {
	directOnly(t)
	for name, tt := range map[string]struct {
		rows   string
		starts int64
		repeat int64
		says   string
	}{
		"pupsourcing's partitions":           {"('p_p0', 7), ('p_p1', 4), ('p_p2', 9)", 4, 5, ""},
		"at one position":                    {"('p_p0', 7), ('p_p1', 7)", 7, 0, ""},
		"one that has handled nothing":       {"('p_p0', 7), ('p_p2', 7)", 0, 7, ""},
		"another projection's":               {"('p', 3), ('p_page', 9), ('p[x', 9), ('pp', 9)", 3, 0, ""},
		"partitions and one that is left":    {"('p', 3), ('p_p0', 7)", 0, 0, "contradict each other"},
		"numbers that contradict each other": {"('p[0/2]', 3), ('p[1/3]', 5)", 0, 0, "contradict each other"},
		"below 0":                            {"('p_p0', -1)", 0, 0, `the checkpoint "p_p0" is at -1: positions begin at 0`},
		"no row":                             {"('pp', 9)", 0, 0, `has no row for it; it has rows for "pp". A projection that is new needs no import`},
		"above the events":                   {"('p', 11)", 0, 0, "a row is at position 11, above the last position of the events table, 10"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.appendInTurn(5, "ada", "grace")
			w.exec("INSERT INTO projection_checkpoints (projection_name, last_global_position) VALUES " + tt.rows)
			before := w.value("SELECT count(*) FROM projection_checkpoints")
			done, err := w.admin("set").ImportCheckpoints(t.Context(), "p", "")
			if tt.says != "" {
				require.ErrorContains(t, err, tt.says)
				assert.Equal(t, before+" 0 0", w.value("SELECT (SELECT count(*) FROM projection_checkpoints), (SELECT count(*) FROM orchestrator_checkpoints), (SELECT count(*) FROM orchestrator_operations)"))
				return
			}
			require.NoError(t, err)
			assert.Equal(t, []int64{tt.starts, tt.repeat}, []int64{done.Position, done.MayRepeat})
			assert.Equal(t, tt.repeat > 0, done.Advice != "")
			r := start(t, w.orchestrator("set"), recorder{name: "p"})
			w.awaitHandled("p", 10-int(tt.starts))
			require.NoError(t, r.stop())
		})
	}
	w := newWorld(t)
	w.exec("INSERT INTO projection_checkpoints (projection_name, last_global_position) VALUES ('p', 3)")
	w.exec(`INSERT INTO projection_dead_letters (projection_name, global_position, event_id, event_type, bounded_context, aggregate_type, aggregate_id, state, attempts, last_error)
		VALUES ('p', 2, gen_random_uuid(), 'x', 'c', 't', 'a', 'parked', 1, '')`)
	_, err := w.admin("set").ImportCheckpoints(t.Context(), "p", "")
	require.ErrorContains(t, err, "has events that are parked, or at which the projection is stopped (1 in all)")
	_, err = w.admin("set").ImportCheckpoints(t.Context(), "", "")
	require.ErrorContains(t, err, "the projection's name must not be empty")
}

// A preview says what an import would come to, and leaves everything as it is.
func TestAnImportIsPreviewed(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.append("ada", 3)
	w.exec("INSERT INTO projection_checkpoints (projection_name, last_global_position) VALUES ('p_p0', 1), ('p_p1', 3)")
	got, err := w.admin("set").PreviewImport(t.Context(), "p")
	require.NoError(t, err)
	assert.Equal(t, []any{int64(0), int64(1), int64(2), 2}, []any{got.Operation, got.Position, got.MayRepeat, len(got.Rows)})
	assert.Equal(t, "0 0 2", w.value("SELECT (SELECT count(*) FROM orchestrator_checkpoints), (SELECT count(*) FROM orchestrator_operations), count(*) FROM projection_checkpoints"))
}

package projection_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/wire"
)

// appendTo appends an event to each of the aggregates in turn. In a new database their positions are 1, 2, 3 ….
func appendTo(t *testing.T, pool *pgxpool.Pool, store *eventstore.Store, aggregates ...string) {
	t.Helper()
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		for _, id := range aggregates {
			_, err := store.Append(t.Context(), tx, es.Any(), []es.Event{{
				BoundedContext: "shop", AggregateType: "Order", AggregateID: id, EventType: "Changed", Payload: []byte("{}"),
			}})
			if err != nil {
				return err
			}
		}
		return nil
	}))
}

// lettersOf lists the projections' dead letters.
func lettersOf(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	return textOf(t, pool, `SELECT coalesce(string_agg(concat_ws(' ', global_position, state, attempts), ', ' ORDER BY global_position), '') FROM projection_dead_letters`)
}

// parkedOf lists the parked aggregates and how many letters they have.
func parkedOf(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	return textOf(t, pool, `SELECT coalesce(string_agg(concat_ws(' ', aggregate_id, global_position, letters), ', ' ORDER BY aggregate_id), '') FROM projection_parked_aggregates`)
}

func textOf(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) (text string) {
	t.Helper()
	require.NoError(t, pool.QueryRow(t.Context(), sql, args...).Scan(&text))
	return text
}

// awaitText waits until a query returns the text.
func awaitText(t *testing.T, pool *pgxpool.Pool, want, sql string) {
	t.Helper()
	got := ""
	if !assert.Eventually(t, func() bool { return pool.QueryRow(t.Context(), sql).Scan(&got) == nil && got == want }, patience, tick) {
		require.Equal(t, want, got, sql)
	}
}

// failingAt is a projection "orders" that fails at positions with the error that fail returns.
func failingAt(kind string, fail func(e es.PersistedEvent) error) projection.Projection {
	return atEvent(func(_ context.Context, _ pgx.Tx, e es.PersistedEvent) error { return fail(e) })[kind]
}

func badAt(positions ...int64) func(es.PersistedEvent) error {
	return func(e es.PersistedEvent) error {
		if slices.Contains(positions, e.GlobalPosition) {
			return errBad
		}
		return nil
	}
}

// withPolicy is a configuration with an error policy and the failures that its hook is told of.
func withPolicy(pool *pgxpool.Pool, store *eventstore.Store, p projection.Projection, policy projection.ErrorPolicy) (projection.ProcessorConfig, *told) {
	policy.First = time.Millisecond
	config, hook := configFor(pool, store, p), &told{}
	config.ErrorPolicy, config.FailureHook = &policy, hook.tell
	return config, hook
}

// told is what a hook was told.
type told struct {
	mu   sync.Mutex
	list []string
}

func (h *told) tell(_ context.Context, f projection.Failure) {
	h.mu.Lock()
	defer h.mu.Unlock()
	text := fmt.Sprint(f.Event.GlobalPosition, " ", f.Attempt, " ", f.Class, " ")
	if f.Retry {
		h.list = append(h.list, text+"retry")
		return
	}
	h.list = append(h.list, text+f.Outcome.String())
}

func (h *told) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.list, ", ")
}

func TestProcessorSkipsAndParks(t *testing.T) {
	for _, kind := range []string{"one by one", "in batches"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			t.Run("skip", func(t *testing.T) {
				t.Parallel()
				pool, store := newStore(t)
				appendTo(t, pool, store, "a", "b", "a", "a", "b", "a")
				config, hook := withPolicy(pool, store, failingAt(kind, badAt(3)), projection.ErrorPolicy{Attempts: 3, Then: projection.Skip})
				stop := start(t, config)
				assert.Equal(t, []int64{1, 2, 4, 5, 6}, eventually(t, pool, 5))
				awaitText(t, pool, "6", `SELECT last_global_position::text FROM projection_checkpoints`)
				require.NoError(t, stop())
				assert.Equal(t, "3 skipped 3", lettersOf(t, pool))
				assert.Equal(t, "3 1 error retry, 3 2 error retry, 3 3 error skip", hook.String())
			})
			t.Run("park", func(t *testing.T) {
				t.Parallel()
				pool, store := newStore(t)
				appendTo(t, pool, store, "a", "b", "a", "a", "b", "a")
				fail := func(e es.PersistedEvent) error { return projection.Permanent(badAt(3)(e)) }
				config, hook := withPolicy(pool, store, failingAt(kind, fail), projection.ErrorPolicy{Attempts: 3, Then: projection.Park})
				stop := start(t, config)
				assert.Equal(t, []int64{1, 2, 5}, eventually(t, pool, 3))
				awaitText(t, pool, "6", `SELECT last_global_position::text FROM projection_checkpoints`)
				require.NoError(t, stop())
				assert.Equal(t, "3 parked 1, 4 parked 0, 6 parked 0", lettersOf(t, pool))
				assert.Equal(t, "a 3 3", parkedOf(t, pool))
				assert.Equal(t, "3 1 permanent park", hook.String())

				config.ErrorPolicy, config.FailureHook = nil, nil // what is parked stays parked, whatever the policy is by then
				stop = start(t, config)
				appendTo(t, pool, store, "a", "b")
				assert.Equal(t, []int64{1, 2, 5, 8}, eventually(t, pool, 4))
				execute(t, pool, `DELETE FROM projection_parked_aggregates WHERE aggregate_id = 'a'; DELETE FROM projection_dead_letters WHERE aggregate_id = 'a'`)
				appendTo(t, pool, store, "a")
				assert.Equal(t, []int64{1, 2, 5, 8, 9}, eventually(t, pool, 5), "its next event is handled when it was discarded")
				require.NoError(t, stop())
				assert.Empty(t, lettersOf(t, pool))
			})
		})
	}
}

// Somebody has emptied the events table and set the checkpoint back. Letters of earlier events at the same positions are still there.
func TestAProcessorsLetterAtAPositionThatIsGivenAgain(t *testing.T) {
	t.Parallel()
	pool, store := newStore(t)
	execute(t, pool, `INSERT INTO projection_dead_letters (projection_name, global_position, event_id, event_type, bounded_context, aggregate_type, aggregate_id, state, attempts, last_error)
		SELECT 'orders', n, gen_random_uuid(), 'Earlier', 'shop', 'Order', 'gone', 'skipped', 7, 'earlier' FROM generate_series(1, 4) AS n`)
	appendTo(t, pool, store, "a", "b", "a", "a")
	config, _ := withPolicy(pool, store, failingAt("one by one", badAt(1)), projection.ErrorPolicy{Attempts: 1, Then: projection.Park})
	stop := start(t, config)
	assert.Equal(t, []int64{2}, eventually(t, pool, 1))
	awaitText(t, pool, "4", `SELECT last_global_position::text FROM projection_checkpoints`)
	require.NoError(t, stop())
	assert.Equal(t, "1 a 1, 3 a 0, 4 a 0", textOf(t, pool, `SELECT string_agg(concat_ws(' ', global_position, d.aggregate_id, d.attempts), ', ' ORDER BY global_position)
		FROM projection_dead_letters AS d JOIN events AS e USING (global_position, event_id, event_type, aggregate_id)`))
}

// An error's text may have characters that the database has not. What becomes of the event must be recorded all the same.
func TestProcessorRecordsOutcomesInAnyEncoding(t *testing.T) {
	pgtest.SkipBehindPooler(t, "the database is the test's own")
	server, store := newStore(t)
	name := server.Config().ConnConfig.Database + "_encoded"
	execute(t, server, "CREATE DATABASE "+name+" TEMPLATE template0 LOCALE 'C' ENCODING 'LATIN1'")
	t.Cleanup(func() {
		_, err := server.Exec(context.Background(), "DROP DATABASE "+name)
		assert.NoError(t, err)
	})
	pool := sameDatabase(t, server, func(c *pgxpool.Config) {
		c.ConnConfig.Database, c.ConnConfig.RuntimeParams["client_encoding"] = name, "UTF8"
	})
	require.NoError(t, eventstore.RunMigrations(pool))
	execute(t, pool, `CREATE TABLE handled (position bigint, aggregate_id text, by text, n bigserial)`)
	appendTo(t, pool, store, "a")
	fail := func(es.PersistedEvent) error { return errors.New("für Zoë → 4711") }
	config, _ := withPolicy(pool, store, failingAt("one by one", fail), projection.ErrorPolicy{Attempts: 2, Then: projection.Skip})
	stop := start(t, config)
	awaitText(t, pool, `skipped 2 für Zoë \u2192 4711`, `SELECT concat_ws(' ', state, attempts, last_error) FROM projection_dead_letters`)
	require.NoError(t, stop())
}

// blind is an error whose methods do not expect a nil pointer.
type blind struct{ cause error }

func (b *blind) Error() string { return b.cause.Error() }
func (b *blind) Unwrap() error { return b.cause }

// A nil pointer that a handler returns as an error is the failure of its event, whatever the error's methods do with it.
func TestAnErrorWhoseMethodsPanicIsAFailure(t *testing.T) {
	for _, kind := range []string{"one by one", "in batches"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			pool, store := newStore(t)
			appendTo(t, pool, store, "a", "b", "a")
			fail := func(e es.PersistedEvent) error {
				if e.GlobalPosition == 1 {
					var none *blind
					return none
				}
				return nil
			}
			config, hook := withPolicy(pool, store, failingAt(kind, fail), projection.ErrorPolicy{Attempts: 1, Then: projection.Park})
			stop := start(t, config)
			assert.Equal(t, []int64{2}, eventually(t, pool, 1))
			awaitText(t, pool, "3", `SELECT last_global_position::text FROM projection_checkpoints`)
			require.NoError(t, stop())
			assert.Equal(t, "1 parked 1, 3 parked 0", lettersOf(t, pool))
			assert.Equal(t, "1 1 error park", hook.String())
		})
	}
}

func TestProcessorStaysStopped(t *testing.T) {
	for _, kind := range []string{"one by one", "in batches"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			pool, store := newStore(t)
			appendTo(t, pool, store, "a", "b", "a", "b")
			config, hook := withPolicy(pool, store, failingAt(kind, badAt(3)), projection.ErrorPolicy{Attempts: 2})
			err := untilError(t, config)
			var stopped *projection.StoppedError
			require.ErrorAs(t, err, &stopped)
			require.ErrorIs(t, err, errBad)
			assert.Equal(t, int64(3), stopped.Position)
			assert.Equal(t, "3 stopped 2", lettersOf(t, pool))
			assert.Equal(t, "3 1 error retry, 3 2 error stop", hook.String())
			assert.Equal(t, int64(2), checkpointOf(t, pool, "orders"))

			config, hook = withPolicy(pool, store, failingAt(kind, badAt()), projection.ErrorPolicy{Attempts: 2})
			err = untilError(t, config)
			require.ErrorAs(t, err, &stopped)
			require.ErrorContains(t, err, "bad event")
			assert.Equal(t, int64(3), stopped.Position)
			config.ErrorPolicy = nil
			require.ErrorIs(t, untilError(t, config), projection.ErrProjectionStopped, "without a policy it is stopped too")
			assert.Equal(t, []int64{1, 2}, handledPositions(t, pool))
			assert.Empty(t, hook.String())

			execute(t, pool, `DELETE FROM projection_dead_letters WHERE state = 'stopped'`)
			stop := start(t, config)
			assert.Equal(t, []int64{1, 2, 3, 4}, eventually(t, pool, 4))
			require.NoError(t, stop())
			assert.Empty(t, lettersOf(t, pool))
		})
	}
}

// A person skips the event by moving the checkpoint past it: while it is stopped at, or retried.
func TestAPersonSkipsAProcessorsEvent(t *testing.T) {
	t.Run("stopped", func(t *testing.T) {
		t.Parallel()
		pool, store := newStore(t)
		appendTo(t, pool, store, "a", "b", "a", "b")
		config, _ := withPolicy(pool, store, failingAt("one by one", badAt(2)), projection.ErrorPolicy{Attempts: 1})
		require.ErrorIs(t, untilError(t, config), projection.ErrProjectionStopped)
		execute(t, pool, `UPDATE projection_checkpoints SET last_global_position = 2`)
		stop := start(t, config)
		assert.Equal(t, []int64{1, 3, 4}, eventually(t, pool, 3))
		require.NoError(t, stop())
		assert.Equal(t, "2 skipped 1", lettersOf(t, pool))

		execute(t, pool, `UPDATE projection_checkpoints SET last_global_position = 0`) // a rebuild
		config, _ = withPolicy(pool, store, failingAt("one by one", badAt()), projection.ErrorPolicy{Attempts: 1})
		stop = start(t, config)
		assert.Equal(t, []int64{1, 3, 4, 1, 2, 3, 4}, eventually(t, pool, 7))
		require.NoError(t, stop())
		assert.Empty(t, lettersOf(t, pool), "an event that was handled after all has no row")
	})
	t.Run("retried", func(t *testing.T) {
		t.Parallel()
		pool, store := newStore(t)
		appendTo(t, pool, store, "a", "b", "a", "b")
		fail := func(e es.PersistedEvent) error { return projection.RetryAfter(time.Hour, badAt(2)(e)) }
		config, hook := withPolicy(pool, store, failingAt("one by one", fail), projection.ErrorPolicy{Attempts: 9})
		stop := start(t, config)
		awaitText(t, pool, "retrying", `SELECT coalesce(max(state), '') FROM projection_dead_letters`)
		eventually(t, pool, 1)
		execute(t, pool, `UPDATE projection_checkpoints SET last_global_position = 2`)
		assert.Equal(t, []int64{1, 3, 4}, eventually(t, pool, 3))
		require.NoError(t, stop())
		assert.Equal(t, "2 skipped 1", lettersOf(t, pool))
		assert.Equal(t, "2 1 error retry", hook.String())
	})
	t.Run("in a batch that is retried", func(t *testing.T) {
		t.Parallel()
		pool, store := newStore(t)
		appendTo(t, pool, store, "a", "b", "a", "b")
		var calls atomic.Int32
		fail := func(e es.PersistedEvent) error {
			calls.Add(1)
			return projection.RetryAfter(time.Hour, badAt(2)(e))
		}
		config, _ := withPolicy(pool, store, failingAt("in batches", fail), projection.ErrorPolicy{Attempts: 9})
		stop := start(t, config)
		require.Eventually(t, func() bool { return calls.Load() >= 2 }, patience, tick, "the batch does not fail")
		execute(t, pool, `UPDATE projection_checkpoints SET last_global_position = 2`)
		assert.Equal(t, []int64{3, 4}, eventually(t, pool, 2))
		require.NoError(t, stop())
	})
}

// A rebuild begins while the next attempt at an event is an hour away. It does not wait for that, and has the handler try the event again.
func TestARebuildDoesNotWaitForAProcessorsRetry(t *testing.T) {
	t.Parallel()
	pool, store := newStore(t)
	appendTo(t, pool, store, "a", "b", "a", "b")
	var repaired atomic.Bool
	fail := func(e es.PersistedEvent) error {
		if repaired.Load() {
			return nil
		}
		return projection.RetryAfter(time.Hour, badAt(3)(e))
	}
	config, _ := withPolicy(pool, store, failingAt("one by one", fail), projection.ErrorPolicy{Attempts: 9})
	stop := start(t, config)
	eventually(t, pool, 2)
	awaitText(t, pool, "retrying", `SELECT coalesce(max(state), '') FROM projection_dead_letters`)
	repaired.Store(true)
	execute(t, pool, `UPDATE projection_checkpoints SET last_global_position = 0`)
	assert.Equal(t, []int64{1, 2, 1, 2, 3, 4}, eventually(t, pool, 6))
	require.NoError(t, stop())
	assert.Empty(t, lettersOf(t, pool))
}

// A policy calls an error of another database ClassDatabase, whatever its code. Run does not end with it.
func TestAnotherDatabasesErrorEndsNoProcessor(t *testing.T) {
	t.Parallel()
	pool, store := newStore(t)
	appendTo(t, pool, store, "a", "b", "a", "b")
	var calls atomic.Int32
	fail := func(e es.PersistedEvent) error {
		if e.GlobalPosition == 3 && calls.Add(1) < 4 {
			return &pgconn.PgError{Severity: "ERROR", Code: "42P01", Message: "there is no such table yet"}
		}
		return nil
	}
	config, hook := withPolicy(pool, store, failingAt("one by one", fail), projection.ErrorPolicy{
		Attempts: 1, Classify: func(error) projection.Class { return projection.ClassDatabase },
	})
	stop := start(t, config)
	assert.Equal(t, []int64{1, 2, 3, 4}, eventually(t, pool, 4))
	require.NoError(t, stop())
	assert.Empty(t, hook.String())
}

// A handler needs another database for one event, and that is away. The events before it are committed without it, and the next attempt comes when the handler
// asked for it.
func TestProcessorWaitsForAnotherDatabase(t *testing.T) {
	t.Parallel()
	pool, store := newStore(t)
	appendTo(t, pool, store, "a", "b", "c", "d", "e", "f", "g", "h", "i")
	var calls atomic.Int32
	config, _ := withPolicy(pool, store, atEvent(func(ctx context.Context, _ pgx.Tx, e es.PersistedEvent) error {
		if e.GlobalPosition != 8 {
			return nil
		}
		calls.Add(1)
		_, err := pgx.Connect(ctx, "postgres://127.0.0.1:1/elsewhere?connect_timeout=5")
		return projection.RetryAfter(time.Hour, err)
	})["one by one"], projection.ErrorPolicy{Attempts: 1})
	stop := start(t, config)
	assert.Equal(t, []int64{1, 2, 3, 4, 5, 6, 7}, eventually(t, pool, 7))
	require.Eventually(t, func() bool { return calls.Load() >= 2 }, patience, tick, "the event is not tried by itself")
	execute(t, pool, `UPDATE projection_checkpoints SET last_global_position = 8`)
	assert.Equal(t, []int64{1, 2, 3, 4, 5, 6, 7, 9}, eventually(t, pool, 8))
	require.NoError(t, stop())
	assert.EqualValues(t, 2, calls.Load())
}

// Without a policy, SELECT is enough for the tables of failed events, unless a run with one has parked an aggregate that gets another event.
func TestAProcessorWithoutAPolicyNamesTheRightsThatParkedEventsNeed(t *testing.T) {
	t.Parallel()
	pool, store := newStore(t)
	appendTo(t, pool, store, "a", "b")
	config, _ := withPolicy(pool, store, failingAt("one by one", badAt(1)), projection.ErrorPolicy{Attempts: 1, Then: projection.Park})
	stop := start(t, config)
	awaitText(t, pool, "2", `SELECT last_global_position::text FROM projection_checkpoints`)
	require.NoError(t, stop())
	role := newRole(t, pool)
	user := pgx.Identifier{textOf(t, role, `SELECT current_user`)}.Sanitize()
	execute(t, pool, `GRANT ALL ON ALL TABLES IN SCHEMA public TO `+user+`; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO `+user+`;
		REVOKE INSERT, UPDATE, DELETE ON projection_dead_letters, projection_parked_aggregates FROM `+user)
	appendTo(t, pool, store, "a")
	err := untilError(t, configFor(role, store, failingAt("one by one", badAt())))
	require.ErrorContains(t, err, `GRANT DELETE, INSERT, UPDATE ON`)
	require.ErrorContains(t, err, `projection_dead_letters`)
}

func TestProcessorCountsAttemptsOverRuns(t *testing.T) {
	t.Parallel()
	pool, store := newStore(t)
	appendTo(t, pool, store, "a", "b", "a")
	fail := func(e es.PersistedEvent) error { return projection.RetryAfter(time.Hour, badAt(2)(e)) }
	for attempt := range 3 {
		config, hook := withPolicy(pool, store, failingAt("one by one", fail), projection.ErrorPolicy{Attempts: 3, Then: projection.Skip})
		stop := start(t, config)
		state := map[bool]string{true: "skipped", false: "retrying"}[attempt == 2]
		awaitText(t, pool, fmt.Sprint("2 ", state, " ", attempt+1), `SELECT coalesce(max(concat_ws(' ', global_position, state, attempts)), '') FROM projection_dead_letters`)
		// The hook is told after the answer to what the table shows already.
		want := fmt.Sprintf("2 %d error %s", attempt+1, map[bool]string{true: "skip", false: "retry"}[attempt == 2])
		require.Eventually(t, func() bool { return hook.String() == want }, patience, tick, "the hook was told something else")
		require.NoError(t, stop())
	}
}

func TestProcessorTimesHandlersOut(t *testing.T) {
	pgtest.SkipBehindPooler(t, "nothing here is another through a pooler")
	for _, kind := range []string{"one by one", "in batches"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			pool, store := newStore(t)
			appendTo(t, pool, store, "a", "b", "a")
			p := atEvent(func(ctx context.Context, _ pgx.Tx, e es.PersistedEvent) error {
				if e.GlobalPosition != 2 {
					return nil
				}
				<-ctx.Done()
				return errors.Join(errBad, context.Cause(ctx))
			})[kind]
			config, hook := withPolicy(pool, store, p, projection.ErrorPolicy{Attempts: 2, Timeout: 2 * time.Second, Then: projection.Skip})
			stop := start(t, config)
			assert.Equal(t, []int64{1, 3}, eventually(t, pool, 2))
			awaitText(t, pool, "2 skipped 2", `SELECT concat_ws(' ', global_position, state, attempts) FROM projection_dead_letters`)
			require.NoError(t, stop())
			assert.Equal(t, "2 1 timeout retry, 2 2 timeout skip", hook.String())
		})
	}
}

func TestCapsOfAProcessorsParking(t *testing.T) {
	pgtest.SkipBehindPooler(t, "nothing here is another through a pooler")
	t.Run("aggregates", func(t *testing.T) {
		t.Parallel()
		pool, store := newStore(t)
		appendTo(t, pool, store, "a", "b", "c", "d")
		config, hook := withPolicy(pool, store, failingAt("one by one", badAt(1, 3)), projection.ErrorPolicy{Attempts: 1, Then: projection.Park, MaxParked: 1})
		err := untilError(t, config)
		require.ErrorContains(t, err, "MaxParked")
		require.ErrorIs(t, err, errBad)
		assert.Equal(t, "1 parked 1, 3 stopped 1", lettersOf(t, pool))
		assert.Equal(t, []int64{2}, handledPositions(t, pool))
		assert.Equal(t, "1 1 error park, 3 1 error stop", hook.String())
	})
	t.Run("letters", func(t *testing.T) {
		t.Parallel()
		pool, store := newStore(t)
		appendTo(t, pool, store, "a", "b", "a", "b", "a", "b")
		config, _ := withPolicy(pool, store, failingAt("one by one", badAt(1)), projection.ErrorPolicy{Attempts: 1, Then: projection.Park, MaxParkedEvents: 2})
		require.ErrorContains(t, untilError(t, config), "MaxParkedEvents")
		assert.Equal(t, "1 parked 1, 3 parked 0, 5 stopped 0", lettersOf(t, pool))
		assert.Equal(t, []int64{2, 4}, handledPositions(t, pool))
		assert.Equal(t, "a 1 2", parkedOf(t, pool))
	})
	t.Run("of an unpartitioned projection", func(t *testing.T) {
		t.Parallel()
		pool, store := newStore(t)
		config, _ := withPolicy(pool, store, &undivided{each{name: "u"}}, projection.ErrorPolicy{Then: projection.Park})
		require.ErrorContains(t, untilError(t, config), `ErrorPolicy is invalid: Then must not be Park, since the projection "u" is unpartitioned`)
		config, _ = withPolicy(pool, store, recorder("u"), projection.ErrorPolicy{Attempts: -1})
		require.ErrorContains(t, untilError(t, config), "ErrorPolicy is invalid: Attempts must not be negative, got -1")
	})
}

// policied has an error policy of its own.
type policied struct {
	each
	policy projection.ErrorPolicy
}

func (p *policied) ErrorPolicy() projection.ErrorPolicy { return p.policy }

func TestProcessorAsksItsProjectionForAPolicy(t *testing.T) {
	pgtest.SkipBehindPooler(t, "nothing here is another through a pooler")
	t.Parallel()
	pool, store := newStore(t)
	appendTo(t, pool, store, "a", "b", "a")
	one := failingAt("one by one", badAt(2)).(*each)
	stop := start(t, configFor(pool, store, &policied{*one, projection.ErrorPolicy{Attempts: 1, Then: projection.Skip}}))
	assert.Equal(t, []int64{1, 3}, eventually(t, pool, 2))
	require.NoError(t, stop())

	one.name = "other"
	config, _ := withPolicy(pool, store, &policied{*one, projection.ErrorPolicy{Attempts: 1, Then: projection.Skip}}, projection.ErrorPolicy{Attempts: 1})
	require.ErrorIs(t, untilError(t, config), projection.ErrProjectionStopped, "the processor's own counts first")
	config, _ = withPolicy(pool, store, &policied{*recorder("bad"), projection.ErrorPolicy{Then: 7}}, projection.ErrorPolicy{})
	config.ErrorPolicy = nil
	require.ErrorContains(t, untilError(t, config), "Projection has an ErrorPolicy that is invalid: Then must be Stop, Skip or Park, got 7")
}

func TestProcessorNeedsTheTablesOfItsPolicy(t *testing.T) {
	pgtest.SkipBehindPooler(t, "it connects as a role of its own")
	pool, store := newStore(t)
	appendTo(t, pool, store, "a")
	role := "lettersrole" + textOf(t, pool, `SELECT pg_backend_pid()::text`)
	execute(t, pool, fmt.Sprintf(`CREATE ROLE %s LOGIN PASSWORD 'x'; GRANT SELECT ON events, events_global_position_seq TO %[1]s; GRANT SELECT, INSERT, UPDATE, DELETE ON projection_checkpoints TO %[1]s`, role))
	t.Cleanup(func() { _, _ = pool.Exec(context.Background(), fmt.Sprintf(`DROP OWNED BY %s; DROP ROLE %[1]s`, role)) })
	limited := sameDatabase(t, pool, func(c *pgxpool.Config) { c.ConnConfig.User, c.ConnConfig.Password = role, "x" })
	config, _ := withPolicy(limited, store, recorder("orders"), projection.ErrorPolicy{Attempts: 1, Then: projection.Park})
	require.ErrorContains(t, untilError(t, config), "GRANT DELETE, INSERT, SELECT, UPDATE ON public.projection_dead_letters TO "+role)
	config.ErrorPolicy = nil
	require.ErrorContains(t, untilError(t, config), "GRANT SELECT ON public.projection_dead_letters TO "+role, "what others have parked is heeded")

	execute(t, pool, `ALTER TABLE projection_dead_letters ENABLE ROW LEVEL SECURITY; GRANT SELECT ON projection_dead_letters, projection_parked_aggregates TO `+role)
	require.ErrorContains(t, untilError(t, config), "row-level security", "a stop that a policy hides is no less a stop")

	execute(t, pool, `DROP TABLE projection_parked_aggregates`)
	config, _ = withPolicy(pool, store, recorder("orders"), projection.ErrorPolicy{Attempts: 1, Then: projection.Park})
	require.ErrorContains(t, untilError(t, config), `the error policy needs the tables "public"."projection_dead_letters" and "public"."projection_parked_aggregates", which are not there: eventstore.RunMigrations makes them`)
	for _, config.ErrorPolicy = range []*projection.ErrorPolicy{nil, {}} {
		stop := start(t, config)
		eventually(t, pool, 1)
		require.NoError(t, stop(), "without an outcome to record, pupsourcing's tables are enough")
	}
}

// The checkpoint does not move when a processor stops at the next event. Another one of the partition must notice all the same.
func TestProcessorsOfOnePartitionStopTogether(t *testing.T) {
	pgtest.SkipBehindPooler(t, "nothing here is another through a pooler")
	t.Parallel()
	pool, store := newStore(t)
	appendTo(t, pool, store, "a", "b")
	var stopped atomic.Bool
	waiting := make(chan struct{})
	wait := sync.OnceFunc(func() { close(waiting) })
	late, _ := withPolicy(pool, store, failingAt("one by one", func(e es.PersistedEvent) error {
		if e.GlobalPosition == 1 && !stopped.Load() {
			wait()
			return projection.RetryAfter(50*time.Millisecond, errBad)
		}
		return nil
	}), projection.ErrorPolicy{Attempts: 1 << 20})
	ended := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() { ended <- projection.NewPostgresProcessor(late).Run(ctx) }()
	<-waiting
	first, _ := withPolicy(pool, store, failingAt("one by one", badAt(1)), projection.ErrorPolicy{Attempts: 1})
	require.ErrorIs(t, untilError(t, first), projection.ErrProjectionStopped)
	stopped.Store(true)
	require.ErrorIs(t, <-ended, projection.ErrProjectionStopped)
	assert.Empty(t, handledPositions(t, pool))
}

// Two processors of one partition park and put aside beside each other: each event is handled once, or is a letter.
func TestProcessorsOfOnePartitionParkTogether(t *testing.T) {
	pgtest.SkipBehindPooler(t, "nothing here is another through a pooler")
	t.Parallel()
	pool, store := newStore(t)
	var aggregates []string
	for i := range 120 {
		aggregates = append(aggregates, fmt.Sprint("a", i%7))
	}
	appendTo(t, pool, store, aggregates...)
	for range 2 {
		config, _ := withPolicy(pool, store, failingAt("one by one", badAt(20, 33, 54)), projection.ErrorPolicy{Attempts: 2, Then: projection.Park})
		config.BatchSize = 5
		start(t, config)
	}
	awaitText(t, pool, "120", `SELECT ((SELECT count(*) FROM handled) + (SELECT count(*) FROM projection_dead_letters WHERE state = 'parked'))::text`)
	appendTo(t, pool, store, aggregates...)
	awaitText(t, pool, "240", `SELECT ((SELECT count(*) FROM handled) + (SELECT count(*) FROM projection_dead_letters WHERE state = 'parked'))::text`)
	assert.Empty(t, textOf(t, pool, `SELECT coalesce(string_agg(position::text, ','), '') FROM handled WHERE position IN (SELECT global_position FROM projection_dead_letters)`))
	assert.Equal(t, "true", textOf(t, pool, `SELECT (count(*) = count(DISTINCT position))::text FROM handled`))
	assert.Equal(t, "a4 33 30, a5 20 32", parkedOf(t, pool))
	assertInOrder(t, pool)
}

// Another processor of the partition may handle an event that has failed here, before it has its outcome. Then it has none.
func TestAnotherProcessorHandlesTheEventThatFailed(t *testing.T) {
	pgtest.SkipBehindPooler(t, "nothing here is another through a pooler")
	t.Parallel()
	pool, store := newStore(t)
	appendTo(t, pool, store, "a", "b")
	var once sync.Once
	var outcomes atomic.Int64
	policy := projection.ErrorPolicy{Attempts: 1, Then: projection.Skip}
	policy.Classify = func(err error) projection.Class { // is called between the failure and its outcome
		once.Do(func() {
			other, _ := withPolicy(pool, store, failingAt("one by one", badAt()), projection.ErrorPolicy{})
			stop := start(t, other)
			awaitText(t, pool, "true", `SELECT (count(*) = 2)::text FROM handled`)
			assert.NoError(t, stop())
			appendTo(t, pool, store, "b") // which only the first one is there to handle
		})
		return projection.DefaultClass(err)
	}
	config, _ := withPolicy(pool, store, failingAt("one by one", badAt(1)), policy)
	config.FailureHook = func(context.Context, projection.Failure) { outcomes.Add(1) }
	stop := start(t, config)
	awaitText(t, pool, "3", `SELECT last_global_position::text FROM projection_checkpoints`)
	require.NoError(t, stop())
	assert.Equal(t, "3 0", textOf(t, pool, `SELECT concat((SELECT count(*) FROM handled), ' ', (SELECT count(*) FROM projection_dead_letters))`))
	assert.Zero(t, outcomes.Load(), "it was told of an outcome that there was not")
}

// assertInOrder checks that each aggregate's events were handled in order, and none of a parked one after its first letter.
func assertInOrder(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	assert.Equal(t, "0", textOf(t, pool, `SELECT count(*)::text FROM (SELECT position < lag(position) OVER (PARTITION BY aggregate_id ORDER BY n) AS back FROM handled) AS h WHERE back`))
	assert.Equal(t, "0", textOf(t, pool, `SELECT count(*)::text FROM handled AS h JOIN projection_parked_aggregates AS p USING (aggregate_id) WHERE h.position >= p.global_position`))
	assert.Equal(t, "0", textOf(t, pool, `SELECT count(*)::text FROM projection_parked_aggregates AS p
		WHERE letters <> (SELECT count(*) FROM projection_dead_letters AS d WHERE d.aggregate_id = p.aggregate_id AND d.state = 'parked')`))
}

// What is parked and where the projection is stopped follows the slots when the number of partitions changes.
func TestParkedAggregatesFollowTheSlotsOfProcessors(t *testing.T) {
	pgtest.SkipBehindPooler(t, "nothing here is another through a pooler")
	t.Parallel()
	pool, store := newStore(t)
	names := strings.Fields("a b c d e f g h")
	appendTo(t, pool, store, names...)
	run := func(total int, until string) {
		t.Helper()
		var stops []func() error
		for k := range total {
			config, _ := withPolicy(pool, store, failingAt("one by one", badAt(2, 5, 8)), projection.ErrorPolicy{Attempts: 1, Then: projection.Park})
			config.PartitionKey, config.TotalPartitions = k, total
			stops = append(stops, start(t, config))
		}
		awaitText(t, pool, until, `SELECT concat((SELECT count(*) FROM handled), ' ', (SELECT count(*) FROM projection_dead_letters))`)
		for _, stop := range stops {
			require.NoError(t, stop())
		}
		assertInOrder(t, pool)
	}
	run(2, "5 3")
	appendTo(t, pool, store, names...)
	run(3, "10 6")
	appendTo(t, pool, store, names...)
	run(1, "15 9")
	assert.Equal(t, "b 2 3, e 5 3, h 8 3", parkedOf(t, pool))

	appendTo(t, pool, store, "a") // position 25
	config, _ := withPolicy(pool, store, failingAt("one by one", badAt(25)), projection.ErrorPolicy{Attempts: 1})
	require.ErrorIs(t, untilError(t, config), projection.ErrProjectionStopped)
	for k := range 2 {
		config.PartitionKey, config.TotalPartitions = k, 2
		require.ErrorIs(t, untilError(t, config), projection.ErrProjectionStopped, "all slots of the partition that stopped wait")
	}
}

// The connection breaks when a processor records an attempt or an outcome: before the server gets it, or with the answer.
func TestProcessorsOutcomesSurviveCuts(t *testing.T) {
	pgtest.SkipBehindPooler(t, "nothing here is another through a pooler")
	pgtest.SkipBehindPooler(t, "it has a proxy of its own")
	for name, then := range map[string]projection.Outcome{"stop": projection.Stop, "skip": projection.Skip, "park": projection.Park} {
		for what, where := range map[string]string{"attempt": "'retrying', $11::bigint", "outcome": "slot_from, slot_to)\nVALUES"} {
			for _, answer := range []bool{false, true} {
				kind := map[bool]string{true: "answer of the ", false: "message of the "}[answer] + what
				t.Run(name+", "+kind, func(t *testing.T) {
					t.Parallel()
					pool, store := newStore(t)
					appendTo(t, pool, store, "a", "b", "a", "b", "a")
					server := pool.Config().ConnConfig
					proxy, err := wire.Listen(t.Context(), fmt.Sprintf("%s:%d", server.Host, server.Port))
					require.NoError(t, err)
					t.Cleanup(func() { _ = proxy.Close() })
					cut := sameDatabase(t, pool, func(c *pgxpool.Config) {
						proxy.Through(&c.ConnConfig.Config)
						c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec // each message has the statement
					})
					lose := proxy.LoseMessage
					if answer {
						lose = func(match []byte) <-chan struct{} { return proxy.LoseAnswer(match, nil) }
					}
					sprung := lose([]byte(where))
					config, hook := withPolicy(cut, store, failingAt("one by one", badAt(3)), projection.ErrorPolicy{Attempts: 2, Then: then})
					var stop func() error
					if then == projection.Stop {
						err := untilError(t, config)
						require.ErrorIs(t, err, projection.ErrProjectionStopped)
						assert.Equal(t, []int64{1, 2}, handledPositions(t, pool))
						stop = func() error { return nil }
					} else {
						stop = start(t, config)
						awaitText(t, pool, "5", `SELECT last_global_position::text FROM projection_checkpoints`)
					}
					<-sprung
					require.NoError(t, stop())
					want := map[projection.Outcome][2]string{
						projection.Stop: {"1 2", "3 stopped"}, projection.Skip: {"1 2 4 5", "3 skipped"}, projection.Park: {"1 2 4", "3 parked, 5 parked"},
					}[then]
					assert.Equal(t, want[0], textOf(t, pool, `SELECT string_agg(position::text, ' ' ORDER BY n) FROM handled`))
					assert.Equal(t, want[1], textOf(t, pool, `SELECT string_agg(concat_ws(' ', global_position, state), ', ' ORDER BY global_position) FROM projection_dead_letters`))
					assert.Equal(t, 1, strings.Count(hook.String(), name), "the outcome is told once: %s", hook)
					assertInOrder(t, pool)
				})
			}
		}
	}
}

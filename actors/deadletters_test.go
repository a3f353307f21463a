package actors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
)

// The record of failed events is an aid: whatever is the matter with it, events are handled and none is blamed. In the end it is true.
func TestTheRecordOfFailuresHoldsUpNothing(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		spoil, repair string // without repair, it is a lock that ends
		level         slog.Level
	}{
		"a right is revoked": {`REVOKE ALL ON orchestrator_dead_letters FROM {role}`, `GRANT ALL ON orchestrator_dead_letters TO {role}`, slog.LevelError},
		"a row is changed":   {`UPDATE orchestrator_dead_letters SET last_error = 'mine'`, "", slog.LevelWarn},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			role := f.role("one")
			f.exec(`GRANT ALL ON SCHEMA public TO ` + role)
			want := f.append("Order", 10)
			var repaired atomic.Bool
			bad := &recorder{name: "p", before: func(_ context.Context, _ pgx.Tx, e es.PersistedEvent, _ int) error {
				if e.GlobalPosition == want[4] && !repaired.Load() {
					return errors.New("not yet")
				}
				return nil
			}}
			r := f.start(f.as(role), bad)
			eventually(t, func() bool {
				return query[int](f, `SELECT count(*) FROM orchestrator_dead_letters WHERE global_position = $1`, want[4]) == 1
			}, "the failure is not recorded")
			fill := strings.NewReplacer("{role}", role).Replace
			mend := func() { f.exec(fill(test.repair)) }
			if test.repair != "" {
				f.exec(fill(test.spoil))
			} else {
				person, err := f.pool.Begin(t.Context())
				require.NoError(t, err)
				_, err = person.Exec(t.Context(), test.spoil)
				require.NoError(t, err)
				mend = func() { require.NoError(t, person.Commit(t.Context())) }
			}
			repaired.Store(true)
			f.awaitHandled("p", want)
			f.start(f.as(role), &recorder{name: "q"}) // a change of generation, and all events of another projection
			f.awaitHandled("q", want)
			line := r.log.Await(t, "the record of failed events")
			assert.Equal(t, test.level, line.Level)
			if test.level == slog.LevelError {
				assert.NotEmpty(t, line.Attrs["remedy"])
			}
			eventually(t, func() bool { return r.count("database_errors_total", "operation", "record") >= 1 }, "no metric says so")
			mend()
			eventually(t, func() bool {
				return query[int](f, `SELECT count(*) FROM orchestrator_dead_letters WHERE state = 'handled'`) == 1
			}, "it is not recorded in the end")
			assert.Equal(t, 1, query[int](f, `SELECT count(*) FROM orchestrator_dead_letters`), "other events are blamed")
			assert.Empty(t, r.log.Find("was skipped"))
		})
	}
}

// A table that is away when a worker starts delays nothing.
func TestAWorkerStartsWithoutTheRecordOfFailures(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	want := f.append("Order", 10)
	f.exec(`ALTER TABLE orchestrator_dead_letters RENAME TO away`)
	r := f.start(nil, &recorder{name: "p"})
	f.awaitHandled("p", want)
	r.log.Await(t, "the record of failed events")
	f.exec(`ALTER TABLE away RENAME TO orchestrator_dead_letters`)
}

// Turns are an aid too.
func TestWithoutItsTableNobodyTakesTurns(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]string{
		"a right is revoked": `REVOKE ALL ON orchestrator_turns FROM {role}`, "the table is renamed": `ALTER TABLE orchestrator_turns RENAME TO away`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			role := f.role("one")
			f.exec(`GRANT ALL ON SCHEMA public TO ` + role)
			r := f.start(f.as(role), &recorder{name: "p"})
			f.awaitHandled("p", f.append("Order", 10))
			f.exec(strings.ReplaceAll(test, "{role}", role))
			want := f.append("Order", 10)
			eventually(t, func() bool { return f.checkpoint("p") == want[9] }, "the projection stands still")
			line := r.log.Await(t, "cannot take turns")
			assert.Equal(t, slog.LevelError, line.Level)
			assert.NotEmpty(t, line.Attrs["remedy"])
		})
	}
}

// Somebody has locked the table of turns, for minutes perhaps.
func TestALockOnTheTableOfTurnsHoldsUpNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.start(nil, &recorder{name: "p"})
	want := f.append("Order", 10)
	f.awaitHandled("p", want)
	person, err := f.pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = person.Exec(t.Context(), `LOCK TABLE orchestrator_turns IN ACCESS EXCLUSIVE MODE`)
	require.NoError(t, err)
	for range 3 {
		more := f.append("Order", 10)
		want = append(want, more...)
		eventually(t, func() bool { return f.checkpoint("p") == more[9] }, "the projection stands still")
	}
	line := r.log.Await(t, "cannot take turns")
	assert.Contains(t, fmt.Sprint(line.Attrs["remedy"]), "pg_locks")
	assert.EqualValues(t, 1, r.count("database_errors_total", "operation", "aid"), "each batch waits")
	require.NoError(t, person.Rollback(t.Context()))
	assert.ElementsMatch(t, want, f.handled("p"))
}

// Workers change generations, and handle events, while the table of abandoned handlers cannot be used and a handler hangs.
func TestWithoutTheAbandonedHandlersAllElseGoesOn(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]string{
		"a right is revoked":        `REVOKE ALL ON orchestrator_abandoned_handlers FROM {role}`,
		"writing is revoked":        `REVOKE INSERT, DELETE ON orchestrator_abandoned_handlers FROM {role}`,
		"the table is renamed":      `ALTER TABLE orchestrator_abandoned_handlers RENAME TO away`,
		"it is renamed, and polled": `ALTER TABLE orchestrator_abandoned_handlers RENAME TO away`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			role := f.role("one")
			f.exec(`GRANT ALL ON SCHEMA public TO ` + role)
			as := f.as(role)
			change := func(c *Config) {
				as(c)
				impatient(c)
				if strings.Contains(name, "polled") {
					c.Connect, c.Membership.HasSession = nil, false
				}
			}
			want := f.append("Order", 20)
			p := newHang(t, want[3])
			first := f.start(change, p, &recorder{name: "q"})
			receive(t, p.reached, "the event is never handled")
			f.exec(strings.ReplaceAll(spoil, "{role}", role))
			more := func() {
				t.Helper()
				want = append(want, f.append("Order", 20)...)
				eventually(t, func() bool { return f.checkpoint("q") == want[len(want)-1] }, "q stands still")
			}
			more()
			second := f.start(change, &recorder{name: "p"}, &recorder{name: "q"})
			f.awaitState(second, replicaset.Running)
			f.awaitState(first, replicaset.Running)
			more()
			line := first.log.Await(t, "orchestrator_abandoned_handlers")
			assert.Equal(t, slog.LevelError, line.Level)
			assert.NotEmpty(t, line.Attrs["remedy"])
			assert.Positive(t, first.count("database_errors_total", "operation", "aid"))
			assert.Zero(t, first.count("session_reconnects_total"))
			assert.Zero(t, query[int](f, `SELECT count(*)::int FROM orchestrator_workers WHERE state = 'dead'`), "a worker was used up")
			assert.Less(t, query[int64](f, `SELECT max(number) FROM orchestrator_generations`), int64(6), "generations go on and on")
			p.release()
			eventually(t, func() bool { return f.checkpoint("p") == want[len(want)-1] }, "p stands still")
			assert.ElementsMatch(t, want, f.handled("p"), "p has lost or repeated events")
			assert.ElementsMatch(t, want, f.handled("q"), "q has lost or repeated events")
		})
	}
}

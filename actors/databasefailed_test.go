package actors

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// What a person has done to the tables while workers run is an error with a remedy, once, and is over when it is undone.
func TestWhatOnlyAPersonCanEndIsAnError(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "every role becomes one there")
	for name, test := range map[string]struct{ spoil, repair, remedy string }{
		"a right is revoked": {`REVOKE ALL ON orchestrator_%s FROM {role}`, `GRANT ALL ON orchestrator_%s TO {role}`, "GRANT DELETE, INSERT, SELECT, UPDATE ON public.orchestrator_%s TO {role}"},
		"a table is renamed": {`ALTER TABLE orchestrator_%s RENAME TO away`, `ALTER TABLE away RENAME TO orchestrator_%s`, "its name"},
	} {
		for _, table := range []string{"workers", "checkpoints"} {
			t.Run(name+": "+table, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t)
				role := f.role("one")
				f.exec(`GRANT ALL ON SCHEMA public TO ` + role)
				pool := f.as(role)
				r := f.start(func(c *Config) {
					before := c.Connect
					pool(c)
					if before == nil {
						c.Connect = nil
					}
				}, &recorder{name: "p"})
				f.awaitState(r, replicaset.Running)
				fill := func(sql string) string { return strings.NewReplacer("%s", table, "{role}", role).Replace(sql) }
				f.exec(fill(test.spoil))
				want := f.append("Order", 5)
				eventually(t, func() bool { return r.count("database_errors_total", "operation", "configuration") >= 2 }, "no metric says so")
				line := r.log.Await(t, "a person must act")
				assert.Equal(t, slog.LevelError, line.Level)
				assert.Contains(t, strings.ReplaceAll(fmt.Sprint(line.Attrs["remedy"]), `"`, ""), fill(test.remedy))
				f.exec(fill(test.repair))
				eventually(t, func() bool { return len(f.handled("p")) >= len(want) }, "it does not go on")
				assert.LessOrEqual(t, len(r.log.Find("a person must act")), 3, "it is logged all the time")
			})
		}
	}
}

func TestACheckpointAboveTheHorizonIsAnError(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.append("Order", 5)
	r := f.start(nil, &recorder{name: "p"})
	eventually(t, func() bool { return len(f.handled("p")) == 5 }, "the events are not handled")
	f.exec(`UPDATE orchestrator_checkpoints SET position = 1000`)
	f.append("Order", 1)
	line := r.log.Await(t, "moved above the horizon")
	assert.Equal(t, slog.LevelError, line.Level)
	assert.Equal(t, "1000", line.Attrs["position"])
	assert.Positive(t, r.count("database_errors_total", "operation", "checkpoint"))
}

// The database's clock goes back by ten minutes: everything in the tables is from the future.
func TestAClockThatIsSetBackHoldsUpNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first := f.start(nil, &recorder{name: "p"})
	f.awaitState(first, replicaset.Running)
	const later = ` + interval '10 minutes'`
	f.exec(`UPDATE orchestrator_generations SET created_at = created_at` + later + `, activated_at = activated_at` + later)
	f.exec(`UPDATE orchestrator_workers SET state_changed_at = state_changed_at` + later)
	// One that has died since, and had no session.
	f.exec(`INSERT INTO orchestrator_workers (worker_id, replica_set, name, state, projections, hostname, process_id, library_version)
		VALUES ($1, 'main', 'dead', 'pending', '{p}', '', 0, '')`, uuid.UUID{1})
	f.exec(`INSERT INTO orchestrator_heartbeats VALUES ($1, now()`+later+`)`, uuid.UUID{1})
	f.start(nil, &recorder{name: "p"})
	eventually(t, func() bool { return f.active(2) != 0 }, "the one that came is never a member, or the one that is gone holds it up")
	assert.Equal(t, "dead", query[string](f, `SELECT state FROM orchestrator_workers WHERE worker_id = $1`, uuid.UUID{1}))
}

// A worker's row without a heartbeat is nobody's, also where the one with the least id leads.
func TestARowWithoutAHeartbeatLeadsNobody(t *testing.T) {
	t.Parallel()
	for _, poll := range []bool{false, true} {
		f := newFixture(t)
		f.exec(`INSERT INTO orchestrator_workers (worker_id, replica_set, name, state, projections, hostname, process_id, library_version)
			VALUES ($1, 'main', 'nobody', 'pending', '{p}', '', 0, '')`, uuid.UUID{1})
		want := f.append("Order", 5)
		f.start(func(c *Config) {
			if poll {
				c.Connect, c.Membership.HasSession = nil, false
			}
		}, &recorder{name: "p"})
		f.awaitHandled("p", want)
	}
}

// Without the stored horizons a probe may fail, or only a start be slower. Either is an error that a person must end.
func TestHorizonsThatAreAwayAreAnError(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.start(nil, &recorder{name: "p"})
	f.awaitState(r, replicaset.Running)
	f.exec(`ALTER TABLE orchestrator_horizons RENAME TO away`)
	want := f.append("Order", 5)
	eventually(t, func() bool { return r.count("database_errors_total", "operation", "configuration") >= 1 }, "no metric says so")
	eventually(t, func() bool {
		return len(r.log.Find("a person must act"))+len(r.log.Find("could not be stored")) > 0
	}, "no line of the log says so")
	f.exec(`ALTER TABLE away RENAME TO orchestrator_horizons`)
	f.awaitHandled("p", want)
}

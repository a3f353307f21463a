package face

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

// Some of the rows of one projection are deleted while its workers have nothing to do: their events come again, and the other
// projection is not stopped.
func TestCheckpointsAreDeletedByHand(t *testing.T) {
	for name, rows := range map[string]string{"all": "true", "some": "slot_from = 0"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.exec("ALTER TABLE handled DROP CONSTRAINT handled_pkey")
			for range 2 {
				start(t, w.orchestrator("set"), recorder{name: "users"}, recorder{name: "mails"})
			}
			w.awaitRunning("set", 2)
			total := 0
			appendAll := func() {
				for i := range 20 {
					w.append(fmt.Sprint("user ", i), 1)
				}
				total += 20
			}
			handles := func(projection, count string) {
				w.await(fmt.Sprint(total), "SELECT count("+count+") FROM handled WHERE projection = $1", projection)
			}
			appendAll()
			handles("users", "*")
			handles("mails", "*")

			w.exec("DELETE FROM orchestrator_checkpoints WHERE projection = 'users' AND " + rows)
			appendAll()
			handles("users", "DISTINCT position")
			handles("mails", "*")
			w.logs.AwaitLine(t, `checkpoints of projection \"users\" were deleted`)
			w.await("65536", "SELECT sum(slot_to - slot_from) FROM orchestrator_checkpoints WHERE projection = 'users' AND worker_id IS NOT NULL")
			require.NotEqual(t, fmt.Sprint(total), w.value("SELECT count(*) FROM handled WHERE projection = 'users'"), "nothing came again")
		})
	}
}

// Checkpoints that are set back as the README says are noticed although nothing is appended.
func TestRebuildOnAQuietStream(t *testing.T) {
	w := newWorld(t)
	for range 2 {
		start(t, w.orchestrator("set"), recorder{name: "users"}, recorder{name: "mails"})
	}
	w.awaitRunning("set", 2)
	for i := range 10 {
		w.append(fmt.Sprint("user ", i), 1)
	}
	w.awaitHandled("users", 10)
	w.awaitHandled("mails", 10)
	w.await("10", "SELECT min(position) FROM orchestrator_checkpoints") // also where the last events were another partition's
	for _, change := range []string{"UPDATE orchestrator_checkpoints SET position = 0", "DELETE FROM orchestrator_checkpoints"} {
		began := time.Now()
		require.NoError(t, pgx.BeginFunc(t.Context(), w.db, func(tx pgx.Tx) error {
			for _, sql := range []string{
				"LOCK TABLE orchestrator_checkpoints IN EXCLUSIVE MODE", change + " WHERE projection = 'users'",
				"DELETE FROM handled WHERE projection = 'users'",
			} {
				if _, err := tx.Exec(t.Context(), sql); err != nil {
					return err
				}
			}
			return nil
		}))
		w.awaitHandled("users", 10)
		t.Logf("%s: handled again after %s", change, time.Since(began))
		w.await("10", "SELECT min(position) FROM orchestrator_checkpoints")
	}
	w.awaitHandled("mails", 10)
}

// A projection is moved to another replica set while workers of its own still run it: they go on with the others.
func TestProjectionIsMovedByHand(t *testing.T) {
	w := newWorld(t)
	for range 2 {
		start(t, w.orchestrator("old"), recorder{name: "users"}, recorder{name: "mails"})
	}
	w.awaitRunning("old", 2)
	w.append("ada", 3)
	w.awaitHandled("users", 3)
	w.exec("UPDATE orchestrator_checkpoints SET replica_set = 'new' WHERE projection = 'users'")
	start(t, w.orchestrator("new"), recorder{name: "users"})
	w.awaitRunning("new", 1)
	w.append("ada", 3)
	w.append("grace", 3)
	w.awaitHandled("users", 9)
	w.awaitHandled("mails", 9)

	start(t, w.orchestrator("new"), recorder{name: "users"})
	w.awaitRunning("new", 2)
	w.append("ada", 3)
	w.awaitHandled("users", 12)
	w.awaitHandled("mails", 12)
	w.requireOrder("users")
	w.requireOrder("mails")
}

// Checkpoints that contradict the generation are noticed although nothing is appended, whichever set's or partition's they are.
func TestChangesByHandOnAQuietStream(t *testing.T) {
	w := newWorld(t)
	w.exec("INSERT INTO orchestrator_checkpoints (projection, slot_from, slot_to, replica_set, events_table) VALUES ('late', 0, 65536, 'new', 'public.events')")
	for range 2 {
		start(t, w.orchestrator("old"), recorder{name: "users"}, recorder{name: "mails"})
	}
	start(t, w.orchestrator("new"), recorder{name: "late"})
	w.awaitRunning("old", 2)
	w.awaitRunning("new", 1)
	const whole = "SELECT sum(slot_to - slot_from) FROM orchestrator_checkpoints AS c JOIN orchestrator_generations AS g USING (replica_set) " +
		"WHERE projection = 'users' AND replica_set = 'old' AND worker_id IS NOT NULL AND generation = number AND state = 'active'"
	// changes does what a person does, and waits until the workers have agreed upon what follows.
	changes := func(sql string) {
		const current = "SELECT max(number) FROM orchestrator_generations WHERE replica_set = 'old' AND state = 'active'"
		before := w.value(current)
		w.exec(sql)
		w.await("true", "SELECT coalesce(("+current+") > "+before+", false)")
	}
	w.await("65536", whole)
	events := 0
	for name, change := range map[string]struct{ away, back string }{
		"all moved":  {"UPDATE orchestrator_checkpoints SET replica_set = 'new' WHERE projection = 'users'", "UPDATE orchestrator_checkpoints SET replica_set = 'old' WHERE projection = 'users'"},
		"some moved": {"UPDATE orchestrator_checkpoints SET replica_set = 'new' WHERE projection = 'users' AND slot_from = 0", "UPDATE orchestrator_checkpoints SET replica_set = 'old' WHERE projection = 'users'"},
		"generation": {"", "UPDATE orchestrator_checkpoints SET generation = 0 WHERE projection = 'users' AND slot_from = 0"},
		"owner":      {"", "UPDATE orchestrator_checkpoints SET worker_id = gen_random_uuid() WHERE projection = 'users' AND slot_from > 0"},
		"entered again": {"", "WITH gone AS (DELETE FROM orchestrator_checkpoints WHERE projection = 'users' AND slot_from = 0 RETURNING *) " +
			"INSERT INTO orchestrator_checkpoints (projection, slot_from, slot_to, position, replica_set, events_table) SELECT projection, 1, slot_to, position, replica_set, events_table FROM gone"},
	} {
		t.Run(name, func(t *testing.T) {
			if change.away != "" {
				changes(change.away)
			}
			changes(change.back)
			w.await("65536", whole)
			events++
			w.append("ada", 1)
			w.append("grace", 1)
			w.awaitHandled("users", 2*events)
			w.awaitHandled("mails", 2*events)
		})
	}
	w.logs.AwaitLine(t, "the checkpoints contradict the active generation")
	w.requireOrder("users")
}

// An event that no handler can handle is skipped as the README says. The events of others, and those after it, are handled.
func TestEventIsSkippedByHand(t *testing.T) {
	w := newWorld(t)
	w.append("ada", 2)
	w.append("grace", 1)
	const poison = "3" // grace's
	// Nobody waits for the next try.
	r := start(t, w.orchestrator("set", orchestrator.WithRetryBackoff(time.Hour, time.Hour)), function{name: "users", handle: func(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
		if fmt.Sprint(event.GlobalPosition) == poison {
			return errors.New("no handler can handle this")
		}
		return recorder{name: "users"}.Handle(ctx, tx, event)
	}})
	w.await("retrying", "SELECT max(state) FROM orchestrator_dead_letters")
	w.append("grace", 1)
	w.append("ada", 1)
	w.await("2", "SELECT min(position) FROM orchestrator_checkpoints") // just before it
	w.exec(`UPDATE orchestrator_checkpoints SET position = ` + poison + `
		WHERE projection = 'users' AND position = ` + poison + ` - 1
		  AND hashtextextended('grace', 0) & 65535 BETWEEN slot_from AND slot_to - 1`)
	w.await("1, 2, 4, 5", "SELECT string_agg(position::text, ', ' ORDER BY position) FROM handled")
	w.await("skipped", "SELECT string_agg(state, ', ') FROM orchestrator_dead_letters")
	w.logs.AwaitLine(t, "an event that had failed was skipped")
	assert.NotContains(t, w.logs.String(), "had failed was handled", "nobody has handled it")
	require.NoError(t, r.stop())
}

// A rebuild hands an event that was skipped to its handler again. Table and log say what became of it.
func TestARebuildHandlesWhatWasSkipped(t *testing.T) {
	w := newWorld(t)
	w.append("ada", 3)
	g := &gate{position: 2, fail: func() error { return errBad }}
	r := start(t, w.orchestrator("set"), recorder{name: "users", before: g.check})
	rebuild := func(position string) {
		require.NoError(t, pgx.BeginFunc(t.Context(), w.db, func(tx pgx.Tx) error {
			for _, sql := range []string{
				"LOCK TABLE orchestrator_checkpoints IN EXCLUSIVE MODE", "UPDATE orchestrator_checkpoints SET position = " + position, "DELETE FROM handled WHERE position > " + position,
			} {
				if _, err := tx.Exec(t.Context(), sql); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	w.await("retrying 1", "SELECT state, (SELECT position FROM orchestrator_checkpoints) FROM orchestrator_dead_letters")
	rebuild("2")
	w.await("skipped", "SELECT state FROM orchestrator_dead_letters")
	w.awaitHandled("users", 2)

	rebuild("0") // it fails again
	w.await("retrying true 1", "SELECT state, skipped_at IS NOT NULL, (SELECT position FROM orchestrator_checkpoints) FROM orchestrator_dead_letters")
	rebuild("2")
	w.await("skipped", "SELECT state FROM orchestrator_dead_letters")
	w.awaitHandled("users", 2)

	g.opened.Store(true)
	rebuild("0")
	w.awaitHandled("users", 3)
	w.await("handled true", "SELECT state, handled_at > skipped_at FROM orchestrator_dead_letters")
	require.NoError(t, r.stop())
}

// The events were restored beside a running worker, which saw the sequence before setval. A person who knows that nobody appended meanwhile
// settles it as docs/architecture.md says.
func TestARegressionIsSettledByHand(t *testing.T) {
	w := newWorld(t)
	w.troubled = true // by the regression
	w.append("ada", 5)
	r := start(t, w.orchestrator("set"), recorder{name: "users"})
	w.awaitHandled("users", 5)
	const open = "SELECT count(*) FROM orchestrator_sequence_regressions WHERE settled_at IS NULL"
	w.exec("SELECT setval('events_global_position_seq', 2)")
	w.await("1", open)
	w.exec("SELECT setval('events_global_position_seq', 5)")
	w.append("ada", 1)
	w.logs.AwaitLine(t, "set settled_at")
	require.Equal(t, "1", w.value(open), "an event in between may have taken a position that was given before")
	w.exec("UPDATE orchestrator_sequence_regressions SET settled_at = now() WHERE settled_at IS NULL")
	w.awaitHandled("users", 6)
	require.NoError(t, r.stop())
	w.requireOrder("users")
}

package actors

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/packed"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/messages"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// pulse is a heartbeat without a database, and what it says to its parent.
type pulse struct {
	*heartbeat
	said chan any
}

// heard is what the parent has been told since the last call.
func (p *pulse) heard() (all []any) {
	for len(p.said) > 0 {
		all = append(all, <-p.said)
	}
	return all
}

// Receive passes on what came of a heartbeat and the end of the lease; no heartbeat is written.
func (p *pulse) Receive(c actor.Context) {
	switch c.Message().(type) {
	case *beaten, *leaseDue, *actor.Stopping:
		p.heartbeat.Receive(c)
	}
}

// withPulse runs a test with a heartbeat in fake time; tell has it told something and waits until nothing moves.
func withPulse(t *testing.T, test func(t *testing.T, p *pulse, tell func(any))) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &worker{Config: Config{Logger: slog.New(slog.DiscardHandler), Timing: Timing{Timing: replicaset.Timing{Stale: 6 * time.Second}, Heartbeat: time.Hour}}}
		w.handlers = NewHandlers(time.Minute, nil)
		p := &pulse{heartbeat: newHeartbeat(w, time.Time{}), said: make(chan any, 16)}
		system := quietSystem()
		var child *actor.PID
		parent := system.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
			switch m := c.Message().(type) {
			case *actor.Started:
				child = c.Spawn(actor.PropsFromProducer(func() actor.Actor { return p }))
			case messages.ToSupervisor:
				p.said <- m
			}
		}))
		synctest.Wait()
		test(t, p, func(m any) { system.Root.Send(child, m); synctest.Wait() })
		system.Root.Stop(parent)
		pass(time.Second) // of the bubble: the library's throttles end
		system.Shutdown()
		synctest.Wait()
	})
}

// The others count from when the database wrote the heartbeat, which was after it began, however late the answer came.
func TestLeaseCountsFromTheStartOfTheHeartbeat(t *testing.T) {
	withPulse(t, func(t *testing.T, p *pulse, tell func(any)) {
		began := time.Now().Add(-2 * time.Second)
		tell(&beaten{began: began, alive: true})
		assert.Equal(t, []any{messages.LeaseRenewed{Until: began.Add(5 * time.Second)}}, p.heard())
		tell(&beaten{began: began.Add(-3 * time.Second), alive: true})
		assert.Empty(t, p.heard(), "an answer that comes after the lease would have ended gives none")
	})
}

func TestLeaseEndsWhenNoHeartbeatSucceeds(t *testing.T) {
	withPulse(t, func(t *testing.T, p *pulse, tell func(any)) {
		tell(&beaten{began: time.Now(), alive: true})
		pass(3 * time.Second)
		tell(&beaten{began: time.Now(), alive: true})
		tell(&beaten{began: time.Now(), err: assert.AnError})
		pass(5*time.Second - time.Millisecond)
		synctest.Wait()
		assert.Len(t, p.heard(), 2, "it was renewed, so it holds")
		pass(time.Millisecond)
		synctest.Wait()
		assert.Equal(t, []any{messages.LeaseExpired{}}, p.heard())
	})
}

func TestStoppedOfAnEarlierGenerationIsNoStop(t *testing.T) {
	k := newCoordinator(&worker{Config: Config{Logger: slog.New(slog.DiscardHandler)}})
	defer k.cancel()
	k.starting(3)
	k.note(messages.PartitionsStopped{Generation: 2})
	assert.Equal(t, replicaset.Handling, k.state.Partitions)
	k.note(messages.PartitionsStopped{Generation: 3})
	assert.Equal(t, replicaset.Idle, k.state.Partitions)
}

// Only the worker's own slowness is its fault as long as the coordination timeout has not passed.
func TestLivingBlockerHasTheCoordinationTimeout(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.start(nil, &recorder{name: "p"})
	f.awaitState(r, replicaset.Running)
	holder, err := f.pool.Acquire(t.Context())
	require.NoError(t, err)
	defer holder.Release()
	tx, err := holder.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `SELECT pg_advisory_xact_lock_shared(hashtextextended('`+pgcoord.ApplicationName(r.id)+`', 0)); LOCK TABLE handled`)
	require.NoError(t, err)
	pids, waited := make(chan int, 1), make(chan error, 1)
	go func() {
		waited <- pgx.BeginFunc(t.Context(), f.pool, func(tx pgx.Tx) error {
			var pid int // the backend's own, whatever stands before it
			if err := tx.QueryRow(t.Context(), `SELECT pg_backend_pid()`).Scan(&pid); err != nil {
				return err
			}
			pids <- pid
			_, err := tx.Exec(t.Context(), `TRUNCATE handled`)
			return err
		})
	}()
	pid := <-pids
	eventually(t, func() bool { return query[bool](f, `SELECT cardinality(pg_blocking_pids($1)) > 0`, pid) }, "nobody waits")

	log := r.log.Logger()
	require.NoError(t, endBlockers(t.Context(), r.worker, pid, true, log))
	require.NoError(t, tx.Conn().Ping(t.Context()), "a living worker's batch was ended before its time")
	require.NoError(t, endBlockers(t.Context(), r.worker, pid, false, log))
	require.NoError(t, receive(t, waited, "the lock is never free"))
	assert.Error(t, tx.Commit(t.Context()))
}

// The server has lost its end: the checkpoint and the read model of the last events are gone, the events are not.
func TestNewEpochReadsTheCheckpointsAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	want := f.append("Order", 10)
	r := f.start(nil, &recorder{name: "p"})
	f.awaitHandled("p", want)
	require.NoError(t, pgx.BeginFunc(t.Context(), f.pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `UPDATE orchestrator_checkpoints SET position = $1`, want[5])
		if err == nil {
			_, err = tx.Exec(t.Context(), `DELETE FROM handled WHERE position > $1`, want[5])
		}
		return err
	}))
	r.system.Root.Send(r.horizonPID(), (*probed)(nil)) // which panics, and begins a new epoch in its next life
	f.awaitHandled("p", want)
}

// Half of the slots stand further on than the other half: what these lack must not be given to them too.
func TestPiecesThatHaveNotMetAreReadAlone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	all := f.append("Order", 40)
	require.NoError(t, f.store.Claim(t.Context(), f.pool, []string{"p"}))
	f.exec(`UPDATE orchestrator_checkpoints SET slot_to = 32768, position = $1`, all[29])
	f.exec(`INSERT INTO orchestrator_checkpoints (projection, slot_from, slot_to, replica_set, events_table)
		SELECT projection, 32768, 65536, replica_set, events_table FROM orchestrator_checkpoints`)
	want := query[[]int64](f, `SELECT array_agg(global_position ORDER BY global_position) FROM events
		WHERE hashtextextended(aggregate_id, 0) & 65535 >= 32768 OR global_position > $1`, all[29])
	require.Greater(t, len(want), 10)
	require.Less(t, len(want), len(all))
	f.start(nil, &recorder{name: "p"})
	f.awaitHandled("p", want)
	eventually(t, func() bool { return f.checkpoint("p") == all[39] }, "the checkpoints never meet")
	f.awaitHandled("p", append(want, f.append("Order", 5)...))
}

// Two partitions of one worker share what is read.
func TestSharedEventsAreSharedOut(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	want := f.append("Order", 40)
	f.start(func(c *Config) { c.Membership.Partitions = 2 }, &recorder{name: "p"})
	eventually(t, func() bool { return f.checkpoint("p") == want[39] }, "the events are not handled")
	assert.ElementsMatch(t, want, f.handled("p"))
}

func TestAnswersToEarlierQuestionsAreDropped(t *testing.T) {
	s := pageBuffer{asked: true, sequence: 2}
	require.NoError(t, s.take(messages.EventsRead{Sequence: 1, Events: packed.Pack(make([]es.PersistedEvent, 1)), UpTo: 7}, nil))
	_, ok := s.first()
	assert.False(t, ok)
	require.NoError(t, s.take(messages.EventsRead{Sequence: 2, Events: packed.Pack(make([]es.PersistedEvent, 2)), UpTo: 8}, nil))
	first, ok := s.first()
	require.True(t, ok)
	assert.Equal(t, 2, first.events.Len())
}

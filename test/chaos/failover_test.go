package main

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/logbook"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/wire"
)

// failover is a world with a standby, and one worker that knows both servers.
type failover struct {
	*world
	standby    *pgtest.Cluster
	standbyDSN string
	way        *wire.Proxy // between the worker and the standby: closed until the end of the failover
	workersDSN string      // of both servers
	handled    *counted
	log        *logbook.Book
}

func newFailover(t *testing.T) *failover {
	t.Helper()
	f := &failover{world: newWorld(t, nil), handled: newCounted(workerName(0))}
	f.standby = pgtest.OwnStandby(t, f.cluster)
	f.standbyDSN = f.standby.DSN("chaos")
	primary, standby := f.parse(f.dsn), f.parse(f.standbyDSN)
	var err error
	f.way, err = wire.Listen(t.Context(), standby.Host)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, f.way.Close()) })
	f.way.Set(wire.State{Refuse: true})
	both := *primary
	both.Host += "," + net.JoinHostPort("127.0.0.1", strconv.Itoa(f.way.Port()))
	f.workersDSN = both.String() + "&target_session_attrs=read-write"
	f.log = f.start(f.workersDSN, workerName(0), f.handled)
	return f
}

func (f *failover) parse(dsn string) *url.URL {
	f.t.Helper()
	parsed, err := url.Parse(dsn)
	require.NoError(f.t, err)
	return parsed
}

// over lets the standby take over, without what the primary has done since it was detached. With checkpoints, they are those of the
// primary, as if the coordination tables were restored from elsewhere. The worker finds the standby only afterwards.
func (f *failover) over(checkpoints bool) {
	f.t.Helper()
	reached := f.value("SELECT max(position) FROM orchestrator_checkpoints")
	require.NoError(f.t, f.cluster.Stop(pgtest.Immediate))
	require.NoError(f.t, f.standby.Promote(f.t.Context()))
	f.pool = f.connect(f.standbyDSN, 12)
	if checkpoints {
		f.execute("UPDATE orchestrator_checkpoints SET position = " + reached)
	}
	f.way.Set(wire.State{})
}

// appendOne appends one event, in a transaction of its own.
func (w *world) appendOne() {
	w.t.Helper()
	require.NoError(w.t, pgx.BeginFunc(w.t.Context(), w.pool, func(tx pgx.Tx) error {
		_, err := w.store.Append(w.t.Context(), tx, es.Any(), []es.Event{{
			BoundedContext: "chaos", AggregateType: "single", AggregateID: "one", EventType: "Happened", Payload: []byte("{}"),
		}})
		return err
	}))
}

// number is a value of the database.
func (w *world) number(sql string) int {
	w.t.Helper()
	n, err := strconv.Atoi(w.value(sql))
	require.NoError(w.t, err)
	return n
}

const (
	lastEvent       = "SELECT coalesce(max(global_position), 0) FROM events"
	lastPosition    = "SELECT pg_sequence_last_value(pg_get_serial_sequence('events', 'global_position'))"
	checkpointAt    = "SELECT max(position) FROM orchestrator_checkpoints"
	handledCount    = "SELECT count(*) FROM workload_log"
	regressionError = "sequence_regression"
)

// The replica has lost events, read model and checkpoints together: it goes on by itself, and the events that get the lost ones'
// positions, or later ones, are handled once. Its worker has seen more than it knows.
func TestFailoverToAReplicaThatLostTheTail(t *testing.T) {
	t.Parallel()
	f := newFailover(t)
	f.append(20)
	f.awaitDrained()
	require.NoError(t, f.standby.Detach(t.Context()))
	kept := f.number(lastEvent)
	f.append(40)
	f.awaitDrained()
	lost := f.number(lastEvent)
	require.Greater(t, lost, kept+64, "the replica's sequence is ahead by 32")

	f.over(false)
	require.Equal(t, kept, f.number(lastEvent))
	require.Less(t, f.number(lastPosition), lost)
	f.append(40)
	f.awaitDrained()
	assert.NotContains(t, f.log.String(), regressionError)
	f.prove()
}

// The checkpoints are ahead of the replica's positions, since they come from elsewhere. Events that get the positions between are
// not skipped: nothing is handled, and an error names both positions, also when the sequence has passed the checkpoints, until a
// person sets them back. Then all is handled once.
func TestFailoverBelowTheCheckpointsStopsLoudly(t *testing.T) {
	t.Parallel()
	f := newFailover(t)
	f.append(20)
	f.awaitDrained()
	require.NoError(t, f.standby.Detach(t.Context()))
	kept := f.number(lastEvent)
	f.append(40)
	f.awaitDrained()
	reached := f.number(checkpointAt)

	f.over(true)
	stood := f.number(lastPosition)
	require.Less(t, stood, reached)
	both := []string{"level=ERROR", regressionError, fmt.Sprintf("checkpoint=%d", reached), fmt.Sprintf("last_position=%d", stood)}
	f.log.AwaitLine(t, both...)
	before := f.number(handledCount)
	f.append(5)
	require.Less(t, f.number(lastPosition), reached)
	f.log.AwaitNewLine(t, both...)
	for f.number(lastEvent) <= reached {
		f.append(5)
	}
	reached = f.number(checkpointAt) // positions without events, which were passed before, may have been flushed since
	f.log.AwaitNewLine(t, "level=ERROR", regressionError, fmt.Sprintf("checkpoint=%d", reached), fmt.Sprintf("last_position=%d", stood), "would be skipped")
	assert.Equal(t, before, f.number(handledCount), "events were handled though positions went back")
	assert.Equal(t, reached, f.number(checkpointAt))

	f.execute(fmt.Sprintf("UPDATE orchestrator_checkpoints SET position = %d WHERE position > %[1]d", kept))
	f.awaitDrained()
	f.append(5)
	f.awaitDrained()
	f.prove()
}

// Several workers run while a person sets the checkpoints back, and one that was started after the sequence had passed them. The
// first that sees it handles events above the regression before the others look; none of them takes that for a checkpoint that was not
// set back.
func TestFailoverBelowTheCheckpointsOfSeveralWorkers(t *testing.T) {
	t.Parallel()
	f := newFailover(t)
	logs := []*logbook.Book{f.log, f.start(f.workersDSN, workerName(1), newCounted(workerName(1)))}
	f.append(20)
	f.awaitDrained()
	f.awaitMembers(2)
	require.NoError(t, f.standby.Detach(t.Context()))
	kept := f.number(lastEvent)
	f.append(40)
	f.awaitDrained()
	reached := f.number(checkpointAt)

	f.over(true)
	require.Less(t, f.number(lastPosition), reached)
	for _, log := range logs {
		log.AwaitLine(t, "level=ERROR", regressionError)
	}
	before := f.number(handledCount)
	for f.number(lastEvent) <= reached {
		f.append(5)
	}
	logs = append(logs, f.start(f.workersDSN, workerName(2), newCounted(workerName(2))))
	f.awaitMembers(3)
	for _, log := range logs {
		log.AwaitNewLine(t, "level=ERROR", regressionError, "would be skipped")
	}
	assert.Equal(t, before, f.number(handledCount), "events were handled though positions went back")

	f.execute(fmt.Sprintf("UPDATE orchestrator_checkpoints SET position = %d WHERE position > %[1]d", kept))
	f.awaitDrained()
	for range 3 {
		f.append(5)
		f.awaitDrained()
	}
	assert.Equal(t, 1, f.number("SELECT count(*) FROM orchestrator_sequence_regressions WHERE settled_at IS NOT NULL"))
	assert.Equal(t, 1, f.number("SELECT count(*) FROM orchestrator_sequence_regressions"))
	f.prove()
}

// The other decision, before anything was appended: the lost positions are given up.
func TestFailoverBelowTheCheckpointsGoesOnAboveThem(t *testing.T) {
	t.Parallel()
	f := newFailover(t)
	f.append(20)
	f.awaitDrained()
	require.NoError(t, f.standby.Detach(t.Context()))
	f.append(40)
	f.awaitDrained()
	reached := f.number(checkpointAt)

	f.over(true)
	f.log.AwaitLine(t, "level=ERROR", regressionError, fmt.Sprintf("checkpoint=%d", reached), fmt.Sprintf("last_position=%d", f.number(lastPosition)))
	f.execute(fmt.Sprintf("SELECT setval(pg_get_serial_sequence('events', 'global_position'), %d)", reached))
	f.append(10)
	f.awaitDrained()
	f.prove()
}

// The checkpoints are above the replica's last event, but its sequence, which is logged ahead, is not below them. No position up to
// them is given again, so there is nothing to skip; rolled-back transactions leave the same behind, and must not stop anything.
func TestFailoverAboveTheCheckpointsGoesOn(t *testing.T) {
	t.Parallel()
	f := newFailover(t)
	f.append(20)
	f.execute(fmt.Sprintf("SELECT setval(pg_get_serial_sequence('events', 'global_position'), %d)", f.number(lastPosition)))
	f.appendOne() // which logs the sequence 32 ahead
	f.awaitDrained()
	require.NoError(t, f.standby.Detach(t.Context()))
	f.appendOne()
	f.awaitDrained()
	reached := f.number(checkpointAt)

	f.over(true)
	require.Less(t, f.number(lastEvent), reached)
	require.GreaterOrEqual(t, f.number(lastPosition), reached)
	f.append(20)
	f.awaitDrained()
	assert.NotContains(t, f.log.String(), regressionError)
	f.prove()
}

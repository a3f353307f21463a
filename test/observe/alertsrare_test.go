package observe

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
)

// Alerts on what people do to projections, and on handlers and workers that misbehave, fire on the live fault and stop when it is repaired.
func TestAlertsOnPeopleAndHandlers(t *testing.T) {
	s := newStage(t)
	s.start("worker-1", "orders", "emails")
	s.start("worker-2", "reports")
	s.awaitRunning(2)
	p := newPrometheus(s)
	s.append(20)
	p.awaitAlert(false, "WorkersShowNothing")
	p.awaitAlert(false, "OrchestratorMetricsMissing")

	require.NoError(t, s.admin.Pause(t.Context(), admin.Target{Projection: "emails"}, "the mail server is being moved", time.Time{}))
	p.awaitAlert(true, "ProjectionPausedLong")
	require.NoError(t, s.admin.Resume(t.Context(), admin.Target{Projection: "emails"}, ""))
	p.awaitAlert(false, "ProjectionPausedLong")

	s.exec("INSERT INTO faults (projection, aggregate_id, error) VALUES ('reports', 'order-7', 'bad')")
	s.append(20)
	s.await("1", "SELECT count(*) FROM orchestrator_parked_aggregates")
	s.exec("DELETE FROM faults")
	require.NoError(t, s.workers["worker-2"].Terminate())
	s.awaitRunning(1)
	retried := make(chan error, 1)
	go func() {
		_, err := s.admin.Retry(t.Context(), admin.Filter{}, "repaired")
		retried <- err
	}()
	p.awaitAlert(true, "OperationWaits")
	s.start("worker-2", "reports")
	require.NoError(t, <-retried)
	p.awaitAlert(false, "OperationWaits")
	s.awaitRunning(2)

	for range 3 {
		s.start("worker-3", "reports")
		s.awaitRunning(3)
		require.NoError(t, s.workers["worker-3"].Terminate())
		s.awaitRunning(2)
	}
	p.awaitAlert(true, "GenerationsChangeOften")
	p.awaitAlert(false, "GenerationsChangeOften")

	s.exec("INSERT INTO faults (projection, aggregate_id, error) VALUES ('emails', 'order-3', 'hang')")
	s.append(5)
	s.start("worker-3", "reports") // the handlers are to return
	p.awaitAlert(true, "HandlerHangs")
	p.awaitAlert(true, "SlotsUnowned")
	s.exec("DELETE FROM faults")
	p.awaitAlert(false, "HandlerHangs")
	p.awaitAlert(false, "SlotsUnowned")
	s.awaitRunning(3)
}

// Alerts on what others do in the database fire on the live fault and stop when it is repaired.
func TestAlertsOnTheDatabase(t *testing.T) {
	s := newStage(t)
	s.coordination = 4 * time.Second
	for _, name := range []string{"worker-1", "worker-2"} {
		s.start(name, "orders", "emails")
	}
	s.awaitRunning(2)
	p := newPrometheus(s)
	s.append(20)
	s.await("0", "SELECT count(*) FROM orchestrator_checkpoints WHERE position < 20")
	p.awaitAlert(false, "WorkersShowNothing")
	p.awaitAlert(false, "OrchestratorMetricsMissing")

	s.exec("ALTER SEQUENCE events_global_position_seq RESTART WITH 1")
	p.awaitAlert(true, "SequenceWentBack")
	p.awaitAlert(true, "NothingIsRead")
	s.exec("SELECT setval('events_global_position_seq', 20)") // and nothing was appended meanwhile
	s.exec("UPDATE orchestrator_sequence_regressions SET settled_at = now() WHERE settled_at IS NULL")
	p.awaitAlert(false, "NothingIsRead")
	p.awaitAlert(false, "SequenceWentBack")

	s.exec("ALTER TABLE orchestrator_heartbeats RENAME TO heartbeats")
	p.awaitAlert(true, "DatabaseNeedsAPerson")
	s.exec("ALTER TABLE heartbeats RENAME TO orchestrator_heartbeats")
	p.awaitAlert(false, "DatabaseNeedsAPerson")
	s.awaitRunning(2)

	open, err := s.db.Begin(t.Context())
	require.NoError(t, err)
	_, err = open.Exec(t.Context(), "SELECT FROM orchestrator_checkpoints FOR UPDATE")
	require.NoError(t, err)
	s.start("worker-3", "orders")
	p.awaitAlert(true, "GenerationBlocked")
	require.NoError(t, open.Rollback(t.Context()))
	p.awaitAlert(false, "GenerationBlocked")
	s.awaitRunning(3)

	release := s.takeLeadersLock()
	p.awaitAlert(true, "LeaderUnlocked")
	release()
	p.awaitAlert(false, "LeaderUnlocked")
	eventually(t, func() bool { return len(p.firing()) == 0 }, func() string { return fmt.Sprint(p.firing()) })
}

// takeLeadersLock takes the advisory lock of the leader, whose session it ends, until release is called.
func (s *stage) takeLeadersLock() (release func()) {
	s.t.Helper()
	const held = `SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`
	rows, err := s.db.Query(s.t.Context(), held+` AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND mode = 'ExclusiveLock' GROUP BY pid HAVING count(*) > 1)
		AND mode = 'ExclusiveLock' AND (classid::bigint << 32) | objid::bigint NOT IN (SELECT session_key FROM orchestrator_workers WHERE session_key IS NOT NULL)`)
	require.NoError(s.t, err)
	keys, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	require.NoError(s.t, err)
	require.NotEmpty(s.t, keys)
	conn, err := pgx.Connect(s.t.Context(), s.dsn)
	require.NoError(s.t, err)
	for _, key := range keys {
		taken := make(chan error, 1)
		go func() {
			_, err := conn.Exec(s.t.Context(), "SELECT pg_advisory_lock($1)", key)
			taken <- err
		}()
		s.await("1", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
		s.exec(`SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted AND (classid::bigint << 32) | objid::bigint = $1`, key)
		require.NoError(s.t, <-taken)
	}
	return func() { require.NoError(s.t, conn.Close(context.WithoutCancel(s.t.Context()))) }
}

package observe

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// Alerts on what workers have lost fire on the live fault and stop when it is repaired: the right to notify, a log that takes no lines, and the database.
func TestAlertsOnWhatIsLost(t *testing.T) {
	server := pgtest.Own(t, pgtest.Options{}) // the role belongs to the whole server
	outside, err := pgx.Connect(t.Context(), server.DSN("postgres"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = outside.Close(context.WithoutCancel(t.Context())) })
	_, err = outside.Exec(t.Context(), "CREATE DATABASE shop")
	require.NoError(t, err)
	s := newStageOn(t, server.DSN("shop"))
	s.asRole("worker")
	s.start("worker-1", "orders")
	s.start("worker-2", "orders")
	s.awaitRunning(2)
	p := newPrometheus(s)
	s.append(20)
	s.await("0", "SELECT count(*) FROM orchestrator_checkpoints WHERE position < 20")
	p.awaitAlert(false, "WorkersShowNothing")
	p.awaitAlert(false, "OrchestratorMetricsMissing")

	// Each session that is opened from now on finds out that it cannot notify.
	s.exec("REVOKE EXECUTE ON FUNCTION pg_catalog.pg_notify(text, text) FROM PUBLIC")
	stop := s.often(200*time.Millisecond, func() {
		s.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'pupsourcing-worker%' AND pid <> pg_backend_pid()")
	})
	p.awaitAlert(true, "NotificationsAreLost")
	stop()
	s.exec("GRANT EXECUTE ON FUNCTION pg_catalog.pg_notify(text, text) TO PUBLIC")
	p.awaitAlert(false, "NotificationsAreLost")
	s.awaitRunning(2)

	// The heartbeat has to log that it fails, and waits for the log.
	require.NoError(t, os.WriteFile(s.logFull, nil, 0o600))
	s.exec("ALTER TABLE orchestrator_heartbeats RENAME TO heartbeats")
	p.awaitAlert(true, "LoopStuck")
	s.exec("ALTER TABLE heartbeats RENAME TO orchestrator_heartbeats")
	require.NoError(t, os.Remove(s.logFull))
	p.awaitAlert(false, "LoopStuck")
	s.awaitRunning(2)

	for _, sql := range []string{"REVOKE CONNECT ON DATABASE shop FROM PUBLIC", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'worker'"} {
		_, err = outside.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	p.awaitAlert(true, "NoLeader")
	_, err = outside.Exec(t.Context(), "GRANT CONNECT ON DATABASE shop TO PUBLIC")
	require.NoError(t, err)
	p.awaitAlert(false, "NoLeader")
	s.awaitRunning(2)
}

// No alert is without a fault that has it fire here.
func TestEveryAlertHasAFault(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(deploy, "prometheus", "rules.yml"))
	require.NoError(t, err)
	files, err := filepath.Glob("alerts*_test.go")
	require.NoError(t, err)
	var tests strings.Builder
	for _, file := range files {
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		tests.Write(source)
	}
	alerts := regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(string(text), -1)
	require.NotEmpty(t, alerts)
	for _, alert := range alerts {
		require.Contains(t, tests.String(), `awaitAlert(true, "`+alert[1]+`")`)
		require.Contains(t, tests.String(), `"`+alert[1]+`"`)
	}
}

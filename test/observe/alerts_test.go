package observe

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
)

// The rules are right by promtool, and fire when they should in its unit tests.
func TestRules(t *testing.T) {
	promtool(t, "check", "config", "prometheus.yml")
	promtool(t, "check", "config", filepath.Join("..", "..", "examples", "grafana", "prometheus.yml"))
	promtool(t, "check", "rules", "rules.yml")
	promtool(t, "test", "rules", "rules_test.yml", "rules_days_test.yml")
}

// Each alert fires on its fault in a live replica set, and stops when that is repaired. While all is well none fires, and every query of the dashboard has data.
func TestAlertsFireAndStop(t *testing.T) {
	s := newStage(t)
	for _, name := range []string{"worker-1", "worker-2"} {
		s.start(name, "orders", "invoices", "emails")
	}
	s.awaitRunning(2)
	p := newPrometheus(s)
	for range 3 {
		s.append(20)
	}
	p.awaitAlert(false, "WorkersShowNothing")
	p.awaitAlert(false, "OrchestratorMetricsMissing")
	assert.Empty(t, p.firing())

	s.exec("INSERT INTO faults (projection, aggregate_id, error) VALUES ('orders', 'order-7', 'bad'), ('invoices', 'order-9', 'bad')")
	s.append(20)
	p.awaitAlert(true, "AggregatesAreParked")
	p.awaitAlert(true, "ProjectionStopped")
	p.requireDashboard()
	s.exec("DELETE FROM faults")
	require.NoError(t, s.admin.Resume(t.Context(), admin.Target{Projection: "invoices"}, "repaired"))
	_, err := s.admin.Retry(t.Context(), admin.Filter{}, "repaired")
	require.NoError(t, err)
	p.awaitAlert(false, "AggregatesAreParked")
	p.awaitAlert(false, "ProjectionStopped")

	s.exec("INSERT INTO faults (projection, aggregate_id, error) VALUES ('emails', 'order-1', 'bad')")
	s.append(5)
	p.awaitAlert(true, "EventFails")
	s.exec("DELETE FROM faults")
	p.awaitAlert(false, "EventFails")

	open, err := s.db.Begin(t.Context())
	require.NoError(t, err)
	_, err = open.Exec(t.Context(), "LOCK TABLE events IN ROW EXCLUSIVE MODE")
	require.NoError(t, err)
	p.awaitAlert(true, "HorizonHeldBack")
	require.NoError(t, open.Rollback(t.Context()))
	p.awaitAlert(false, "HorizonHeldBack")

	s.exec("INSERT INTO faults (projection, aggregate_id, seconds) VALUES ('emails', '', 1)")
	stop := s.appendAlways()
	p.awaitAlert(true, "LagGrows")
	p.awaitAlert(true, "EventsWaitLong")
	p.awaitAlert(true, "ProjectionBehind")
	stop()
	s.exec("DELETE FROM faults")
	for _, name := range []string{"LagGrows", "EventsWaitLong", "ProjectionBehind"} {
		p.awaitAlert(false, name)
	}

	s.start("worker-3", "reports")
	s.awaitRunning(3)
	require.NoError(t, s.workers["worker-3"].Terminate())
	p.awaitAlert(true, "ProjectionNotRun")
	s.start("worker-3", "reports")
	p.awaitAlert(false, "ProjectionNotRun")
	s.awaitRunning(3)

	s.exec("INSERT INTO faults (projection, aggregate_id, seconds) VALUES ('emails', 'order-3', 60)")
	s.append(5)
	s.await("1", "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid() AND state = 'active'")
	s.start("worker-4", "orders")
	p.awaitAlert(true, "GenerationNotMade")
	s.exec("DELETE FROM faults")
	s.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()")
	p.awaitAlert(false, "GenerationNotMade")

	s.kill("worker-2")
	p.awaitAlert(true, "WorkerLost")
	s.exec("UPDATE orchestrator_workers SET state_changed_at = now() - interval '11 minutes' WHERE state = 'dead'") // ten minutes later
	p.awaitAlert(false, "WorkerLost")

	for _, name := range []string{"worker-1", "worker-3", "worker-4"} {
		require.NoError(t, s.workers[name].Freeze())
	}
	p.awaitAlert(true, "WorkerSilent")
	p.awaitAlert(true, "NoWorkers")
	for _, name := range []string{"worker-1", "worker-3", "worker-4"} {
		s.kill(name)
	}
	p.awaitAlert(true, "WorkersShowNothing")
	s.start("worker-5", "orders", "invoices", "emails", "reports")
	s.awaitRunning(1)
	p.scrapeWorkers()
	for _, name := range []string{"NoWorkers", "WorkerSilent", "WorkersShowNothing"} {
		p.awaitAlert(false, name)
	}
	p.endServe()
	p.awaitAlert(true, "OrchestratorMetricsMissing")
}

// appendAlways appends until stop is called.
func (s *stage) appendAlways() (stop func()) {
	i := 0
	return s.often(30*time.Millisecond, func() {
		i++
		assert.NoError(s.t, pgx.BeginFunc(s.t.Context(), s.db, func(tx pgx.Tx) error { return s.appendTo(tx, fmt.Sprint("stream-", i%20)) }))
	})
}

// dashboard is the part of Grafana's file that is tested.
type dashboard struct {
	UID        string
	Inputs     any `json:"__inputs"`
	Templating struct {
		List []struct{ Name, Type string }
	}
	Panels []struct {
		Type, Title, Description string
		Datasource               struct{ UID string }
		Targets                  []struct{ Expr string }
	}
}

// requireDashboard requires that every query of the dashboard has data.
func (p *prometheus) requireDashboard() {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join(deploy, "grafana", "dashboard.json"))
	require.NoError(p.t, err)
	var d dashboard
	require.NoError(p.t, json.Unmarshal(text, &d))
	assert.Equal(p.t, "pupsourcing-orchestrator", d.UID)
	assert.Nil(p.t, d.Inputs)
	var variables []string
	for _, v := range d.Templating.List {
		variables = append(variables, v.Name)
	}
	assert.Equal(p.t, []string{"datasource", "replica_set", "projection"}, variables)
	queries := 0
	for _, panel := range d.Panels {
		if panel.Type == "row" {
			continue
		}
		assert.Equal(p.t, "${datasource}", panel.Datasource.UID, panel.Title)
		assert.NotEmpty(p.t, panel.Description, panel.Title)
		for _, target := range panel.Targets {
			for _, rate := range []string{"rate(", "increase("} {
				assert.Equal(p.t, strings.Count(target.Expr, rate) > 0, strings.Contains(target.Expr, rate) && strings.Contains(target.Expr, "[$__rate_interval]"), target.Expr)
			}
			expr := strings.NewReplacer("$__rate_interval", "5s", "$replica_set", replicaSet, "$projection", ".*").Replace(target.Expr)
			eventually(p.t, func() bool { return p.hasData(expr) }, func() string { return panel.Title + ": " + expr })
			queries++
		}
	}
	assert.Greater(p.t, queries, 25)
	p.t.Logf("%d queries of the dashboard have data", queries)
}

// hasData says whether a query has had a value within the last half minute.
func (p *prometheus) hasData(expr string) bool {
	p.t.Helper()
	now := time.Now()
	var data struct{ Result []any }
	p.ask("query_range", url.Values{"query": {expr}, "start": {fmt.Sprint(now.Add(-30 * time.Second).Unix())}, "end": {fmt.Sprint(now.Unix())}, "step": {"1"}}, &data)
	return len(data.Result) > 0
}

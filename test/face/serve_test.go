package face

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/cli"
	"github.com/getpup/pupsourcing-orchestrator/v2/metrics"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/statuspage"
)

// tablesOf is a page of the metrics from the tables.
func (w *world) tablesOf(a *admin.Admin) http.Handler {
	w.t.Helper()
	registry := prometheus.NewPedanticRegistry()
	require.NoError(w.t, registry.Register(statuspage.NewCollector(a)))
	return metrics.Handler(registry)
}

// requireSeries requires that a page has series, each with its labels but replica_set, and its value.
func requireSeries(t *testing.T, page string, want ...string) {
	t.Helper()
	page = strings.ReplaceAll(strings.ReplaceAll(page, `replica_set="set",`, ""), `,replica_set="set"`, "")
	page = strings.ReplaceAll(page, `{replica_set="set"}`, "")
	for _, line := range want {
		require.Contains(t, page, "\npupsourcing_orchestrator_set_"+line+"\n")
	}
}

// The tables say how a replica set is, also after its last worker has gone.
func TestTheMetricsOfTheTables(t *testing.T) {
	w := newWorld(t)
	requireSeries(t, scrape(t, w.tablesOf(w.admin("set"))), "generation 0", `workers{state="running"} 0`, "generation_preparing_seconds 0")
	w.appendInTurn(2, "ada", "grace", "alan")
	r := start(t, w.orchestrator("set", parkAtOnce, orchestrator.WithWorkerName("w7"), orchestrator.WithErrorPolicyFor("q", projection.ErrorPolicy{Attempts: 1, Then: projection.Stop})),
		recorder{name: `p"{}`, before: poisoned(errBad, 1)}, recorder{name: "q", before: poisoned(errBad, 2)}, recorder{name: "r"})
	w.await("2", "SELECT letters FROM orchestrator_parked_aggregates")
	w.await("2", "SELECT stopped_at FROM orchestrator_checkpoints WHERE stopped_at IS NOT NULL")
	w.awaitHandled("r", 6)
	require.NoError(t, w.admin("set").Pause(t.Context(), admin.Target{Projection: "r"}, "", time.Time{}))
	w.append("ada", 1)
	w.await("7", `SELECT position FROM orchestrator_checkpoints WHERE projection = 'p"{}'`)
	requireSeries(t, scrape(t, w.tablesOf(w.admin("set"))),
		`workers{state="running"} 1`, `workers{state="silent"} 0`, `workers{state="dead"} 0`, "workers_drained 0", "abandoned_handlers 0", "generation 1",
		`projection_workers{projection="q"} 1`, `projection_position{projection="p\"{}"} 7`, `projection_lag_events{projection="p\"{}"} 0`, `projection_lag_events{projection="r"} 1`,
		`projection_held{projection="r"} 1`, `projection_held{projection="q"} 0`, `projection_stopped{projection="q"} 1`, `parked_aggregates{projection="p\"{}"} 1`,
		`letters{projection="p\"{}",state="parked"} 3`, `letters{projection="q",state="stopped"} 1`, `letters{projection="r",state="skipped"} 0`,
		"horizon_position 7", "last_allocated_position 7", "horizon_held_back_seconds 0", "regressions 0", "operations_waiting 0", "projections_left_out 0")
	require.NoError(t, r.stop())
	requireSeries(t, scrape(t, w.tablesOf(w.admin("set"))), `workers{state="running"} 0`, `projection_workers{projection="q"} 0`, `projection_stopped{projection="q"} 1`)

	// So it is after a host has vanished that was the last one: nobody has declared it dead.
	w.exec("UPDATE orchestrator_workers SET state = 'running'")
	w.exec("UPDATE orchestrator_heartbeats SET last_heartbeat = now() - interval '1 minute'")
	requireSeries(t, scrape(t, w.tablesOf(w.admin("set"))), `workers{state="running"} 0`, `workers{state="silent"} 1`)
	w.exec("UPDATE orchestrator_workers SET state = 'dead', state_changed_at = now() - interval '1 minute'")
	requireSeries(t, scrape(t, w.tablesOf(w.admin("set"))), `workers{state="silent"} 0`, `workers{state="dead"} 1`)
	w.exec("UPDATE orchestrator_workers SET state_changed_at = now() - interval '11 minutes'")
	requireSeries(t, scrape(t, w.tablesOf(w.admin("set"))), `workers{state="dead"} 0`)
}

// A scrape costs a snapshot, and those within a second share it. If the database cannot be read the scrape fails.
func TestAScrapeCostsASnapshot(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	count := w.counted()
	a := w.admin("set")
	w.snapshot(a)
	before := count.Load()
	w.snapshot(a)
	one := count.Load() - before
	page := w.tablesOf(a)
	before = count.Load()
	for range 3 {
		scrape(t, page)
	}
	assert.Equal(t, one, count.Load()-before)
	w.exec("DROP TABLE orchestrator_turns")
	status, body := get(t, w.tablesOf(a), "/metrics")
	assert.Equal(t, http.StatusInternalServerError, status)
	assert.Contains(t, body, `orchestrator_turns" does not exist`)
	assert.Panics(t, func() { statuspage.NewCollector(nil) })
}

// served is the command serve, while it runs.
type served struct {
	t       *testing.T
	address string
	cancel  context.CancelFunc
	ended   chan int
}

func (w *world) serve(getenv func(string) string, args ...string) *served {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	w.t.Cleanup(cancel)
	s := &served{t: w.t, cancel: cancel, ended: make(chan int, 1)}
	said, says := io.Pipe()
	connect := func(ctx context.Context) (*pgxpool.Pool, error) { return pgxpool.NewWithConfig(ctx, w.db.Config()) }
	go func() {
		s.ended <- cli.Run(ctx, append([]string{"serve", "--listen", "127.0.0.1:0", "--replica-set", "set"}, args...), cli.Config{Stderr: says, Getenv: getenv, Connect: connect})
		_ = says.Close()
	}()
	line := make([]byte, 1<<10)
	n, _ := said.Read(line)
	go func() { _, _ = io.Copy(io.Discard, said) }()
	s.address = regexp.MustCompile(`http://\S+/`).FindString(string(line[:n]))
	return s
}

// ask sends a request; name and password are the browser's.
func (s *served) ask(method, path, name, password string, form url.Values) (status int, body string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.address+path, strings.NewReader(form.Encode()))
	require.NoError(s.t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if name != "" {
		r.SetBasicAuth(name, password)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	answer, err := client.Do(r)
	require.NoError(s.t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(s.t, err)
	return answer.StatusCode, string(text)
}

// The command serves the page and the metrics of a replica set without a worker, to read only, until it is interrupted.
func TestServe(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	nothing := func(string) string { return "" }
	s := w.serve(nothing)
	status, body := s.ask(http.MethodGet, "", "", "", nil)
	assert.Equal(t, http.StatusOK, status)
	assert.Contains(t, body, "No worker of this replica set has run yet.")
	status, body = s.ask(http.MethodGet, "metrics", "", "", nil)
	assert.Equal(t, http.StatusOK, status)
	requireSeries(t, body, "generation 0")
	_, body = s.ask(http.MethodGet, "healthz", "", "", nil)
	assert.Equal(t, "ok\n", body)
	status, _ = s.ask(http.MethodGet, "favicon.ico", "", "", nil)
	assert.Equal(t, http.StatusNotFound, status)
	status, _ = s.ask(http.MethodPost, "", "", "", url.Values{"do": {"pause"}, "projection": {"p"}, "reason": {"x"}})
	assert.Equal(t, http.StatusForbidden, status)
	s.cancel()
	assert.Zero(t, await(t, s.ended, "serve to end"))
	_, err := http.Get(s.address)
	require.Error(t, err)

	for _, args := range [][]string{{"--act"}, {"--payloads", "some"}, {"more"}} {
		assert.Equal(t, 2, await(t, w.serve(nothing, args...).ended, "serve to end"), args)
	}
	assert.Equal(t, 1, await(t, w.serve(nothing, "--listen", "nowhere:1:1").ended, "serve to end"))
}

// With --act nobody gets in without the token, and who acts is on record.
func TestServeWithAToken(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	r := start(t, w.orchestrator("set"), recorder{name: "p"})
	w.awaitRunning("set", 1)
	const token = "a token for tests"
	s := w.serve(func(name string) string { return map[string]string{"PUPSOURCING_SERVE_TOKEN": token}[name] }, "--act")
	for _, password := range []string{"", "x", token + "x"} {
		status, body := s.ask(http.MethodGet, "", "grace", password, nil)
		assert.Equal(t, http.StatusUnauthorized, status)
		assert.NotContains(t, body, "worker")
		status, _ = s.ask(http.MethodPost, "", "grace", password, url.Values{"do": {"pause"}, "projection": {"p"}, "reason": {"x"}})
		assert.Equal(t, http.StatusUnauthorized, status)
	}
	status, body := s.ask(http.MethodGet, "", "grace", token, nil)
	assert.Equal(t, http.StatusOK, status)
	assert.Contains(t, body, "?ask=pause")
	status, _ = s.ask(http.MethodPost, "", "grace", token, url.Values{"do": {"pause"}, "projection": {"p"}, "reason": {"why"}})
	assert.Equal(t, http.StatusSeeOther, status)
	assert.Equal(t, "pause grace why", w.value("SELECT kind, actor, reason FROM orchestrator_operations"))
	s.cancel()
	assert.Zero(t, await(t, s.ended, "serve to end"))
	require.NoError(t, r.stop())
}

// How long events wait follows from the leader's samples. What no sample says is not known: it is not taken for nothing.
func TestTheTablesSayHowLongEventsWait(t *testing.T) {
	w := newWorld(t)
	w.append("ada", 1)
	r := start(t, w.orchestrator("set"), recorder{name: "p"})
	w.awaitHandled("p", 1)
	a := w.admin("set")
	require.NoError(t, a.Pause(t.Context(), admin.Target{Projection: "p"}, "", time.Time{}))
	requireSeries(t, scrape(t, w.tablesOf(a)), `projection_lag_seconds{projection="p"} 0`)
	require.NoError(t, r.stop())
	w.append("ada", 2)
	w.exec("DELETE FROM orchestrator_samples")
	assert.Nil(t, w.snapshot(a).Projections[0].LagSeconds)
	assert.NotContains(t, scrape(t, w.tablesOf(a)), "lag_seconds")

	w.exec(`INSERT INTO orchestrator_samples (replica_set, position, sampled_at) SELECT * FROM (VALUES
		('set', 1, now() - interval '1 hour'), ('set', 2, now() - interval '10 minutes'), ('set', 3, now()), ('other', 3, now() - interval '1 day')) AS v`)
	lag := w.snapshot(a).Projections[0].LagSeconds
	require.NotNil(t, lag)
	assert.InDelta(t, 600, *lag, patience.Seconds())
	_, page := get(t, statuspage.New(a), "/")
	assert.Contains(t, page, "Lag, for 10 min")
}

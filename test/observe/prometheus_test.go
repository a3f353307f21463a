package observe

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/cli"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

// deploy is the directory of the rules and the dashboard.
var deploy = filepath.Join("..", "..", "deploy")

// rules are the alert rules for a test: what takes minutes takes seconds, and thresholds are what a test reaches.
func rules(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deploy, "prometheus", "rules.yml"))
	require.NoError(t, err)
	short := string(text)
	for _, change := range [][2]string{
		{`for: \d+m`, "for: 1s"},
		{`\[\d+[mh]\]`, "[5s]"},
		{`preparing_seconds\) > 120`, "preparing_seconds) > 1"},
		{`\[5s\]\) > 1 and (\w+) > 1000`, "[5s]) > 0.5 and $1 > 10"},
		{`held_back_seconds\) > 60`, "held_back_seconds) > 1"},
		{`> 10000 unless`, "> 10 unless"},
		{`> 300 unless`, "> 1 unless"},
		{`changes_total\[5s\]\)\)\) > 10\b`, "changes_total[5s]))) > 1"},
	} {
		pattern := regexp.MustCompile(change[0])
		require.True(t, pattern.MatchString(short), change[0])
		short = pattern.ReplaceAllString(short, change[1])
	}
	return short
}

// prometheus is a server that scrapes the workers of a stage, and what the command serve shows of its tables.
type prometheus struct {
	*stage
	dir, address string
	endServe     context.CancelFunc
}

func newPrometheus(s *stage) *prometheus {
	s.t.Helper()
	program := program(s.t, "prometheus")
	p := &prometheus{stage: s, dir: s.t.TempDir()}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(s.t, err)
	p.address = listener.Addr().String()
	require.NoError(s.t, listener.Close())
	p.write("rules.yml", rules(s.t))
	p.scrapeWorkers()
	p.write("prometheus.yml", `
global: {scrape_interval: 300ms, scrape_timeout: 300ms, evaluation_interval: 300ms}
rule_files: [rules.yml]
scrape_configs:
  - job_name: workers
    file_sd_configs: [{files: [workers.json], refresh_interval: 1s}]
  - job_name: replica-set
    static_configs: [{targets: ["`+p.startServe()+`"]}]
`)
	log, err := os.Create(filepath.Join(p.dir, "log"))
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = log.Close() })
	server := exec.Command(program, "--config.file", filepath.Join(p.dir, "prometheus.yml"), "--storage.tsdb.path", filepath.Join(p.dir, "data"), "--web.listen-address", p.address)
	server.Stdout, server.Stderr = log, log
	require.NoError(s.t, server.Start())
	s.t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGTERM)
		_ = server.Wait()
		if s.t.Failed() {
			text, _ := os.ReadFile(log.Name())
			s.t.Logf("Prometheus' log:\n%s", text[max(0, len(text)-2000):])
		}
	})
	eventually(s.t, func() bool {
		answer, err := http.Get("http://" + p.address + "/-/ready")
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	}, func() string { return "Prometheus" })
	return p
}

func (p *prometheus) write(name, text string) {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	require.NoError(p.t, os.WriteFile(path+".new", []byte(text), 0o600))
	require.NoError(p.t, os.Rename(path+".new", path))
}

// scrapeWorkers has Prometheus scrape the workers that have entered their addresses.
func (p *prometheus) scrapeWorkers() {
	p.t.Helper()
	rows, err := p.db.Query(p.t.Context(), "SELECT address FROM addresses")
	require.NoError(p.t, err)
	addresses, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(p.t, err)
	text, err := json.Marshal([]map[string]any{{"targets": append([]string{}, addresses...)}})
	require.NoError(p.t, err)
	p.write("workers.json", string(text))
}

// startServe runs the command serve, and returns its address.
func (p *prometheus) startServe() string {
	p.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(p.t.Context()))
	p.endServe = cancel
	said, says := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- cli.Run(ctx, []string{"serve", "--listen", "127.0.0.1:0", "--replica-set", replicaSet}, cli.Config{Stderr: says, Connect: func(ctx context.Context) (*pgxpool.Pool, error) {
			return workload.Target{DSN: p.dsn}.Pool(ctx, 2)
		}})
		_ = says.Close()
	}()
	p.t.Cleanup(func() {
		cancel()
		<-ended
	})
	line := make([]byte, 1<<10)
	n, _ := said.Read(line)
	go func() { _, _ = io.Copy(io.Discard, said) }()
	address := regexp.MustCompile(`http://(\S+)/`).FindSubmatch(line[:n])
	require.NotNil(p.t, address, "%s", line[:n])
	return string(address[1])
}

// ask is the answer to a query of Prometheus' API: its data.
func (p *prometheus) ask(path string, query url.Values, data any) {
	p.t.Helper()
	answer, err := http.Get("http://" + p.address + "/api/v1/" + path + "?" + query.Encode())
	require.NoError(p.t, err)
	defer answer.Body.Close()
	var all struct {
		Data  json.RawMessage
		Error string
	}
	require.NoError(p.t, json.NewDecoder(answer.Body).Decode(&all))
	require.Empty(p.t, all.Error, query)
	require.NoError(p.t, json.Unmarshal(all.Data, data))
}

// firing are the names of the alerts that fire, in order.
func (p *prometheus) firing() (names []string) {
	p.t.Helper()
	var data struct {
		Alerts []struct {
			Labels map[string]string
			State  string
		}
	}
	p.ask("alerts", nil, &data)
	for _, a := range data.Alerts {
		if a.State == "firing" {
			names = append(names, a.Labels["alertname"])
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// awaitAlert waits until an alert fires, or does not.
func (p *prometheus) awaitAlert(fires bool, name string) {
	p.t.Helper()
	began := time.Now()
	eventually(p.t, func() bool { return slices.Contains(p.firing(), name) == fires }, func() string { return fmt.Sprintf("%s: fires should be %t; firing: %v", name, fires, p.firing()) })
	p.t.Logf("%-28s %s after %.1f s", name, map[bool]string{true: "fires", false: "stops"}[fires], time.Since(began).Seconds())
}

// promtool runs a command of it in the directory of the rules.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	program(t, "prometheus")
	cmd := exec.Command("promtool", args...)
	cmd.Dir = filepath.Join(deploy, "prometheus")
	output, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", output)
	t.Logf("promtool %s:\n%s", strings.Join(args, " "), output)
}

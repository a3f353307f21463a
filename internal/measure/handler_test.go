package measure_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/measure"
	"github.com/getpup/pupsourcing-orchestrator/v2/metrics"
)

// scrape asks the handler for its metrics as a server of the given format.
func scrape(t *testing.T, h http.Handler, accept string) (*http.Response, string) {
	t.Helper()
	server := httptest.NewServer(h)
	defer server.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, http.NoBody)
	require.NoError(t, err)
	req.Header.Set("Accept", accept)
	rsp, err := server.Client().Do(req)
	require.NoError(t, err)
	defer rsp.Body.Close()
	body, err := io.ReadAll(rsp.Body)
	require.NoError(t, err)
	return rsp, string(body)
}

func TestHandlerServesTheRegistry(t *testing.T) {
	t.Parallel()
	reg, m := newRegistry(t)
	recordEverything(m.ReplicaSet("main-projections"))

	rsp, body := scrape(t, metrics.Handler(reg), "")
	require.Equal(t, http.StatusOK, rsp.StatusCode)
	require.Contains(t, rsp.Header.Get("Content-Type"), "text/plain")
	require.Contains(t, body, "# TYPE pupsourcing_orchestrator_leader gauge\n"+
		`pupsourcing_orchestrator_leader{replica_set="main-projections"} 1`+"\n")
	for _, name := range measure.Names() {
		require.Contains(t, body, "# HELP "+name+" ")
	}

	rsp, body = scrape(t, metrics.Handler(reg), "application/openmetrics-text; version=1.0.0")
	require.Equal(t, http.StatusOK, rsp.StatusCode)
	require.Contains(t, rsp.Header.Get("Content-Type"), "application/openmetrics-text")
	require.Contains(t, body, "# EOF\n")
}

// faulty is a collector that fails beside those that do not.
type faulty struct{ desc *prometheus.Desc }

func (f faulty) Describe(ch chan<- *prometheus.Desc) { ch <- f.desc }

func (f faulty) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.NewInvalidMetric(f.desc, errors.New("the disk is on fire"))
}

func TestHandlerFailsAsAWhole(t *testing.T) {
	t.Parallel()
	reg, m := newRegistry(t)
	m.ReplicaSet("a").Leader(true)
	require.NoError(t, reg.Register(faulty{prometheus.NewDesc("disk_temperature_celsius", "Hot.", nil, nil)}))

	rsp, body := scrape(t, metrics.Handler(reg), "")
	require.Equal(t, http.StatusInternalServerError, rsp.StatusCode)
	require.Contains(t, body, "the disk is on fire")
	require.NotContains(t, body, "pupsourcing_orchestrator_leader{")
}

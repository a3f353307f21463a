package metrics

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Handler serves everything that g gathers, in the text format, or as OpenMetrics to a scraper that asks for it. g is
// usually the registry that was passed to orchestrator.WithMetricsRegisterer. It must not be nil.
//
// If gathering fails, even in part, the answer is HTTP 500 with the error as its body. A partial answer would hide the
// fault: an alert on a missing series stays silent, while a failed scrape shows as up == 0. An application that prefers
// the partial answer mounts promhttp.HandlerFor with promhttp.ContinueOnError on its registry instead.
func Handler(g prometheus.Gatherer) http.Handler {
	return promhttp.HandlerFor(g, promhttp.HandlerOpts{
		ErrorHandling:     promhttp.HTTPErrorOnError,
		EnableOpenMetrics: true,
	})
}

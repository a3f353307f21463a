package metrics

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Handler serves everything that g gathers, in the text format or, to a scraper
// that asks for it, as OpenMetrics. g is usually the registry that was given to
// orchestrator.WithMetricsRegisterer and must not be nil.
//
// If gathering fails, even in part, the answer is HTTP 500 with the error as its
// body. Serving what could be gathered would hide the fault: an alert on a
// series that is missing stays silent, while a failed scrape shows as up == 0.
// An application that prefers the partial answer mounts promhttp.HandlerFor with
// promhttp.ContinueOnError on its registry instead.
func Handler(g prometheus.Gatherer) http.Handler {
	return promhttp.HandlerFor(g, promhttp.HandlerOpts{
		ErrorHandling:     promhttp.HTTPErrorOnError,
		EnableOpenMetrics: true,
	})
}

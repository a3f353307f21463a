package metrics_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/metrics"
)

// Two replica sets of one process share a registry of the application's. Each has its series from when its Run is called.
func ExampleHandler() {
	db, err := pgxpool.New(context.Background(), "postgres://localhost/app") // connects when it is used
	if err != nil {
		panic(err)
	}
	defer db.Close()
	registry := prometheus.NewRegistry()
	for _, replicaSet := range []string{"users", "mails"} {
		_, err := orchestrator.New(db, eventstore.New(), replicaSet, orchestrator.WithMetricsRegisterer(registry))
		if err != nil {
			panic(err)
		}
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics.Handler(registry))

	answer := httptest.NewRecorder()
	mux.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	fmt.Println(answer.Code)
	// Output: 200
}

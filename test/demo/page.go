package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/metrics"
	"github.com/getpup/pupsourcing-orchestrator/v2/statuspage"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

// keepPatience is longer than anybody watches.
const keepPatience = 10000 * time.Hour

// showPage serves the status page, and says where. It needs no token, since only this machine reaches it and the database.
func (d *demo) showPage(ctx context.Context) (err error) {
	if d.pagePool, err = d.database.Target.Pool(ctx, 2); err != nil {
		return err
	}
	a, err := admin.New(d.pagePool, eventstore.New(eventstore.WithLogger(nil)), replicaSet)
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("serving the status page: %w", err)
	}
	page := statuspage.New(a, statuspage.WithInterval(refresh), statuspage.WithAccess(func(*http.Request) statuspage.Access {
		return statuspage.Access{Act: true, Payloads: statuspage.FullPayloads}
	}))
	registry := prometheus.NewRegistry()
	if err := registry.Register(statuspage.NewCollector(a)); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/", page)
	mux.Handle("GET /metrics", metrics.Handler(registry))
	mux.HandleFunc("GET /metrics/{worker}", d.showMetrics)
	d.page = &http.Server{Handler: mux, ReadHeaderTimeout: time.Second}
	go func() { _ = d.page.Serve(listener) }() // until close
	d.screen.say(fmt.Sprintf("The status page is http://%[1]s/, and Prometheus can scrape http://%[1]s/metrics and, of a worker, http://%[1]s/metrics/w1", listener.Addr()))
	return nil
}

// keep goes on until a person interrupts it.
func (d *demo) keep(ctx context.Context) error {
	d.tell("KEEP=1: this goes on until Ctrl-C")
	return d.until(ctx, keepPatience, "a person interrupts it", func(workload.Snapshot) bool { return false })
}

// metricsAddress is where a worker is to serve its metrics.
func (d *demo) metricsAddress(worker string) (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("finding a port for the metrics of %s: %w", worker, err)
	}
	address := listener.Addr().String()
	d.metrics.Store(worker, address)
	return address, listener.Close()
}

// showMetrics shows the metrics of a worker, by its name.
func (d *demo) showMetrics(w http.ResponseWriter, r *http.Request) {
	value, _ := d.metrics.Load(r.PathValue("worker"))
	address, known := value.(string)
	if !known {
		http.Error(w, "there is no such worker", http.StatusNotFound)
		return
	}
	(&httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(&url.URL{Scheme: "http", Host: address})
	}, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}).ServeHTTP(w, r)
}

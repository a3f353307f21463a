package cli

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	urfave "github.com/urfave/cli/v3"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/metrics"
	"github.com/getpup/pupsourcing-orchestrator/v2/statuspage"
)

// serving is the name of the command that serves.
const serving = "serve"

const (
	tokenVariable = "PUPSOURCING_SERVE_TOKEN" //nolint:gosec // the name of a variable
	tokenLeast    = 16
	stopPatience  = 5 * time.Second // for requests that are under way
)

// serve is the command that serves the status page and the metrics.
func (a *app) serve() *urfave.Command {
	return &urfave.Command{
		Name: serving, Usage: "serve the status page and metrics for Prometheus, from the tables alone",
		Description: `/ is the status page, /metrics are the metrics, /healthz answers while the program runs.
No worker has to run. With --act, who knows the token in PUPSOURCING_SERVE_TOKEN may also
act: the browser asks for a name, which is recorded, and the token as the password.`,
		Flags: []urfave.Flag{
			&urfave.StringFlag{Name: "listen", Value: "127.0.0.1:8080", Usage: "`address` to listen at"},
			&urfave.BoolFlag{Name: "act", Usage: "let who knows the token pause, retry and drain; nobody else may read the page then"},
			&urfave.StringFlag{Name: "payloads", Value: "none", Usage: "`how much` of events that failed is shown: none, masked or full"},
			&urfave.DurationFlag{Name: "interval", Value: 2 * time.Second, Usage: "`time` between two looks at the database while somebody watches"},
		},
		Action: a.serveUntilEnd,
	}
}

// payloadsOf are the values of --payloads.
var payloadsOf = map[string]statuspage.Payloads{"none": statuspage.NoPayloads, "masked": statuspage.MaskedPayloads, "full": statuspage.FullPayloads}

// access is what requests may do, as the flags say. Without --act everybody may read.
func (a *app) access(c *urfave.Command) (func(*http.Request) statuspage.Access, string, error) {
	payloads, known := payloadsOf[c.String("payloads")]
	if !known {
		return nil, "", usage(c, fmt.Errorf("--payloads must be none, masked or full, got %q", c.String("payloads")))
	}
	if !c.Bool("act") {
		return func(*http.Request) statuspage.Access { return statuspage.Access{Read: true, Payloads: payloads} }, "", nil
	}
	token := a.config.Getenv(tokenVariable)
	if len(token) < tokenLeast {
		return nil, "", usage(c, fmt.Errorf("--act needs a token of at least %d bytes in %s, got %d", tokenLeast, tokenVariable, len(token)))
	}
	return func(r *http.Request) statuspage.Access {
		name, _, _ := r.BasicAuth() // with the token, see handler
		return statuspage.Access{Act: true, Payloads: payloads, Actor: name}
	}, token, nil
}

// same compares secrets in a time that tells nothing of them.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// handler is what is served. With a token, who has not given it is asked for it.
func handler(adm *admin.Admin, access func(*http.Request) statuspage.Access, token string, interval time.Duration) (http.Handler, error) {
	registry := prometheus.NewRegistry()
	if err := registry.Register(statuspage.NewCollector(adm)); err != nil {
		return nil, fmt.Errorf("registering the metrics: %w", err)
	}
	page := statuspage.New(adm, statuspage.WithAccess(access), statuspage.WithInterval(interval))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics.Handler(registry))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); token != "" && !same(password, token) {
			w.Header().Set("WWW-Authenticate", `Basic realm="pupsourcing-orchestrator", charset="UTF-8"`)
			http.Error(w, "give your name and the token", http.StatusUnauthorized)
			return
		}
		page.ServeHTTP(w, r)
	})
	return mux, nil
}

// serveUntilEnd serves until ctx ends.
func (a *app) serveUntilEnd(ctx context.Context, c *urfave.Command) error {
	if interval := c.Duration("interval"); interval < leastInterval {
		return usage(c, fmt.Errorf("--interval must be at least %s, got %s", leastInterval, interval))
	}
	access, token, err := a.access(c)
	if err != nil {
		return err
	}
	adm, err := a.withoutArguments(ctx, c)
	if err != nil {
		return err
	}
	served, err := handler(adm, access, token, c.Duration("interval"))
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.String("listen"))
	if err != nil {
		return fmt.Errorf("listening at --listen %s: %w", c.String("listen"), err)
	}
	server := &http.Server{Handler: served, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute}
	a.say("serving replica set %s at http://%s/", adm.ReplicaSet(), listener.Addr())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopPatience)
	defer cancel()
	if err := server.Shutdown(stop); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("stopping: %w", err)
	}
	return nil
}

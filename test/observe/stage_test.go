package observe

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/awaiting"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

// patience bounds every wait.
const patience = 30 * time.Second

const replicaSet = "main-projections"

// stage is a database with a replica set whose workers are processes.
type stage struct {
	t       *testing.T
	dsn     string
	db      *pgxpool.Pool
	store   *eventstore.Store
	admin   *admin.Admin
	workers map[string]*workload.Process

	coordination time.Duration // the workers' coordination timeout
	role         string        // the workers' role; empty for the server's owner
	logFull      string        // while this file exists, the workers' log takes no lines
}

func newStage(t *testing.T) *stage {
	t.Helper()
	return newStageOn(t, pgtest.NewDSN(t))
}

func newStageOn(t *testing.T, dsn string) *stage {
	t.Helper()
	s := &stage{t: t, dsn: dsn, store: eventstore.New(), workers: map[string]*workload.Process{}, coordination: 20 * time.Second, logFull: filepath.Join(t.TempDir(), "full")}
	db, err := workload.Target{DSN: s.dsn}.Pool(t.Context(), 8)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	s.db = db
	require.NoError(t, eventstore.RunMigrations(db, eventstore.WithLogger(nil)))
	require.NoError(t, orchestrator.RunMigrations(db))
	s.exec("CREATE TABLE addresses (name text PRIMARY KEY, address text NOT NULL)")
	s.exec("CREATE TABLE faults (projection text, aggregate_id text, error text NOT NULL DEFAULT '', seconds float NOT NULL DEFAULT 0, PRIMARY KEY (projection, aggregate_id))")
	s.admin, err = admin.New(db, s.store, replicaSet, admin.WithActor("anna@ops"))
	require.NoError(t, err)
	t.Cleanup(func() {
		var all []*workload.Process
		for _, p := range s.workers {
			all = append(all, p)
		}
		require.NoError(t, workload.KillAll(all, patience))
	})
	return s
}

// start starts a worker with short times.
func (s *stage) start(name string, projections ...string) {
	s.t.Helper()
	spec := workload.WorkerSpec{
		Target: workload.Target{DSN: s.dsn}, ReplicaSet: replicaSet, Name: name,
		HeartbeatInterval: 300 * time.Millisecond, StaleWorkerTimeout: 2 * time.Second, CoordinationTimeout: s.coordination, PollInterval: 20 * time.Millisecond,
	}
	if s.role != "" {
		config, err := pgx.ParseConfig(s.dsn)
		require.NoError(s.t, err)
		spec.Target.DSN = fmt.Sprintf("host=%s port=%d user=%s dbname=%s sslmode=disable", config.Host, config.Port, s.role, config.Database)
	}
	for _, p := range projections {
		spec.Projections = append(spec.Projections, workload.ProjectionSpec{Name: p})
	}
	s.t.Setenv(logFullVariable, s.logFull)
	p, err := workload.Spawn(spec, s.t.TempDir())
	require.NoError(s.t, err)
	s.workers[name] = p
}

// asRole has the workers that are started from now on connect as a role that may use the tables and is no superuser.
func (s *stage) asRole(name string) {
	s.t.Helper()
	s.role = name
	s.exec("CREATE ROLE " + s.role + " LOGIN")
	s.exec("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO " + s.role)
	s.exec("GRANT SELECT, USAGE ON ALL SEQUENCES IN SCHEMA public TO " + s.role)
}

// often does something again and again until stop is called.
func (s *stage) often(every time.Duration, do func()) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				do()
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

func (s *stage) kill(name string) {
	s.t.Helper()
	require.NoError(s.t, s.workers[name].Kill())
}

// append appends an event to each of n aggregates.
func (s *stage) append(n int) {
	s.t.Helper()
	for i := range n {
		require.NoError(s.t, pgx.BeginFunc(s.t.Context(), s.db, func(tx pgx.Tx) error { return s.appendTo(tx, fmt.Sprintf("order-%d", i)) }))
	}
}

// appendTo appends an event to an aggregate.
func (s *stage) appendTo(tx pgx.Tx, id string) error {
	_, err := s.store.Append(s.t.Context(), tx, es.Any(), []es.Event{{
		BoundedContext: "Sales", AggregateType: "Order", AggregateID: id, EventType: "OrderPlaced", Payload: []byte(`{"customer":"Ada","total":12}`),
	}})
	return err
}

func (s *stage) exec(sql string, args ...any) {
	s.t.Helper()
	_, err := s.db.Exec(s.t.Context(), sql, args...)
	require.NoError(s.t, err)
}

// await waits until a query yields what is wanted, as text.
func (s *stage) await(want, sql string, args ...any) {
	s.t.Helper()
	got := ""
	eventually(s.t, func() bool {
		require.NoError(s.t, s.db.QueryRow(s.t.Context(), "SELECT coalesce(("+sql+")::text, '')", args...).Scan(&got))
		return got == want
	}, func() string { return fmt.Sprintf("%s\nwanted %s\ngot    %s", sql, want, got) })
}

// awaitRunning waits until a generation with n workers is active.
func (s *stage) awaitRunning(n int) {
	s.t.Helper()
	s.await(fmt.Sprint(n), `SELECT count(*) FROM orchestrator_workers w JOIN orchestrator_generations g
		ON g.replica_set = w.replica_set AND g.number = w.generation AND g.state = 'active' WHERE w.state = 'running' AND cardinality(g.members) = $1`, n)
}

// serve serves a handler.
func (s *stage) serve(h http.Handler) string {
	s.t.Helper()
	server := httptest.NewServer(h)
	s.t.Cleanup(server.Close)
	return server.URL
}

// eventually waits until a condition holds.
func eventually(t *testing.T, holds func() bool, describe func() string) {
	t.Helper()
	awaiting.Until(t, patience, holds, describe)
}

// value is what a query yields, as text.
func (s *stage) value(sql string, args ...any) (got string) {
	s.t.Helper()
	require.NoError(s.t, s.db.QueryRow(s.t.Context(), "SELECT ("+sql+")::text", args...).Scan(&got))
	return got
}

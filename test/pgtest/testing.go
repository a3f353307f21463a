package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"
)

// Variables of the environment that name the server to use; see the package's documentation.
const (
	DatabaseURLVariable = "DATABASE_URL"
	ServerURLVariable   = "PGTEST_URL"
)

const (
	poolSize       = 16
	cleanupTimeout = 30 * time.Second
)

// shared is the server of a test binary's databases.
var shared struct {
	inMain  bool // set by Main before the first test
	once    sync.Once
	dsn     string
	cluster *Cluster // nil if the server is somebody else's
	err     error
	bouncer *Bouncer // what tests reach the server through; nil for directly
}

// Main is the body of TestMain in a package that uses databases: it runs the tests, stops the server if one was started, fails
// if goroutines are left over, and exits. leaks are goleak's options, for goroutines that the code under test cannot end.
func Main(m *testing.M, leaks ...goleak.Option) { os.Exit(RunMain(m, leaks...)) }

// RunMain does what Main does, and returns the code to exit with.
func RunMain(m *testing.M, leaks ...goleak.Option) (code int) {
	shared.inMain = true
	return finish(m.Run(), leaks)
}

// finish stops what was started and returns the code to exit with.
func finish(code int, leaks []goleak.Option) int {
	end := dropTemplates
	if shared.cluster != nil {
		end = func(context.Context) error { return shared.cluster.Close() }
	}
	err := end(context.Background())
	closeSpare()
	if err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		code = max(code, 1)
	}
	if code == 0 {
		if err := goleak.Find(leaks...); err != nil {
			fmt.Fprintln(os.Stderr, "pgtest: goroutines are left after the last test:", err)
			code = 1
		}
	}
	return code
}

// IgnoreServer is for a goleak check inside a test: it ignores the goroutine that waits for a server of this package.
func IgnoreServer() goleak.Option {
	return goleak.IgnoreAnyFunction("github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest.(*process).run")
}

// NewDSN creates an empty database for the test and returns its connection string, through PgBouncer in the second run of
// [MainTwice]. When the test ends the database is dropped, with the sessions that are still in it.
func NewDSN(t testing.TB) string {
	t.Helper()
	return newDSN(t, emptyTemplate)
}

// newDSN is NewDSN of a copy of the database template.
func newDSN(t testing.TB, template string) string {
	t.Helper()
	server := serverDSN(t)
	name := newName()
	dsn, err := createDatabase(t.Context(), server, name, template)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
		defer cancel()
		if err := dropDatabase(ctx, server, name); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	if shared.bouncer != nil {
		return shared.bouncer.DSN(name)
	}
	return dsn
}

// NewDatabase creates an empty database for the test and returns a pool of at most 16 connections to it. When the test ends the
// pool is closed, which fails the test if connections were not given back, and the database is dropped.
func NewDatabase(t testing.TB) *pgxpool.Pool {
	t.Helper()
	return newPool(t, NewDSN(t))
}

// newPool is the pool of NewDatabase.
func newPool(t testing.TB, dsn string) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	config.MaxConns = poolSize
	if shared.bouncer != nil {
		config.ConnConfig.DialFunc = dialPatiently
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			pool.Close()
		}()
		timer := time.NewTimer(cleanupTimeout)
		defer timer.Stop()
		select {
		case <-closed:
		case <-timer.C:
			t.Errorf("pgtest: %d connections of the pool were not given back", pool.Stat().AcquiredConns())
		}
	})
	return pool
}

// dialPatiently connects also while a PgBouncer that has died is started again, see [Bouncer.keepUp].
func dialPatiently(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, bouncerStart)
	defer cancel()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, network, address)
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-poll.C:
		}
	}
}

// Own starts a server for one test, to be stopped and killed as the test likes, and closes it when the test ends. Of a test
// that failed the server's log is shown.
func Own(t testing.TB, opts Options) *Cluster {
	t.Helper()
	c, err := Start(t.Context(), opts)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("PostgreSQL's log:\n%s", c.Log())
		}
		if err := c.Close(); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return c
}

// PostgresVersion returns the version of the server that the test's databases are on, as the setting server_version_num has it:
// 150013 for 15.13.
func PostgresVersion(t testing.TB) int {
	t.Helper()
	server := serverDSN(t)
	conn, err := takeConn(t.Context(), server)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	defer giveBack(t.Context(), server, conn)
	var version int
	if err := conn.QueryRow(t.Context(), "SELECT current_setting('server_version_num')::int").Scan(&version); err != nil {
		t.Fatalf("pgtest: reading the server's version: %v", err)
	}
	return version
}

// serverDSN returns the connection string of the test binary's server, which it starts if there is none.
func serverDSN(t testing.TB) string {
	t.Helper()
	if !shared.inMain {
		t.Fatal("pgtest: the package needs: func TestMain(m *testing.M) { pgtest.Main(m) }")
	}
	dsn, err := sharedServer()
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return dsn
}

// sharedServer returns the connection string of the test binary's server, which it starts if there is none.
func sharedServer() (dsn string, err error) {
	shared.once.Do(func() {
		for _, variable := range []string{DatabaseURLVariable, ServerURLVariable} {
			if shared.dsn = os.Getenv(variable); shared.dsn != "" {
				return
			}
		}
		if shared.cluster, shared.err = Start(context.Background(), Options{}); shared.err == nil {
			shared.dsn = shared.cluster.DSN(superuser)
		}
	})
	return shared.dsn, shared.err
}

package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"
)

// MainTwice is [Main] for a package whose tests run twice: directly, then with their databases behind PgBouncer in transaction
// mode. A test that asks [BehindPooler] can do without what a pooler does not give; one that cannot calls [SkipBehindPooler]. Where
// PgBouncer is not installed the second run is left out, which is said, and is a failure where CI is "true".
func MainTwice(m *testing.M, leaks ...goleak.Option) {
	shared.inMain = true
	code := m.Run()
	if code == 0 {
		code = runPooled(m)
	}
	os.Exit(finish(code, leaks))
}

// runPooled runs the tests through PgBouncer.
func runPooled(m *testing.M) (code int) {
	server, err := sharedServer()
	if err == nil {
		shared.bouncer, err = StartBouncer(context.Background(), server, TransactionMode, nil)
	}
	switch {
	case errors.Is(err, ErrNoBouncer) && !mustHaveBouncer():
		fmt.Fprintln(os.Stderr, "pgtest: SKIPPED the second run, through PgBouncer:", err)
		return 0
	case err != nil:
		fmt.Fprintln(os.Stderr, "pgtest: running the tests through PgBouncer:", err)
		return 1
	}
	fmt.Fprintln(os.Stderr, "pgtest: once more, through PgBouncer in transaction mode")
	code = m.Run()
	if code != 0 {
		fmt.Fprintln(os.Stderr, "pgtest: that was the run through PgBouncer in transaction mode")
	}
	if err := shared.bouncer.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		code = max(code, 1)
	}
	shared.bouncer = nil
	return code
}

// mustHaveBouncer says whether tests fail, and are not skipped, where PgBouncer is not installed.
func mustHaveBouncer() bool { return os.Getenv("CI") == "true" }

// BehindPooler says whether this is the second run of [MainTwice].
func BehindPooler() bool { return shared.bouncer != nil }

// SkipBehindPooler skips the test in the second run of [MainTwice]. why says what it does that needs a session.
func SkipBehindPooler(t testing.TB, why string) {
	t.Helper()
	if BehindPooler() {
		t.Skipf("not through a pooler: %s", why)
	}
}

// ExecModes returns pgx's modes that work where the test's databases are. Behind a pooler a statement must not be prepared in one
// round trip and used in another.
func ExecModes() []pgx.QueryExecMode {
	modes := []pgx.QueryExecMode{pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol}
	if BehindPooler() {
		return modes
	}
	return append(modes, pgx.QueryExecModeCacheStatement, pgx.QueryExecModeDescribeExec)
}

// PoolInMode opens a pool with the configuration and the query exec mode, and closes it after the test.
func PoolInMode(t testing.TB, config *pgxpool.Config, mode pgx.QueryExecMode) *pgxpool.Pool {
	t.Helper()
	config = config.Copy()
	config.ConnConfig.DefaultQueryExecMode = mode
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatalf("opening a pool in the mode %s: %v", mode, err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// RequireBouncer skips the test where PgBouncer is not installed, or fails it if CI is "true".
func RequireBouncer(t testing.TB) {
	t.Helper()
	_, err := findBouncer()
	switch {
	case err != nil && mustHaveBouncer():
		t.Fatalf("pgtest: %v", err)
	case err != nil:
		t.Skipf("pgtest: %v", err)
	}
}

// OwnBouncer starts a PgBouncer for one test, in front of the server that dsn connects to, and closes it when the test ends. Of a
// test that failed its log is shown. Without PgBouncer see [RequireBouncer].
func OwnBouncer(t testing.TB, dsn string, mode PoolMode, settings map[string]string) *Bouncer {
	t.Helper()
	RequireBouncer(t)
	b, err := StartBouncer(t.Context(), dsn, mode, settings)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("PgBouncer's log:\n%s", b.Log())
		}
		if err := b.Close(); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return b
}

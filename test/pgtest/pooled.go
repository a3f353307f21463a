package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"
)

// pooledVariable is set in the process that runs a package's tests through PgBouncer.
const pooledVariable = "PGTEST_POOLED"

// MainTwice is [Main] for a package whose tests run twice: directly, and with their databases behind PgBouncer in transaction
// mode. The second run is another process that runs at the same time. Its output follows that of the first. A test that asks [BehindPooler] can do without what a pooler does not give; one that cannot calls [SkipBehindPooler]. Where
// PgBouncer is not installed the second run is left out, which is said, and is a failure where CI is "true".
func MainTwice(m *testing.M, leaks ...goleak.Option) {
	if os.Getenv(pooledVariable) != "" {
		os.Exit(runPooled(m, leaks))
	}
	second, err := startPooled(os.Args[0], os.Args[1:])
	switch {
	case skipsPooled(err):
		code := RunMain(m, leaks...)
		fmt.Fprintln(os.Stderr, "pgtest: SKIPPED the second run, through PgBouncer:", err)
		os.Exit(code)
	case err != nil:
		fmt.Fprintln(os.Stderr, "pgtest: running the tests through PgBouncer:", err)
		os.Exit(1)
	}
	code := RunMain(m, append(leaks, IgnoreServer())...)
	os.Exit(max(code, second.end(os.Stdout)))
}

// skipsPooled says whether the second run is left out, for an error of startPooled.
func skipsPooled(err error) bool { return errors.Is(err, ErrNoBouncer) && !mustHaveBouncer() }

// runPooled runs the tests through PgBouncer.
func runPooled(m *testing.M, leaks []goleak.Option) (code int) {
	server, err := sharedServer()
	if err == nil {
		shared.bouncer, err = StartBouncer(context.Background(), server, TransactionMode, nil)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "pgtest: running the tests through PgBouncer:", err)
		return finish(1, leaks)
	}
	shared.inMain = true
	code = m.Run()
	if err := shared.bouncer.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		code = max(code, 1)
	}
	shared.bouncer = nil
	return finish(code, leaks)
}

// pooledRun is the process of the second run.
type pooledRun struct {
	process *process
	output  *os.File // has no name any more, so nothing is left however the two runs end
	release func()
}

// profiles are the flags of a test binary that name files. Only the first run writes these.
var profiles = regexp.MustCompile(`^-?-test\.([a-z]+profile|trace|testlogfile|gocoverdir)=`)

// startPooled starts the program of this process, with its arguments, for the second run. The new process ends when this one does.
func startPooled(program string, args []string) (*pooledRun, error) {
	if _, err := findBouncer(); err != nil {
		return nil, err
	}
	output, err := os.CreateTemp("", "pgtest-pooled-")
	if err != nil {
		return nil, fmt.Errorf("making a file for the output: %w", err)
	}
	r := &pooledRun{output: output}
	if err := os.Remove(output.Name()); err != nil {
		return nil, errors.Join(err, output.Close())
	}
	cmd := exec.Command(program, slices.DeleteFunc(slices.Clone(args), profiles.MatchString)...)
	cmd.Env = append(os.Environ(), pooledVariable+"=true")
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = attributes(nil, syscall.SIGKILL)
	if r.process, err = spawn(cmd); err != nil {
		return nil, errors.Join(err, output.Close())
	}
	if r.release, err = guard(r.process.pid); err != nil {
		return nil, errors.Join(err, r.process.signal(syscall.SIGKILL), output.Close())
	}
	return r, nil
}

// end waits for the process and copies its output. It returns the code to exit with.
func (r *pooledRun) end(to io.Writer) (code int) {
	<-r.process.done
	r.release()
	_, err := fmt.Fprintln(to, "pgtest: once more, through PgBouncer in transaction mode")
	if err == nil {
		_, err = r.output.Seek(0, io.SeekStart)
	}
	if err == nil {
		_, err = io.Copy(to, r.output)
	}
	if err := errors.Join(err, r.output.Close(), r.process.err); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest: that was the run through PgBouncer in transaction mode:", err)
		return 1
	}
	return 0
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

package pgtest

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/child"
)

const patience = 20 * time.Second

func TestMain(m *testing.M) {
	child.Serve(runTask)
	Main(m)
}

func TestServerComesBackWithItsData(t *testing.T) {
	ways := map[string]func(*Cluster) error{
		"restart fast":        func(c *Cluster) error { return c.Restart(Fast) },
		"restart immediate":   func(c *Cluster) error { return c.Restart(Immediate) },
		"stop smart, start":   func(c *Cluster) error { return firstError(c.Stop(Smart), c.Start) },
		"kill, start":         func(c *Cluster) error { return firstError(c.Kill(), c.Start) },
		"start while it runs": func(c *Cluster) error { return c.Start() },
	}
	c := Own(t, Options{})
	dsn := c.DSN("postgres")
	execute(t, dsn, "CREATE TABLE survivors (name text)")
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			execute(t, dsn, "INSERT INTO survivors VALUES ("+literal(name)+")")
			require.NoError(t, way(c))
			assert.Equal(t, 1, query[int](t, dsn, "SELECT count(*)::int FROM survivors WHERE name = "+literal(name)))
		})
	}
}

func TestStoppedServerRefusesConnections(t *testing.T) {
	c := Own(t, Options{})
	require.NoError(t, c.Stop(Immediate))
	_, err := pgx.Connect(t.Context(), c.DSN("postgres"))
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.NoError(t, c.Stop(Fast), "stopping twice")
}

func TestKillEndsEveryProcess(t *testing.T) {
	c := Own(t, Options{})
	conn, err := pgx.Connect(t.Context(), c.DSN("postgres"))
	require.NoError(t, err)
	defer conn.Close(context.Background())
	var backend int
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT pg_backend_pid()").Scan(&backend))
	children, err := childrenOf(c.server.pid)
	require.NoError(t, err)
	require.Contains(t, children, backend)

	require.NoError(t, c.Kill())

	for _, pid := range children {
		assert.False(t, alive(pid), "process %d", pid)
	}
	require.Error(t, conn.Ping(t.Context()))
}

func TestServerThatDiedByItselfIsAnErrorOfStop(t *testing.T) {
	c := Own(t, Options{})
	require.NoError(t, syscall.Kill(c.server.pid, syscall.SIGQUIT))
	require.True(t, c.server.wait(patience))
	require.ErrorContains(t, c.Stop(Fast), "it had ended before")
	require.NoError(t, c.Restart(Fast), "the error is reported once")
}

func TestCloseLeavesNothing(t *testing.T) {
	c, err := Start(t.Context(), Options{})
	require.NoError(t, err)
	require.Contains(t, homes(t), c.home.lockPath())
	postmaster := c.server.pid
	children, err := childrenOf(postmaster)
	require.NoError(t, err)

	require.NoError(t, c.Close())

	for _, pid := range append(children, postmaster) {
		assert.False(t, alive(pid), "process %d", pid)
	}
	assert.NoDirExists(t, c.home.dir)
}

func TestSettings(t *testing.T) {
	const odd = `it's a \ backslash`
	c := Own(t, Options{Durable: true, Settings: map[string]string{"max_connections": "17", "app.odd": odd}})
	dsn := c.DSN("postgres")
	for name, want := range map[string]string{
		"max_connections": "17", "app.odd": odd, "max_prepared_transactions": "20", "fsync": "on", "TimeZone": "UTC",
	} {
		assert.Equal(t, want, query[string](t, dsn, "SELECT current_setting("+literal(name)+")"), name)
	}
}

func TestStartReportsWhatTheServerSaid(t *testing.T) {
	before := homes(t)
	_, err := Start(t.Context(), Options{Settings: map[string]string{"no_such_setting": "1"}})
	require.ErrorIs(t, err, errEnded)
	require.ErrorContains(t, err, "no_such_setting")
	assert.Subset(t, before, homes(t), "a directory was left")
}

func TestStartEndsWithItsContext(t *testing.T) {
	before := homes(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Start(ctx, Options{})
	require.ErrorIs(t, err, context.Canceled)
	assert.Subset(t, before, homes(t), "a directory was left")
}

func TestStartNoticesThatItsPortIsTaken(t *testing.T) {
	c := Own(t, Options{})
	require.NoError(t, c.Stop(Immediate))
	taken, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port)))
	require.NoError(t, err)
	require.ErrorIs(t, c.Start(), errEnded)
	require.NoError(t, taken.Close())
	require.NoError(t, c.Start())
}

func TestLogIsTheServersLog(t *testing.T) {
	c := Own(t, Options{})
	execute(t, c.DSN("postgres"), "DO $$ BEGIN RAISE LOG 'a line to find'; END $$")
	assert.Contains(t, c.Log(), "a line to find")
	require.NoError(t, os.Truncate(c.home.log(), logTail+1))
	assert.Len(t, c.Log(), logTail)
}

// homes returns the directories of this process's servers.
func homes(t *testing.T) []string {
	t.Helper()
	var locks []string
	for _, base := range homeBases() {
		found, err := filepath.Glob(filepath.Join(base, homePrefix+"*", "lock"))
		require.NoError(t, err)
		locks = append(locks, found...)
	}
	return slices.DeleteFunc(locks, func(lock string) bool {
		owner, err := os.ReadFile(lock)
		return err != nil || strings.TrimSpace(string(owner)) != strconv.Itoa(os.Getpid())
	})
}

func firstError(err error, next func() error) error {
	if err != nil {
		return err
	}
	return next()
}

func execute(t *testing.T, dsn, statement string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(t.Context(), statement)
	require.NoError(t, err)
}

func query[T any](t *testing.T, dsn, statement string) T {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	var value T
	require.NoError(t, conn.QueryRow(t.Context(), statement).Scan(&value))
	return value
}

// literal is for text without quotes.
func literal(text string) string { return "'" + text + "'" }

package pgtest

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBouncerModes(t *testing.T) {
	for mode, works := range map[PoolMode]bool{SessionMode: true, TransactionMode: true, StatementMode: false} {
		t.Run(string(mode), func(t *testing.T) {
			b := OwnBouncer(t, serverDSN(t), mode, nil)
			conn, err := pgx.Connect(t.Context(), b.DSN(superuser))
			require.NoError(t, err)
			defer conn.Close(context.Background())
			_, err = conn.Exec(t.Context(), "BEGIN")
			if !works {
				require.ErrorContains(t, err, "statement pooling")
				return
			}
			require.NoError(t, err)
			_, err = conn.Exec(t.Context(), "COMMIT")
			require.NoError(t, err)
		})
	}
}

// Two clients at rest share one connection of the server in transaction mode.
func TestBouncerShares(t *testing.T) {
	b := OwnBouncer(t, serverDSN(t), TransactionMode, map[string]string{"default_pool_size": "1"})
	backend := "SELECT pg_backend_pid()::int"
	first, err := pgx.Connect(t.Context(), b.DSN(superuser))
	require.NoError(t, err)
	defer first.Close(context.Background())
	var pid int
	require.NoError(t, first.QueryRow(t.Context(), backend).Scan(&pid))
	assert.Equal(t, pid, query[int](t, b.DSN(superuser), backend))
}

func TestBouncerReachesEveryDatabase(t *testing.T) {
	b := OwnBouncer(t, serverDSN(t), TransactionMode, nil)
	name := newName()
	_, err := createDatabase(t.Context(), serverDSN(t), name, emptyTemplate)
	require.NoError(t, err)
	assert.Equal(t, name, query[string](t, b.DSN(name), "SELECT current_database()::text"))
	require.NoError(t, dropDatabase(t.Context(), serverDSN(t), name))
}

func TestBouncerLeavesNothing(t *testing.T) {
	before := homes(t)
	RequireBouncer(t)
	b, err := StartBouncer(t.Context(), serverDSN(t), SessionMode, nil)
	require.NoError(t, err)
	if os.Geteuid() == 0 {
		status, err := os.ReadFile("/proc/" + strconv.Itoa(b.process.pid) + "/status")
		require.NoError(t, err)
		assert.NotContains(t, string(status), "\nUid:\t0\t")
	}
	require.NoError(t, b.Close())
	assert.False(t, alive(b.process.pid))
	assert.Subset(t, before, homes(t))
}

func TestBouncerReportsWhatItSaid(t *testing.T) {
	before := homes(t)
	RequireBouncer(t)
	_, err := StartBouncer(t.Context(), serverDSN(t), SessionMode, map[string]string{"no_such_setting": "1"})
	require.ErrorIs(t, err, errEnded)
	require.ErrorContains(t, err, "no_such_setting")
	assert.Subset(t, before, homes(t))
}

func TestBouncerNoticesThatItsPortIsTaken(t *testing.T) {
	RequireBouncer(t)
	program, err := findBouncer()
	require.NoError(t, err)
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	h, err := newHome(false)
	require.NoError(t, err)
	server, err := pgx.ParseConfig(serverDSN(t))
	require.NoError(t, err)
	b := &Bouncer{home: h, port: taken.Addr().(*net.TCPAddr).Port}
	require.ErrorIs(t, b.start(t.Context(), program, bouncerConfiguration(server, SessionMode, b.port, nil)), errEnded)
	require.NoError(t, h.remove())
}

func TestFindBouncerSaysWhatToType(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	defer func(dirs []string) { bouncerDirs = dirs }(bouncerDirs)
	bouncerDirs = []string{t.TempDir()}
	_, err := findBouncer()
	require.ErrorIs(t, err, ErrNoBouncer)
	require.ErrorContains(t, err, "pgtest install pgbouncer")
	installFake(t, bouncerDirs[0], 0o700, "pgbouncer")
	found, err := findBouncer()
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(bouncerDirs[0], "pgbouncer"), found)
}

func TestConfigurationQuotes(t *testing.T) {
	server, err := pgx.ParseConfig(`host=/tmp port=5 user='it\'s' password='a \' b'`)
	require.NoError(t, err)
	assert.Contains(t, bouncerConfiguration(server, SessionMode, 1, nil), `* = host='/tmp' port=5 user='it''s' password='a '' b'`)
}

func TestSecondRunWithoutPgBouncer(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	defer func(dirs []string) { bouncerDirs = dirs }(bouncerDirs)
	bouncerDirs = nil
	_, err := startPooled("true", nil)
	require.ErrorIs(t, err, ErrNoBouncer)
	t.Setenv("CI", "")
	assert.True(t, skipsPooled(err))
	t.Setenv("CI", "true")
	assert.False(t, skipsPooled(err))
	assert.False(t, skipsPooled(nil))
}

func TestSecondRun(t *testing.T) {
	RequireBouncer(t)
	run := func(script string, args ...string) *pooledRun {
		r, err := startPooled("sh", append([]string{"-c", script, "sh"}, args...))
		require.NoError(t, err)
		return r
	}
	var said strings.Builder
	both := run(`echo "PGTEST_POOLED=$PGTEST_POOLED $*"; echo also >&2`, "-test.v", "-test.coverprofile=c", "-test.run=TestMemprofile")
	assert.Zero(t, both.end(&said))
	assert.Equal(t, "pgtest: once more, through PgBouncer in transaction mode\nPGTEST_POOLED=true -test.v -test.run=TestMemprofile\nalso\n", said.String())
	assert.NoFileExists(t, both.output.Name())
	assert.Equal(t, 1, run("exit 3").end(io.Discard))
}

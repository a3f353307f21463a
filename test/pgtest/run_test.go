package pgtest

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// withoutServer hides the servers that the environment names.
func withoutServer(t *testing.T) {
	t.Helper()
	t.Setenv(DatabaseURLVariable, "")
	t.Setenv(ServerURLVariable, "")
}

func TestRunPassesTheExitCodeOn(t *testing.T) {
	t.Setenv(ServerURLVariable, serverDSN(t))
	for script, want := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -KILL $$": 128 + 9} {
		code, err := Run(t.Context(), Options{}, []string{"sh", "-c", script})
		require.NoError(t, err)
		assert.Equal(t, want, code, script)
	}
	_, err := Run(t.Context(), Options{}, []string{"/no/such/program"})
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestRunGivesItsCommandAServer(t *testing.T) {
	withoutServer(t)
	seen := filepath.Join(t.TempDir(), "url")
	before := homes(t)
	code, err := Run(t.Context(), Options{}, []string{"sh", "-c", `echo "$PGTEST_URL" >"$0"`, seen})
	require.NoError(t, err)
	require.Zero(t, code)
	url, err := os.ReadFile(seen)
	require.NoError(t, err)
	assert.Regexp(t, `^postgres://postgres@127\.0\.0\.1:\d+/postgres\?sslmode=disable\n$`, string(url))
	assert.Subset(t, before, homes(t), "the server's directory was left")
}

func TestRunUsesTheServerThatTheEnvironmentNames(t *testing.T) {
	withoutServer(t)
	t.Setenv(DatabaseURLVariable, "postgres://elsewhere/")
	code, err := Run(t.Context(), Options{}, []string{"sh", "-c", `test -z "$PGTEST_URL" && test "$DATABASE_URL" = postgres://elsewhere/`})
	require.NoError(t, err)
	assert.Zero(t, code)
}

func TestRunPassesSignalsOn(t *testing.T) {
	t.Setenv(ServerURLVariable, serverDSN(t))
	ready := filepath.Join(t.TempDir(), "ready")
	type result struct {
		code int
		err  error
	}
	ended := make(chan result, 1)
	go func() {
		code, err := Run(t.Context(), Options{}, []string{"sh", "-c", `trap 'exit 5' HUP; : >"$0"; while :; do sleep 0.05; done`, ready})
		ended <- result{code, err}
	}()
	require.Eventually(t, func() bool { _, err := os.Stat(ready); return err == nil }, patience, pollInterval)
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	select {
	case r := <-ended:
		require.NoError(t, r.err)
		assert.Equal(t, 5, r.code)
	case <-time.After(patience):
		t.Fatal("the command did not get the signal")
	}
}

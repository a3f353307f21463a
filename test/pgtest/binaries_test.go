package pgtest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// installFake makes a directory with the given programs.
func installFake(t *testing.T, dir string, mode os.FileMode, programs ...string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o700))
	for _, program := range programs {
		require.NoError(t, os.WriteFile(filepath.Join(dir, program), nil, mode))
	}
}

func TestFindTakesWhatPGBinSays(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PG_BIN", dir)
	_, err := Find()
	require.ErrorContains(t, err, "PG_BIN is ")
	require.NotErrorIs(t, err, ErrNotInstalled)

	installFake(t, dir, 0o700, "initdb", "postgres")
	found, err := Find()
	require.NoError(t, err)
	assert.Equal(t, dir, found)
}

func TestNewestIsByNumberAndComplete(t *testing.T) {
	root := t.TempDir()
	installFake(t, filepath.Join(root, "9.6", "bin"), 0o700, "initdb", "postgres")
	installFake(t, filepath.Join(root, "14", "bin"), 0o700, "initdb", "postgres")
	installFake(t, filepath.Join(root, "15", "bin"), 0o700, "postgres")
	installFake(t, filepath.Join(root, "16", "bin"), 0o600, "initdb", "postgres")
	dir, ok := newest(filepath.Join(root, "*", "bin"))
	require.True(t, ok)
	assert.Equal(t, filepath.Join(root, "14", "bin"), dir)

	_, ok = newest(filepath.Join(root, "*", "no"))
	assert.False(t, ok)
}

func TestVersionIn(t *testing.T) {
	for path, want := range map[string]float64{
		"/usr/lib/postgresql/15/bin": 15, "/usr/lib/postgresql/9.6/bin": 9.6, "/opt/homebrew/opt/postgresql@17/bin": 17, "/usr/bin": 0,
	} {
		assert.InDelta(t, want, versionIn(path), 0, path)
	}
}

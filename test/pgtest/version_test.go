package pgtest

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOwnVersionStartsThatVersion(t *testing.T) {
	for major := range versionPackages {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			t.Parallel()
			cluster := OwnVersion(t, major, Options{})
			var number string
			require.NoError(t, cluster.ask(t.Context(), "SHOW server_version_num", &number))
			assert.Len(t, number, 6)
			assert.Equal(t, strconv.Itoa(major), number[:2])
		})
	}
}

func TestFindVersionUsesTheEnvironment(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PG_BIN_17", dir)
	_, err := FindVersion(17)
	require.ErrorContains(t, err, "PG_BIN_17")
	installFake(t, dir, 0o700, "initdb", "postgres")
	found, err := FindVersion(17)
	require.NoError(t, err)
	assert.Equal(t, dir, found)
}

func TestFindVersionSaysWhatToDo(t *testing.T) {
	_, err := FindVersion(9)
	require.ErrorIs(t, err, ErrNotInstalled)
	require.ErrorContains(t, err, "PG_BIN_9")
	require.ErrorContains(t, err, "make postgres-versions")
}

func TestInstallOfAnUnknownVersion(t *testing.T) {
	require.ErrorContains(t, Install(t.Context(), os.Stderr, "postgresql-9"), "no package is known")
}

func TestLinksAreMade(t *testing.T) {
	module := t.TempDir()
	lib := filepath.Join(module, "native", "lib")
	require.NoError(t, os.MkdirAll(lib, 0o700))
	require.NoError(t, link(module), "without a list there is nothing to do")
	require.NoError(t, os.WriteFile(filepath.Join(lib, "libpq.so.5.17"), []byte("here"), 0o600))
	list := `[{"source":"native/lib/libpq.so.5.17","target":"native/lib/libpq.so"}]`
	require.NoError(t, os.WriteFile(filepath.Join(module, "native", "pg-symlinks.json"), []byte(list), 0o600))
	require.NoError(t, link(module))
	require.NoError(t, link(module), "a second time")
	content, err := os.ReadFile(filepath.Join(lib, "libpq.so"))
	require.NoError(t, err)
	assert.Equal(t, "here", string(content))
}

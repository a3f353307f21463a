package pgtest

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fakeProgram makes PATH one directory, with a program in it that writes its name and arguments to a file and ends with code.
func fakeProgram(t *testing.T, name, code string) (calls string) {
	t.Helper()
	dir := t.TempDir()
	calls = filepath.Join(dir, "calls")
	script := "#!/bin/sh\necho " + name + ` "$@" >>` + calls + "\nexit " + code + "\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(script), 0o700))
	t.Setenv("PATH", dir)
	return calls
}

func TestInstallLeavesAloneWhatIsThere(t *testing.T) {
	calls := fakeProgram(t, "apt-get", "0")
	t.Setenv("PG_BIN", filepath.Dir(calls))
	installFake(t, filepath.Dir(calls), 0o700, "initdb", "postgres", "some-tool")
	require.NoError(t, Install(t.Context(), os.Stderr, serverPackage, "some-tool"))
	assert.NoFileExists(t, calls)
}

func TestInstallSaysWhatToType(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := Install(t.Context(), os.Stderr, "no-such-tool")
	require.ErrorContains(t, err, "install")
	require.ErrorContains(t, err, "no-such-tool")
}

func TestInstallReportsTheInstallersFailure(t *testing.T) {
	if runtime.GOOS == "darwin" {
		fakeProgram(t, "brew", "3")
	} else {
		fakeProgram(t, "apt-get", "3")
		fakeSudo := filepath.Join(os.Getenv("PATH"), "sudo")
		require.NoError(t, os.WriteFile(fakeSudo, []byte("#!/bin/sh\nexit 3\n"), 0o700))
	}
	var out bytes.Buffer
	err := Install(t.Context(), &out, "no-such-tool")
	require.ErrorContains(t, err, "no-such-tool")
}

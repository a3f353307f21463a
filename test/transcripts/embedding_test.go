package transcripts

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/getpup/pupsourcing-orchestrator/v2"

// A program that embeds the library gets none of the command line's dependencies unless it imports that.
func TestTheCommandLineCostsOnlyWhoImportsIt(t *testing.T) {
	t.Parallel()
	without, with := requirements(t, module), requirements(t, module+"/cli")
	own := []string{"github.com/urfave/cli/v3", "golang.org/x/term"}
	assert.Equal(t, slices.Sorted(slices.Values(slices.Concat(without, own))), with)
	t.Logf("without: %s\nwith the command line: %s", strings.Join(without, " "), strings.Join(with, " "))
}

// requirements are the modules in the go.mod of a program that imports a package, as go mod tidy writes it.
func requirements(t *testing.T, imported string) []string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	require.NoError(t, err)
	dir := t.TempDir()
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	require.NoError(t, err)
	for name, text := range map[string]string{
		"go.mod":  "module example.com/shop\n\ngo 1.26.0\n\nrequire " + module + " v2.0.0\n\nreplace " + module + " => " + root + "\n",
		"go.sum":  string(sums),
		"main.go": "package main\n\nimport _ \"" + imported + "\"\n\nfunc main() {}\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	goCommand(t, dir, "mod", "tidy")
	out := goCommand(t, dir, "list", "-m", "-f", "{{.Path}}", "all")
	listed := strings.Fields(goCommand(t, dir, "mod", "edit", "-json"))
	var required []string
	for path := range strings.FieldsSeq(out) {
		if slices.Contains(listed, `"`+path+`",`) && path != module && path != "example.com/shop" {
			required = append(required, path)
		}
	}
	slices.Sort(required)
	return required
}

func goCommand(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOSUMDB=off", "GOWORK=off")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "go %s: %s", strings.Join(args, " "), out)
	return string(out)
}

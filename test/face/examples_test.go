package face

import (
	"go/doc"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/typecheck"
)

// Every public package shows on pkg.go.dev how it is used, by an example that is run.
func TestEachPublicPackageHasAnExample(t *testing.T) {
	directOnly(t)
	for _, path := range facePackages {
		dir := filepath.Join("..", "..", filepath.FromSlash(strings.TrimPrefix(path, typecheck.Module)))
		assert.NotEmpty(t, examplesIn(t, dir), path)
	}
	assert.Empty(t, examplesIn(t, filepath.Join("..", "..", "messages")))
}

// examplesIn are the examples with an output in the files of a directory.
func examplesIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	require.NoError(t, err)
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		require.NoError(t, err)
		for _, example := range doc.Examples(file) {
			if example.Output != "" {
				names = append(names, example.Name)
			}
		}
	}
	return names
}

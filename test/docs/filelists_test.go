package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var fileListPattern = regexp.MustCompile(`(?m)^//   - ([a-z0-9_.]+\.go(?:, [a-z0-9_.]+\.go)*): `)

// A package comment that says what is where names each file once, and no other.
func TestFileListsAreComplete(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "*", "doc.go"))
	require.NoError(t, err)
	internal, err := filepath.Glob(filepath.Join(root, "internal", "*", "doc.go"))
	require.NoError(t, err)
	checked := 0
	for _, doc := range slices.Concat(files, internal) {
		text, err := os.ReadFile(doc)
		require.NoError(t, err)
		if !strings.Contains(string(text), "# What is where") {
			continue
		}
		var listed []string
		for _, match := range fileListPattern.FindAllStringSubmatch(string(text), -1) {
			listed = append(listed, strings.Split(match[1], ", ")...)
		}
		there, err := filepath.Glob(filepath.Join(filepath.Dir(doc), "*.go"))
		require.NoError(t, err)
		var want []string
		for _, file := range there {
			if name := filepath.Base(file); name != "doc.go" && !strings.HasSuffix(name, "_test.go") {
				want = append(want, name)
			}
		}
		assert.ElementsMatch(t, want, listed, doc)
		checked++
	}
	assert.Equal(t, 2, checked, "pgcoord and internal/replicaset")
}

// docs/architecture.md says of each package, and of each file of the root, what it is for.
func TestArchitectureNamesEveryPackage(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "architecture.md"))
	require.NoError(t, err)
	_, list, _ := strings.Cut(string(text), "\n## Packages\n")
	list, _, _ = strings.Cut(list, "\n## ")
	named := strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(" ,\n", r) })
	for _, pattern := range []string{"*.go", "*/*.go", "internal/*/*.go"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		require.NoError(t, err)
		assert.NotEmpty(t, files, pattern)
		for _, file := range files {
			name, err := filepath.Rel(root, file)
			require.NoError(t, err)
			if dir := filepath.Dir(name); dir != "." {
				name = dir + "/"
			}
			if !strings.HasSuffix(file, "_test.go") && name != "doc.go" {
				assert.Contains(t, named, name)
			}
		}
	}
}

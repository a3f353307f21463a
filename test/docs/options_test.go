package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestTableOfOptions compares the table of options with their comments, and makes sure that each is explained below it.
func TestTableOfOptions(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "configuration.md"))
	require.NoError(t, err)
	code, err := os.ReadFile(filepath.Join(root, "options.go"))
	require.NoError(t, err)
	options := commentedDefaults(t, string(code))
	assert.Equal(t, options, tabledDefaults(string(page)))
	for option := range options {
		assert.Contains(t, string(page), "**`"+option+"`**", "it says when to change each option, and what a wrong value does")
	}
}

var rowPattern = regexp.MustCompile("(?m)^\\| `(With\\w+)` \\| ([^|]+) \\|")

// tabledDefaults are the options of a table with their defaults.
func tabledDefaults(text string) map[string]string {
	found := map[string]string{}
	for _, row := range rowPattern.FindAllStringSubmatch(text, -1) {
		found[row[1]] = row[2]
	}
	return found
}

var defaultPattern = regexp.MustCompile(`Defaults to ([^.,;]+)`)

// commentedDefaults are the options that a file declares with the defaults
// that their comments name, "off" for one that names none.
func commentedDefaults(t *testing.T, code string) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "", code, parser.ParseComments)
	require.NoError(t, err)
	found := map[string]string{}
	for _, declaration := range file.Decls {
		function, ok := declaration.(*ast.FuncDecl)
		if !ok || !strings.HasPrefix(function.Name.Name, "With") {
			continue
		}
		found[function.Name.Name] = "off"
		comment := strings.Join(strings.Fields(function.Doc.Text()), " ")
		if match := defaultPattern.FindStringSubmatch(comment); match != nil {
			found[function.Name.Name] = match[1]
		}
	}
	return found
}

func TestDefaultsAreRead(t *testing.T) {
	assert.Equal(t, map[string]string{"WithA": "5s", "WithB": "1ms and 2s"},
		tabledDefaults("| option | default | meaning |\n| --- | --- | --- |\n| `WithA` | 5s | a |\n| `WithB` | 1ms and 2s | b |\n"))
	assert.Equal(t, map[string]string{"WithA": "5s", "WithB": "the host's name", "WithC": "off"}, commentedDefaults(t, `package p

// WithA is a.
// Defaults to
// 5s.
func WithA() {}

// WithB is b. Defaults to the host's name, or nothing.
func WithB() {}

// WithC is c.
func WithC() {}

// Another is no option. Defaults to 1.
func Another() {}
`))
}

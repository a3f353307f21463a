package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// logLevels are the methods of a logger that people see, and the level of each.
var logLevels = map[string]string{
	"Info": "Info", "InfoContext": "Info", "Warn": "Warn", "WarnContext": "Warn", "Error": "Error", "ErrorContext": "Error",
}

// logsOf are functions that log the text that they are given, with the index of that argument, and at which level.
var logsOf = map[string]struct {
	argument int
	level    string
}{"aidFailed": {1, "Warn, Error"}}

// message is what the library logs.
type message struct{ level, text string }

// TestTheDocumentListsEveryMessage compares docs/logs.md with the source.
func TestTheDocumentListsEveryMessage(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, "docs", "logs.md"))
	require.NoError(t, err)
	documented := map[message]string{}
	for _, row := range regexp.MustCompile(`(?m)^\| (\w+(?:, \w+)*) \| (.+?) \| (.+) \|$`).FindAllStringSubmatch(string(text), -1) {
		documented[message{row[1], row[2]}] = row[3]
	}
	logged := loggedMessages(t)
	require.Greater(t, len(logged), 50, "the source was not found")
	for _, m := range logged {
		assert.NotEmpty(t, documented[m], "docs/logs.md does not say what to do when this is logged: | %s | %s |", m.level, m.text)
	}
	for m := range documented {
		assert.True(t, m.level == "level" || slices.Contains(logged, m), "docs/logs.md has a message that is not logged: | %s | %s |", m.level, m.text)
	}
}

// loggedMessages is everything that the library's packages log, each message once for each level.
func loggedMessages(t *testing.T) (all []message) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		relative, _ := filepath.Rel(root, path)
		if first, _, _ := strings.Cut(filepath.ToSlash(relative), "/"); entry.IsDir() && slices.Contains([]string{"test", "examples", "orchestratortest", ".git", ".bin"}, first) {
			return fs.SkipDir
		}
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if m, ok := logged(t, file, call); ok && !slices.Contains(all, m) {
					all = append(all, m)
				}
			}
			return true
		})
		return nil
	}))
	return all
}

// logged is the message of a call that logs; ok is false for another call, and where the text is a parameter of one of logsOf.
func logged(t *testing.T, file *ast.File, call *ast.CallExpr) (m message, ok bool) {
	t.Helper()
	selector, is := call.Fun.(*ast.SelectorExpr)
	if !is {
		return m, false
	}
	if of, is := selector.X.(*ast.Ident); is && of.Name == "http" {
		return m, false
	}
	argument := 0
	if strings.HasSuffix(selector.Sel.Name, "Context") {
		argument = 1
	}
	m.level = logLevels[selector.Sel.Name]
	if own, is := logsOf[selector.Sel.Name]; is {
		m.level, argument = own.level, own.argument
	}
	if m.level == "" || len(call.Args) <= argument {
		return m, false
	}
	if of, is := call.Args[argument].(*ast.Ident); is && of.Name == "says" && constant(file, of) == "" {
		return m, false // in one of logsOf
	}
	m.text = constant(file, call.Args[argument])
	return m, assert.NotEmpty(t, m.text, "the message of a call of %s in package %s is no constant", selector.Sel.Name, file.Name)
}

// constant is the value of a constant text; empty if it is none.
func constant(file *ast.File, e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, _ := strconv.Unquote(e.Value)
		return text
	case *ast.BinaryExpr:
		left, right := constant(file, e.X), constant(file, e.Y)
		if left == "" || right == "" {
			return ""
		}
		return left + right
	case *ast.Ident:
		found := ""
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if ok && len(spec.Values) == 1 && spec.Names[0].Name == e.Name {
				found = constant(file, spec.Values[0])
			}
			return true
		})
		return found
	}
	return ""
}

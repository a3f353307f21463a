package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// root is the module's.
const root = "../.."

// A guard that has moved, or a test that was renamed, must be followed up here.
func TestGuardsAndTheirTestsAreWhereTheTableSays(t *testing.T) {
	names, tests := map[string]bool{}, map[string]map[string]bool{}
	for _, g := range guards() {
		assert.Regexp(t, `^[a-z]+(-[a-z]+)*$`, g.Name)
		assert.False(t, names[g.Name], "two guards are named %s", g.Name)
		names[g.Name] = true
		assert.NotEmpty(t, g.Promise, g.Name)
		assert.NotEqual(t, g.Old, g.New, g.Name)
		_, err := g.mutant(root)
		require.NoError(t, err)
		if tests[g.dir()] == nil {
			tests[g.dir()] = testsOf(t, filepath.Join(root, g.dir()))
		}
		assert.True(t, tests[g.dir()][g.Test], "%s: there is no %s in %s", g.Name, g.Test, g.dir())
	}
}

// declaration is that of a test.
var declaration = regexp.MustCompile(`(?m)^func (Test\w*)\(t \*testing\.T\)`)

// testsOf are the tests that a directory's files declare.
func testsOf(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	require.NoError(t, err)
	tests := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, found := range declaration.FindAllSubmatch(text, -1) {
			tests[string(found[1])] = true
		}
	}
	return tests
}

func TestReadmeHasTheTable(t *testing.T) {
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	var rows []string
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "|") {
			rows = append(rows, line)
		}
	}
	assert.Equal(t, table(guards()), strings.Join(rows, ""), "README.md must have this table")
}

func TestSelected(t *testing.T) {
	all, err := selected("", "")
	require.NoError(t, err)
	assert.Equal(t, guards(), all)
	some, err := selected("own-session, fence-worker", "")
	require.NoError(t, err)
	require.Len(t, some, 2)
	assert.Equal(t, "fence-worker", some[0].Name, "in the table's order")
	_, err = selected("fence-worker,nonsense", "")
	assert.ErrorContains(t, err, `"nonsense"`)
}

func TestMovedGuardIsAnError(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.go"), []byte("one two and two"), 0o600))
	g := guard{Name: "g", File: "a.go", Old: "one", New: "1"}
	text, err := g.mutant(dir)
	require.NoError(t, err)
	assert.Equal(t, "1 two and two", text)
	for _, old := range []string{"two", "three"} {
		g.Old = old
		_, err = g.mutant(dir)
		assert.ErrorContains(t, err, "the guard g has moved")
	}
	g.File = "b.go"
	_, err = g.mutant(dir)
	assert.Error(t, err)
}

// Only a test that fails as tests do has noticed something.
func TestVerdict(t *testing.T) {
	ended := errors.New("exit status 1")
	for name, tt := range map[string]struct {
		output string
		ended  error
		want   string
	}{
		"it fails":         {"--- FAIL: TestA (0.01s)\n    --- FAIL: TestA/b (0.00s)\nFAIL\n", ended, ""},
		"it passes":        {"PASS\n", nil, "the test passes"},
		"another fails":    {"--- FAIL: TestB (0.01s)\nFAIL\n", ended, "another test fails: TestB"},
		"it panics":        {"--- FAIL: TestA (0.01s)\npanic: oh [recovered]\n", ended, "panic: oh [recovered]"},
		"it hangs":         {"panic: test timed out after 2m0s\n", ended, "panic: test timed out after 2m0s"},
		"the program dies": {"signal: killed\n", ended, "no test fails: exit status 1"},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, tt.want, verdict("TestA", tt.output, tt.ended)) })
	}
}

// The program itself: of a module with one guard, which a test misses, then does not, then cannot be compiled without.
func TestExamine(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	write("go.mod", "module small\n\ngo 1.24\n")
	write("small.go", "package small\n\nfunc Half(n int) int {\n\tif n < 0 {\n\t\treturn 0\n\t}\n\treturn n / 2\n}\n")
	write("small_test.go", `package small

import "testing"

func TestNegative(t *testing.T) {
	if Half(-4) != 0 {
		t.Fatal("it is not 0")
	}
}

func TestPositive(t *testing.T) {
	if Half(4) != 2 {
		t.Fatal("it is not 2")
	}
}
`)
	t.Chdir(dir)
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("there is no go command")
	}
	var told []string
	results, err := examine(t.Context(), []guard{
		{Name: "good", File: "small.go", Old: "n < 0", New: "n == 1<<40", Test: "TestNegative"},
		{Name: "missed", File: "small.go", Old: "n < 0", New: "n == 1<<40", Test: "TestPositive"},
		{Name: "broken", File: "small.go", Old: "n < 0", New: "n", Test: "TestNegative"},
	}, func(r result) { told = append(told, r.guard.Name) })
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{"good", "missed", "broken"}, told)
	var faults []string
	for _, r := range results {
		faults = append(faults, r.fault)
	}
	assert.Equal(t, []string{"", "the test passes", "it does not compile"}, faults)

	_, err = examine(t.Context(), []guard{{Name: "moved", File: "small.go", Old: "n > 0", Test: "TestNegative"}}, nil)
	require.ErrorContains(t, err, "has moved")
	_, err = examine(t.Context(), []guard{{Name: "testless", File: "small.go", Old: "n < 0", Test: "TestNothing"}}, nil)
	require.ErrorContains(t, err, "there is no test")
}

func TestPartsAreAllGuards(t *testing.T) {
	var names []string
	for _, part := range []string{"1/3", "2/3", "3/3"} {
		some, err := selected("", part)
		require.NoError(t, err)
		for _, g := range some {
			names = append(names, g.Name)
		}
	}
	var all []string
	for _, g := range guards() {
		all = append(all, g.Name)
	}
	assert.ElementsMatch(t, all, names)
	for _, part := range []string{"0/3", "4/3", "1", "1/", "1/3x", "a/b", "1/0", "-1/2"} {
		_, err := selected("", part)
		assert.ErrorContains(t, err, "PART must be like 1/4", part)
	}
}

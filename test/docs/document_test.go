// Package docs holds no code, only the tests that keep the documents true: the
// Go and SQL that they show works, and what they name exists.
//
// # What a document may show
//
// A block marked go is a whole file if it begins with a package clause. Any
// other is a fragment: declarations, or statements of a function that returns
// an error. Fragments import what they need by its usual name and may use the
// variables and the type that preamble (see code_test.go) declares.
//
// A block marked sql is run against a database with all tables. A block marked
// sh holds commands. What is not to be checked is not marked.
package docs

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// root is the module's directory.
const root = "../.."

// document is a Markdown file.
type document struct {
	path   string   // from the module's directory
	prose  []string // its lines; those of blocks are empty
	blocks []block
}

// block is a fenced block.
type block struct {
	language string
	text     string
	line     int // of its first line, counted from 1
}

// documents reads all documents of the module.
func documents(t *testing.T) []document {
	t.Helper()
	var found []document
	require.NoError(t, fs.WalkDir(os.DirFS(root), ".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != "." && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata"):
			return fs.SkipDir
		case entry.IsDir() || filepath.Ext(path) != ".md":
			return nil
		}
		text, err := os.ReadFile(filepath.Join(root, path))
		if path == "CHANGELOG.md" {
			text = []byte(present(string(text)))
		}
		found = append(found, parse(path, string(text)))
		return err
	}))
	return found
}

// present is the part of a changelog that speaks of what is there: what is not
// released, without what was removed. Lines keep their numbers.
func present(changelog string) string {
	lines, keep := strings.Split(changelog, "\n"), false
	for i, line := range lines {
		switch {
		case strings.HasPrefix(line, "## "):
			keep = strings.Contains(line, "Unreleased")
		case strings.HasPrefix(line, "### "):
			keep = keep && !strings.Contains(line, "Removed")
		}
		if !keep {
			lines[i] = ""
		}
	}
	return strings.Join(lines, "\n")
}

// parse divides a document into prose and blocks.
func parse(path, text string) document {
	d := document{path: path}
	var open *block
	for i, line := range strings.Split(text, "\n") {
		language, fence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case fence && open == nil:
			open = &block{language: language, line: i + 2}
			line = ""
		case fence:
			d.blocks = append(d.blocks, *open)
			open = nil
			line = ""
		case open != nil:
			open.text += line + "\n"
			line = ""
		}
		d.prose = append(d.prose, line)
	}
	return d
}

// at is a place in the document.
func (d document) at(line int) string { return fmt.Sprintf("%s:%d", d.path, line) }

// span is text in backticks.
type span struct {
	text string
	line int
}

var spanPattern = regexp.MustCompile("`([^`]+)`")

// spans are what stands in backticks in the prose.
func (d document) spans() []span {
	var found []span
	for i, line := range d.prose {
		for _, match := range spanPattern.FindAllStringSubmatch(line, -1) {
			found = append(found, span{match[1], i + 1})
		}
	}
	return found
}

// commands are the lines of blocks of commands.
func (d document) commands() []span {
	var found []span
	for _, b := range d.blocks {
		if b.language != "sh" {
			continue
		}
		for i, line := range strings.Split(b.text, "\n") {
			command, _, _ := strings.Cut(line, " #")
			found = append(found, span{command, b.line + i})
		}
	}
	return found
}

func TestParse(t *testing.T) {
	d := parse("a.md", "A `b`\n\n```go\nc()\n```\n`d e` and `f`\n```sh\nmake g # h\n```\n")
	assert.Equal(t, []block{{"go", "c()\n", 4}, {"sh", "make g # h\n", 8}}, d.blocks)
	assert.Equal(t, []span{{"b", 1}, {"d e", 6}, {"f", 6}}, d.spans())
	assert.Equal(t, span{"make g", 8}, d.commands()[0])
	assert.Equal(t, "a.md:8", d.at(8))
}

func TestPresent(t *testing.T) {
	changelog := "# Changelog\n`a`\n## [Unreleased]\n### Added\n`b`\n### Removed\n`c`\n## [1.0]\n### Added\n`d`"
	assert.Equal(t, []span{{"b", 5}}, parse("CHANGELOG.md", present(changelog)).spans())
}

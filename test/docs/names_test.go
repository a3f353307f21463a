package docs

import (
	"fmt"
	"go/types"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/metrics"
	"github.com/getpup/pupsourcing-orchestrator/v2/migrations"
	"github.com/getpup/pupsourcing-orchestrator/v2/statuspage"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/typecheck"
)

// known is what exists to be named.
type known struct {
	root     string
	targets  []string                  // of the Makefile
	metrics  []string                  // with prefix
	tables   string                    // a text with the names of all coordination tables
	tests    map[string]bool           // functions of the module's tests
	packages map[string]*types.Package // by name
}

func newKnown(t *testing.T) known {
	t.Helper()
	k := known{root: root, metrics: append(metrics.Names(), tableMetrics(t)...), packages: map[string]*types.Package{}, tables: migrations.VersionTable, tests: testsOf(t)}
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	require.NoError(t, err)
	for _, match := range regexp.MustCompile(`(?m)^([a-z][a-z-]*):`).FindAllSubmatch(makefile, -1) {
		k.targets = append(k.targets, string(match[1]))
	}
	files, err := filepath.Glob(filepath.Join(root, "migrations", "*.up.sql"))
	require.NoError(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		k.tables += "\n" + string(text)
	}
	paths := []string{typecheck.Module}
	for _, name := range []string{"actors", "admin", "es", "eventstore", "messages", "metrics", "migrations", "pgcoord", "projection", "statuspage", "internal/eventread", "internal/handling", "internal/measure", "internal/horizon", "internal/packed", "internal/slot"} {
		paths = append(paths, typecheck.Module+"/"+name)
	}
	packages, err := typecheck.Load(paths...)
	require.NoError(t, err)
	for _, path := range paths {
		pkg, err := packages.Import(path)
		require.NoError(t, err)
		k.packages[pkg.Name()] = pkg
	}
	return k
}

var testPattern = regexp.MustCompile(`(?m)^func (Test\w+)\(`)

// testsOf finds the module's tests.
func testsOf(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	require.NoError(t, filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(file, "_test.go") {
			return err
		}
		text, err := os.ReadFile(file)
		for _, match := range testPattern.FindAllSubmatch(text, -1) {
			found[string(match[1])] = true
		}
		return err
	}))
	return found
}

// tableDesc is a metric that comes from the tables.
type tableDesc struct{ name, labels string }

var descPattern = regexp.MustCompile(`fqName: "(\w+)".*variableLabels: \{([\w,]*)\}`)

func tableDescs(t *testing.T) (found []tableDesc) {
	t.Helper()
	a, err := admin.New(&pgxpool.Pool{}, eventstore.New(), "set") // no database is asked
	require.NoError(t, err)
	described := make(chan *prometheus.Desc, 100)
	statuspage.NewCollector(a).Describe(described)
	close(described)
	for d := range described {
		match := descPattern.FindStringSubmatch(d.String())
		require.NotNil(t, match, d.String())
		found = append(found, tableDesc{match[1], match[2]})
	}
	return found
}

// tableMetrics are the names of the metrics that come from the tables.
func tableMetrics(t *testing.T) (names []string) {
	t.Helper()
	for _, d := range tableDescs(t) {
		names = append(names, d.name)
	}
	return names
}

func TestNamesExist(t *testing.T) {
	k := newKnown(t)
	for _, d := range documents(t) {
		assert.Empty(t, k.missing(d), d.path)
	}
}

// missing is what a document names and does not exist, each with its place.
func (k known) missing(d document) []string {
	var found []string
	report := func(line int, format string, args ...any) {
		found = append(found, d.at(line)+": "+fmt.Sprintf(format, args...))
	}
	for i, line := range d.prose {
		for _, link := range linkPattern.FindAllStringSubmatch(line, -1) {
			if problem := k.link(d, link[1], link[2]); problem != "" {
				report(i+1, "%s", problem)
			}
		}
	}
	for _, s := range slices.Concat(d.spans(), d.commands()) {
		for _, match := range makePattern.FindAllStringSubmatch(s.text, -1) {
			if !slices.Contains(k.targets, match[1]) {
				report(s.line, "there is no target %s in the Makefile", match[1])
			}
		}
		for _, name := range testNamePattern.FindAllString(s.text, -1) {
			if !k.tests[name] {
				report(s.line, "there is no test %s", name)
			}
		}
		for word := range strings.FieldsSeq(s.text) {
			if isPath(word) && !k.exists(d, word) {
				report(s.line, "there is no file %s", word)
			}
		}
		for _, match := range identifierPattern.FindAllStringSubmatch(s.text, -1) {
			if pkg, ok := k.packages[match[1]]; ok && !declares(pkg, match[2], match[3]) {
				report(s.line, "there is no %s", match[0])
			}
		}
	}
	for line, text := range d.all() {
		for _, name := range optionPattern.FindAllString(text, -1) {
			declared := slices.ContainsFunc([]string{"orchestrator", "eventstore", "admin", "statuspage"}, func(of string) bool { return declares(k.packages[of], name, "") })
			if !declared && !standard[name] {
				report(line, "there is no option %s", name)
			}
		}
		for _, match := range tablePattern.FindAllStringSubmatch(text, -1) {
			switch {
			case match[1] != "" && !k.isMetric(match[0]):
				report(line, "there is no metric %s", match[0])
			case match[1] == "" && !regexp.MustCompile(`\b`+match[0]+`\b`).MatchString(k.tables):
				report(line, "there is no table %s", match[0])
			}
		}
	}
	return found
}

var (
	linkPattern       = regexp.MustCompile(`\]\(([^)#\s]*)(#[^)\s]*)?\)`)
	makePattern       = regexp.MustCompile(`^make(?: +[A-Z_]+=\S+)* +([a-z][a-z-]*)`)
	identifierPattern = regexp.MustCompile(`\b([a-z]+)\.([A-Z]\w*)(?:\.([A-Z]\w*))?`)
	testNamePattern   = regexp.MustCompile(`^Test[A-Z]\w*$`)
	optionPattern     = regexp.MustCompile(`\bWith[A-Z]\w*`)
	tablePattern      = regexp.MustCompile(`\b(pupsourcing_)?orchestrator_[a-z_]+`)
)

// standard are functions of the standard library that look like options.
var standard = map[string]bool{"WithCancel": true, "WithTimeout": true, "WithDeadline": true, "WithoutCancel": true, "WithCancelCause": true}

// all yields each line of the document with its number.
func (d document) all() func(func(int, string) bool) {
	return func(yield func(int, string) bool) {
		for i, line := range d.prose {
			if !yield(i+1, line) {
				return
			}
		}
		for _, b := range d.blocks {
			for i, line := range strings.Split(b.text, "\n") {
				if !yield(b.line+i, line) {
					return
				}
			}
		}
	}
}

// link says what is wrong with a link to a file of the module.
func (k known) link(d document, target, anchor string) string {
	if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
		return ""
	}
	file := d.path
	if target != "" {
		file = path.Join(path.Dir(d.path), target)
	}
	text, err := os.ReadFile(filepath.Join(k.root, file))
	if err != nil && !isDirectory(filepath.Join(k.root, file)) {
		return "there is no file " + file
	}
	if anchor != "" && !slices.Contains(anchors(string(text)), anchor) {
		return "there is no heading " + anchor + " in " + file
	}
	return ""
}

func isDirectory(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.IsDir()
}

// anchors are the anchors that GitHub makes of a document's headings.
func anchors(text string) []string {
	var found []string
	for line := range strings.Lines(text) {
		if title := strings.TrimLeft(line, "#"); title != line {
			title = strings.ToLower(strings.TrimSpace(title))
			title = regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(title, "")
			found = append(found, "#"+strings.ReplaceAll(title, " ", "-"))
		}
	}
	return found
}

var (
	pathPattern   = regexp.MustCompile(`^(\.\.?/)*[\w.-]+(/[\w.-]+)*/?$`)
	filePattern   = regexp.MustCompile(`\.(md|go|sql|mod|sum|yml|yaml|sh|pml)$`)
	letterPattern = regexp.MustCompile(`(^|/)\w(/|$)`) // as in k/N
)

// isPath says whether a word names a file or a directory of a module.
func isPath(word string) bool {
	return pathPattern.MatchString(word) && (filePattern.MatchString(word) || strings.Contains(word, "/") && !letterPattern.MatchString(word))
}

// exists says whether a path exists, from the document's directory or the
// module's. Import paths of the module are paths too, those of others exist.
func (k known) exists(d document, word string) bool {
	if own, ok := strings.CutPrefix(word, typecheck.Module); ok {
		word = "." + own
	} else if domain, _, _ := strings.Cut(word, "/"); strings.Contains(strings.Trim(domain, "."), ".") && domain != word {
		return true
	}
	if program, ok := strings.CutPrefix(word, "./"); ok && slices.ContainsFunc(d.blocks, func(b block) bool { return strings.Contains(b.text, "go build -o "+program+" ") }) {
		return true // the document has built it
	}
	for _, from := range []string{".", path.Dir(d.path)} {
		if _, err := os.Stat(filepath.Join(k.root, from, word)); err == nil {
			return true
		}
	}
	return false
}

// declares says whether a package declares a name, with a field or a method of
// it if member is given.
func declares(pkg *types.Package, name, member string) bool {
	object := pkg.Scope().Lookup(name)
	if object == nil || member == "" {
		return object != nil
	}
	found, _, _ := types.LookupFieldOrMethod(object.Type(), true, pkg, member)
	return found != nil
}

// isMetric says whether a metric has the name, or one of its series has it.
func (k known) isMetric(name string) bool {
	if name == metrics.Prefix || slices.Contains(k.metrics, name) {
		return true
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if histogram, ok := strings.CutSuffix(name, suffix); ok && slices.Contains(k.metrics, histogram) {
			return true
		}
	}
	return false
}

func TestMetricsOfTheTablesAreListed(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "status-page.md"))
	require.NoError(t, err)
	for _, name := range tableMetrics(t) {
		assert.Contains(t, string(text), "`"+name+"`")
	}
}

func TestMissingNamesAreFound(t *testing.T) {
	k := newKnown(t)
	for text, problem := range map[string]string{
		"`make test`, `make FLAGS=-v test`":                      "",
		"we make do with prose":                                  "",
		"`make dinner`":                                          "target dinner",
		"`make FLAGS=-v dinner`":                                 "target dinner",
		"```sh\nmake test # make dinner\n```":                    "",
		"```sh\nmake dinner # make test\n```":                    "target dinner",
		"[a](README.md), [b](examples), [c](#what-it-promises)":  "",
		"[a](https://example.org/x#y)":                           "",
		"[a](docs/nothing.md)":                                   "docs/nothing.md",
		"[a](#performance)":                                      "#performance",
		"[a](Makefile#performance)":                              "#performance",
		"`go.mod`, `./examples/basic`, `test/pgtest/`":           "",
		"partition `0/3`, `k/N`, `/metrics`, `a/b`, `and/*.sql`": "",
		"`TestNamesExist`, `TestMain`, a `Test`":                 "",
		"`TestNothing`":                                          "test TestNothing",
		"`options_test_nothing.go`":                              "options_test_nothing.go",
		"`deploy/kubernetes`":                                    "deploy/kubernetes",
		"```sh\ngo run ./examples/nothing\n```":                  "./examples/nothing",
		"`" + typecheck.Module + "/es`, `example.org/other/es`":  "",
		"`" + typecheck.Module + "/nothing`":                     "/nothing",
		"`WithBatchSize`, `WithEventsTable`, context.WithCancel": "",
		"`WithNothing`":                                          "option WithNothing",
		"| WithNothing |":                                        "option WithNothing",
		"`orchestrator.New`, `es.NoStream()`, `*slog.Logger`, `orchestrator.Orchestrator.Run`, `es.Event.Payload`": "",
		"`orchestrator.Old`":               "orchestrator.Old",
		"`orchestrator.Orchestrator.Walk`": "orchestrator.Orchestrator.Walk",
		"`pupsourcing_orchestrator_workers` and all `pupsourcing_orchestrator_`…, `pupsourcing_orchestrator_batch_events_bucket`": "",
		"```\npupsourcing_orchestrator_nothing 1\n```":        "metric pupsourcing_orchestrator_nothing",
		"`pupsourcing_orchestrator_workers_bucketful`":        "metric pupsourcing_orchestrator_workers_bucketful",
		"`orchestrator_workers`, orchestrator_schema_version": "",
		"```sql\nSELECT * FROM orchestrator_work\n```":        "table orchestrator_work",
	} {
		missing := k.missing(parse("README.md", text))
		if problem == "" {
			assert.Empty(t, missing, text)
		} else if assert.Len(t, missing, 1, text) {
			assert.True(t, strings.HasSuffix(missing[0], problem) || strings.Contains(missing[0], problem+" "), "%s: %s", text, missing[0])
		}
	}
}

package measure

import (
	"flag"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write docs/metrics.md")

const document = "../../docs/metrics.md"

// TestTheDocumentIsOfTheCode makes docs/metrics.md from the code.
func TestTheDocumentIsOfTheCode(t *testing.T) {
	t.Parallel()
	want := documentText(t)
	if *update {
		require.NoError(t, os.WriteFile(document, []byte(want), 0o644))
		return
	}
	have, err := os.ReadFile(document)
	require.NoError(t, err)
	assert.Equal(t, want, string(have), "run: go test ./internal/measure -run Document -update")
}

func documentText(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	row := func(cells ...string) {
		for _, cell := range cells {
			b.WriteString("| " + strings.ReplaceAll(cell, "|", `\|`) + " ")
		}
		b.WriteString("|\n")
	}
	b.WriteString(`# Metrics

This page lists every metric that a worker exposes to Prometheus. It is generated from the code: ` + "`go test ./internal/measure -run Document -update`" + `.
[docs/monitoring.md](monitoring.md) says which ones to watch.

Every name begins with ` + "`" + Prefix + "`" + `, and every metric has the label ` + "`" + labelReplicaSet + "`" + ` in addition to the labels listed here. A worker's
series disappear when its ` + "`Run`" + ` returns.

`)
	row("name", "type", "labels", "meaning")
	row("---", "---", "---", "---")
	for _, d := range newFamilies().described {
		row("`"+d.name+"`", d.kind, strings.Join(d.labels, ", "), d.help)
	}
	b.WriteString("\n## Values of labels\n\n`projection` is a projection's name, `partition` is k/N, `actor` is a kind of actor, `message` is a type of message, and `loop` is a kind of loop in\n[Health](monitoring.md#health). The other labels are words with at most 100 distinct values each.\n\n")
	row("label", "value", "meaning")
	row("---", "---", "---")
	file, err := parser.ParseFile(token.NewFileSet(), "../../metrics/doc.go", nil, parser.ParseComments)
	require.NoError(t, err)
	for _, line := range codeBlocks(file.Doc.Text())[1] {
		words := strings.Fields(line)
		row("`"+words[0]+"`", "`"+words[1]+"`", strings.Join(words[2:], " "))
	}
	fmt.Fprintf(&b, "\n## Buckets\n\nThe upper bounds of the histograms' classic buckets. Each histogram also has native buckets that grow by %d %% each, at most %d of them.\n\n", int(nativeFactor*100)-100, nativeMost)
	row("name", "bounds, in seconds or events")
	row("---", "---")
	for _, line := range bucketsTable() {
		words := strings.Fields(line)
		row("`"+words[0]+"`", strings.Join(words[1:], ", "))
	}
	b.WriteString("\n## Names of the earlier orchestrator\n\n`WithEarlierMetricNames` also shows the metrics marked \"yes\" under their earlier names.\n\n")
	row("earlier", "now", "what differs", "with the option")
	row("---", "---", "---", "---")
	for _, e := range earlierMetrics {
		row(earlierRow(e)...)
	}
	return b.String()
}

func earlierRow(e Earlier) []string {
	shown := map[bool]string{true: "yes", false: "no"}[e.Shown]
	return []string{"`" + e.Name + "`", "`" + e.Now + "`", e.Note, shown}
}

// Those that the table marks are those that the option shows.
func TestTheTableOfEarlierNamesIsTrue(t *testing.T) {
	t.Parallel()
	f := newFamilies()
	var shown, marked []string
	for _, d := range f.earlier.all() {
		text := d.String()
		_, name, _ := strings.Cut(text, `fqName: "`+Prefix)
		name, _, _ = strings.Cut(name, `"`)
		shown = append(shown, name)
	}
	names := map[string]bool{}
	for _, d := range f.described {
		names[d.name] = true
	}
	for _, e := range earlierMetrics {
		if e.Shown {
			marked = append(marked, e.Name)
			assert.False(t, names[e.Name], "%s is a metric of today", e.Name)
		}
		now, _, _ := strings.Cut(e.Now, "{")
		assert.True(t, names[now], "%s is no metric, which is to have taken the place of %s", now, e.Name)
	}
	assert.ElementsMatch(t, marked, shown, strconv.Itoa(len(shown)))
}

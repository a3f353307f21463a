package measure

import (
	"fmt"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// TestDocumentationListsEveryMetric compares the tables of doc.go with what is
// registered.
func TestDocumentationListsEveryMetric(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "../../metrics/doc.go", nil, parser.ParseComments)
	require.NoError(t, err)
	blocks := codeBlocks(file.Doc.Text())
	require.Len(t, blocks, 3, "the table of metrics, the values of labels and the table of buckets")
	require.Equal(t, metricsTable(), blocks[0])
	require.Equal(t, bucketsTable(), blocks[2])
	var documented []string
	for _, line := range blocks[1] {
		words := strings.Fields(line)
		require.Greater(t, len(words), 2, "%q does not say what the value means", line)
		documented = append(documented, words[0]+" "+words[1])
	}
	require.ElementsMatch(t, labelValues(t), documented)
}

// TestDescriptionsMatchTheCollectors makes sure that the descriptions, which the
// documentation is compared with, are those of the collectors themselves.
func TestDescriptionsMatchTheCollectors(t *testing.T) {
	t.Parallel()
	m := &Metrics{families: newFamilies()}
	ch := make(chan *prometheus.Desc, 100)
	m.Describe(ch)
	close(ch)
	var got, want []string
	for d := range ch {
		got = append(got, d.String())
	}
	for _, d := range m.families.earlier.all() { // they have a table of their own
		want = append(want, d.String())
	}
	for _, d := range m.families.described {
		labels := append([]string{labelReplicaSet}, d.labels...)
		want = append(want, prometheus.NewDesc(Prefix+d.name, d.help, labels, nil).String())
	}
	require.ElementsMatch(t, want, got)
}

// codeBlocks are the indented blocks of a doc comment's text.
func codeBlocks(text string) [][]string {
	var blocks [][]string
	inBlock := false
	for line := range strings.Lines(text) {
		code, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "\t")
		if ok && !inBlock {
			blocks = append(blocks, nil)
		}
		if ok {
			blocks[len(blocks)-1] = append(blocks[len(blocks)-1], code)
		}
		inBlock = ok
	}
	return blocks
}

func metricsTable() []string {
	table := []string{fmt.Sprintf("%-30s  %-9s  %-21s  %s", "name", "type", "labels", "meaning")}
	for _, d := range newFamilies().described {
		labels := strings.Join(d.labels, ", ")
		table = append(table, fmt.Sprintf("%-30s  %-9s  %-21s  %s", d.name, d.kind, labels, d.help))
	}
	return table
}

// labelValues are the values that labels have from the start, of a replica set that runs one projection.
func labelValues(t *testing.T) []string {
	t.Helper()
	registry := prometheus.NewRegistry()
	m, err := New(registry)
	require.NoError(t, err)
	m.ReplicaSet("set").ShowPartition("users", "0/1")
	families, err := registry.Gather()
	require.NoError(t, err)
	var values []string
	for _, family := range families {
		for _, series := range family.GetMetric() {
			for _, label := range series.GetLabel() {
				value := label.GetName() + " " + label.GetValue()
				free := slices.Contains([]string{labelReplicaSet, "projection", "partition"}, label.GetName())
				if !free && !slices.Contains(values, value) {
					values = append(values, value)
				}
			}
		}
	}
	return values
}

func bucketsTable() []string {
	row := func(name string, bounds []float64) string {
		row := fmt.Sprintf("%-30s ", name)
		for _, bound := range bounds {
			row += " " + strconv.FormatFloat(bound, 'f', -1, 64)
		}
		return row
	}
	return []string{
		row("coordination_duration_seconds", coordinationBuckets),
		row("heartbeat_duration_seconds", heartbeatBuckets),
		row("batch_duration_seconds", batchSecondsBuckets),
		row("batch_events", batchEventsBuckets),
	}
}

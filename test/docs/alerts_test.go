package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/measure"
	"github.com/getpup/pupsourcing-orchestrator/v2/metrics"
)

var (
	exprPattern    = regexp.MustCompile(`(?m)^ +expr: (.*)$`)
	alertPattern   = regexp.MustCompile(`(?m)^ +- alert: (\w+)$`)
	seriesPattern  = regexp.MustCompile(metrics.Prefix + `(\w+)(?:\{(\w+)="(\w+)"\})?`)
	byPattern      = regexp.MustCompile(`by \(([\w, ]+)\)`)
	withoutPattern = regexp.MustCompile(`without \(([\w, ]+)\)`)
	summaryPattern = regexp.MustCompile(`\$labels\.(\w+)`)
)

// shown is the series that a worker with one partition shows: the labels of each metric, and the values of each label.
type shown map[string]map[string][]string

func newShown(t *testing.T) shown {
	t.Helper()
	registry := prometheus.NewRegistry()
	m, err := measure.New(registry)
	require.NoError(t, err)
	set := m.ReplicaSet("set")
	set.ShowPartition("users", "0/1")
	set.ShowPolicy("users", "0/1")
	set.ShowHook()
	set.Position("users", "0/1", 1)
	set.Lag("users", "0/1", 1)
	set.Horizon(1, 1, 0, 0)
	families, err := registry.Gather()
	require.NoError(t, err)
	found := shown{}
	for _, family := range families {
		labels := map[string][]string{}
		for _, series := range family.GetMetric() {
			for _, label := range series.GetLabel() {
				labels[label.GetName()] = append(labels[label.GetName()], label.GetValue())
			}
		}
		found[strings.TrimPrefix(family.GetName(), metrics.Prefix)] = labels
	}
	return found
}

// wrong is what an expression names that no worker shows.
func (s shown) wrong(expr string) []string {
	var problems []string
	series := seriesPattern.FindAllStringSubmatch(expr, -1)
	if len(series) == 0 {
		problems = append(problems, "no metric")
	}
	for _, match := range series {
		labels, known := s[match[1]]
		if !known {
			problems = append(problems, "no series from the start: "+match[1])
			continue
		}
		if match[2] != "" && !slices.Contains(labels[match[2]], match[3]) {
			problems = append(problems, "no value "+match[3]+" of "+match[2])
		}
		for _, list := range slices.Concat(byPattern.FindAllStringSubmatch(expr, -1), withoutPattern.FindAllStringSubmatch(expr, -1)) {
			for label := range strings.SplitSeq(list[1], ", ") {
				if labels[label] == nil {
					problems = append(problems, "no label "+label)
				}
			}
		}
	}
	return problems
}

// Every metric, label and value that an alert rule names is shown by a worker from the start, and the page says what to do about each alert.
func TestAlertRulesNameWhatIsShown(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "monitoring.md"))
	require.NoError(t, err)
	known := newShown(t)
	rules, actions, _ := strings.Cut(string(text), "| alert | what to do |")
	alerts := alertPattern.FindAllStringSubmatch(rules, -1)
	exprs := exprPattern.FindAllStringSubmatch(rules, -1)
	require.NotEmpty(t, alerts)
	require.Len(t, exprs, len(alerts))
	for i, expr := range exprs {
		assert.Empty(t, known.wrong(expr[1]), alerts[i][1])
		assert.Contains(t, actions, "`"+alerts[i][1]+"`")
		kept := byPattern.FindStringSubmatch(expr[1])
		require.NotNil(t, kept, alerts[i][1])
		_, rule, _ := strings.Cut(rules, "alert: "+alerts[i][1]+"\n")
		rule, _, _ = strings.Cut(rule, "- alert")
		for _, label := range summaryPattern.FindAllStringSubmatch(rule, -1) {
			assert.Contains(t, strings.Split(kept[1], ", "), label[1], "the summary of %s", alerts[i][1])
		}
	}
}

func TestWrongAlertRulesAreFound(t *testing.T) {
	known := newShown(t)
	for expr, problem := range map[string]string{
		`increase(` + metrics.Prefix + `workers_lost_total[5m]) > 0`:            "",
		`sum by (replica_set) (` + metrics.Prefix + `workers{state="dead"})`:    "",
		`sum by (replica_set) (` + metrics.Prefix + `workers{state="alive"})`:   "no value alive of state",
		`sum by (partition) (` + metrics.Prefix + `workers)`:                    "no label partition",
		`sum without (reason) (` + metrics.Prefix + `generation_changes_total)`: "no label reason",
		metrics.Prefix + `workers_gone_total > 0`:                               "no series from the start: workers_gone_total",
		metrics.Prefix + `notification_proofs_total{result="missed"}`:           "no value missed of result",
		`up == 0`: "no metric",
	} {
		if problem == "" {
			assert.Empty(t, known.wrong(expr))
		} else {
			assert.Contains(t, known.wrong(expr), problem)
		}
	}
}

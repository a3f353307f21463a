package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

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
	set.ShowWorker(measure.Worker{
		LagSince: func(int64) time.Duration { return time.Second }, Waits: func() int { return 0 },
		Loops: func() []measure.LoopAge { return []measure.LoopAge{{Name: "horizon"}} },
	})
	set.Held("users", "0/1", false) // shown once it was held; rules leave out what is held by it
	set.Survey(&measure.Survey{Shown: time.Hour, Unowned: map[string]int{"users": 1}})
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
	for _, d := range tableDescs(t) {
		labels := map[string][]string{"replica_set": {"set"}}
		for label := range strings.SplitSeq(d.labels, ",") {
			labels[label] = tableStates[d.name]
		}
		found[strings.TrimPrefix(d.name, metrics.Prefix)] = labels
	}
	return found
}

// tableStates are the values of the label state.
var tableStates = map[string][]string{
	metrics.Prefix + "set_workers": {"pending", "ready", "running", "stopping", "silent", "dead"},
	metrics.Prefix + "set_letters": {"retrying", "stopped", "parked", "skipped"},
}

// wrong is what an expression names that no worker shows.
func (s shown) wrong(expr string) []string {
	var problems []string
	series := seriesPattern.FindAllStringSubmatch(expr, -1)
	if len(series) == 0 {
		problems = append(problems, "no metric")
	}
	all := map[string]bool{}
	for _, match := range series {
		labels, known := s[match[1]]
		if !known {
			problems = append(problems, "no series from the start: "+match[1])
			continue
		}
		if match[2] != "" && !slices.Contains(labels[match[2]], match[3]) {
			problems = append(problems, "no value "+match[3]+" of "+match[2])
		}
		for label := range labels {
			all[label] = true
		}
	}
	for _, list := range slices.Concat(byPattern.FindAllStringSubmatch(expr, -1), withoutPattern.FindAllStringSubmatch(expr, -1)) {
		for label := range strings.SplitSeq(list[1], ", ") {
			if len(all) > 0 && !all[label] {
				problems = append(problems, "no label "+label)
			}
		}
	}
	return problems
}

// Every metric, label and value that an alert rule names is shown from the start by a worker or from the tables. Each alert has all annotations, and a runbook that names it.
func TestAlertRulesNameWhatIsShown(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "deploy", "prometheus", "rules.yml"))
	require.NoError(t, err)
	runbooks := runbookSections(t)
	known := newShown(t)
	names := alertPattern.FindAllStringSubmatch(string(text), -1)
	require.Greater(t, len(names), 20)
	for _, name := range names {
		_, rule, _ := strings.Cut(string(text), "alert: "+name[1]+"\n")
		rule, _, _ = strings.Cut(rule, "- alert")
		expr := exprPattern.FindStringSubmatch(rule)
		require.NotNil(t, expr, name[1])
		assert.Empty(t, known.wrong(expr[1]), name[1])
		if kept := byPattern.FindStringSubmatch(expr[1]); kept != nil {
			for _, label := range summaryPattern.FindAllStringSubmatch(rule, -1) {
				assert.Contains(t, strings.Split(kept[1], ", "), label[1], "the texts of %s", name[1])
			}
		}
		assert.Regexp(t, `severity: (critical|warning|info)\n`, rule, name[1])
		for _, annotation := range []string{"summary", "description"} {
			assert.Regexp(t, annotation+`: ".+"\n`, rule, name[1])
		}
		link := runbookPattern.FindStringSubmatch(rule)
		require.NotNil(t, link, name[1])
		assert.Contains(t, runbooks[link[1]], "`"+name[1]+"`", "the runbook of %s", name[1])
	}
	assert.Len(t, runbooks, len(names), "a runbook for each alert")
}

var runbookPattern = regexp.MustCompile(`runbook_url: \S+/docs/runbooks\.md#([\w-]+)\n`)

// runbookSections are the runbooks, by the anchors of their titles.
func runbookSections(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs", "runbooks.md"))
	require.NoError(t, err)
	sections := map[string]string{}
	for _, section := range strings.Split(string(text), "\n## ")[1:] {
		title, body, _ := strings.Cut(section, "\n")
		sections[strings.ToLower(strings.ReplaceAll(title, " ", "-"))] = body
	}
	return sections
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

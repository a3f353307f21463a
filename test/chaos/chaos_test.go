package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// A few short runs with everything at once. `make chaos` does the long ones.
func TestChaos(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	for _, o := range []options{{Seed: 3}, {Seed: 5, Pooler: true}} {
		t.Run(fmt.Sprintf("seed %d, pooler %t", o.Seed, o.Pooler), func(t *testing.T) {
			if o.Pooler {
				pgtest.RequireBouncer(t)
			}
			t.Setenv(workerVariable, "") // restores it afterwards
			var output bytes.Buffer
			o.Duration, o.Workers, o.Faults, o.Interval, o.Verbose = 12*time.Second, 3, labFaults(), 600*time.Millisecond, true
			r, err := run(t.Context(), o, &output)
			r.print(&output, o.Seed, err)
			t.Logf("%s", output.String())
			require.NoError(t, err)
			assert.True(t, r.ok())
			assert.Positive(t, r.figures.Generations)
			assert.Positive(t, r.figures.Handled)
		})
	}
}

// A promise that is broken by hand must be noticed, and the evidence kept.
func TestChaosNoticesViolations(t *testing.T) {
	t.Setenv(workerVariable, "")
	var output bytes.Buffer
	c := &chaos{options: options{Seed: 3, Duration: 3 * time.Second, Workers: 2}, say: func(string, ...any) {}}
	t.Cleanup(func() { assert.NoError(t, c.close(false)) })
	require.NoError(t, c.prepare(t.Context()))
	require.NoError(t, c.trouble(t.Context()))
	settled, err := c.settle(t.Context())
	require.NoError(t, err)
	for _, statement := range []string{
		`DELETE FROM workload_log WHERE seq = (SELECT min(seq) FROM workload_log)`,
		`INSERT INTO workload_log (projection, global_position, bounded_context, aggregate_type, aggregate_id, aggregate_version, slot, generation, worker, process_id)
		 SELECT projection, global_position, bounded_context, aggregate_type, aggregate_id, aggregate_version, slot, 0, 'somebody', 0
		 FROM workload_log ORDER BY seq DESC LIMIT 1`,
		`INSERT INTO orchestrator_dead_letters (projection, global_position, replica_set, bounded_context, aggregate_type, aggregate_id, event_id, event_type, attempts, last_error, worker_id, generation, state, skipped_at)
		 SELECT l.projection, l.global_position, 'chaos', bounded_context, aggregate_type, aggregate_id, event_id, event_type, 2, 'no', gen_random_uuid(), 1, 'skipped', now()
		 FROM workload_log AS l JOIN events USING (global_position, bounded_context, aggregate_type, aggregate_id) WHERE l.projection = 'skips' ORDER BY seq LIMIT 1`,
	} {
		tag, err := c.pool.Exec(t.Context(), statement)
		require.NoError(t, err)
		require.EqualValues(t, 1, tag.RowsAffected())
	}
	// Another worker calls a handler for the same event while the first one is in it, and its session lives on.
	first := c.fleet.all[0]
	calls, err := readJournal(c.dir, first.Name)
	require.NoError(t, err)
	calls = slices.DeleteFunc(calls, func(e *entry) bool { return e.Projection != "all" })
	require.NotEmpty(t, calls)
	second, err := os.OpenFile(c.dir+"/"+fmt.Sprintf(journalName, c.fleet.all[1].Name), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	during := calls[0].Began + (calls[0].Ended-calls[0].Began)/2
	_, err = fmt.Fprintf(second, "begin 999999 %s %d 999999 %d\nend 999999 ok %d\n", calls[0].Projection, calls[0].Position, during, during+1)
	require.NoError(t, err)
	require.NoError(t, second.Close())

	r, err := c.judge(t.Context(), report{findings: settled})
	require.NoError(t, err)
	require.NoError(t, c.preserve(t.Context(), r))
	r.kept = c.dir
	r.print(&output, 3, nil)
	assert.False(t, r.ok())
	for name, expected := range map[string]int64{
		"lost": 1, "duplicated": 1, "overlapped": 1, "repeated-outside": 1, "went-back": 1, "strangers": 1, "skipped": 1, "stalled": 0, "unsettled": 0, "exited": 0, "deadlocks": 0,
	} {
		assert.Contains(t, output.String(), fmt.Sprintf("check %s count=%d allowed=0\n", name, expected))
	}
	last := strings.TrimSpace(output.String()[strings.LastIndex(strings.TrimSpace(output.String()), "\n"):])
	assert.True(t, strings.HasPrefix(last, "chaos: FAILED ("), last)
	assert.Contains(t, last, "evidence="+c.dir)
	for _, file := range []string{"violations.txt", "workload_log.csv", "postgresql.csv", first.Name + ".log"} {
		assert.FileExists(t, c.dir+"/"+file)
	}
}

// labFaults are those of short runs. Those of the environment need longer ones.
func labFaults() []fault {
	return slices.DeleteFunc(slices.Clone(allFaults), func(f fault) bool {
		return has([]fault{faultPath, faultLocal, faultRollback, faultStandby, faultSettings, faultRevoke, faultHide, faultStranger}, f)
	})
}

func TestScheduleIsAFunctionOfTheSeed(t *testing.T) {
	t.Parallel()
	o := options{Seed: 7, Duration: 10 * time.Minute, Faults: allFaults, Interval: defaultInterval}
	steps := schedule(o)
	assert.Equal(t, steps, schedule(o))
	o.Seed++
	assert.NotEqual(t, steps, schedule(o))
	seen := map[fault]int{}
	for i, s := range steps {
		seen[s.Fault]++
		if i > 0 {
			assert.Greater(t, s.At, steps[i-1].At)
		}
		c := characters[s.Fault]
		assert.True(t, s.For >= c.least && s.For <= c.most && s.Kind < max(1, c.kinds), "%+v", s)
	}
	for f := range characters {
		assert.Greater(t, seen[f], 3, "%s", f)
	}
	o.Faults = []fault{faultKill, faultFail}
	for _, s := range schedule(o) {
		assert.Equal(t, faultKill, s.Fault)
	}
	o.Faults = []fault{faultFail}
	assert.Empty(t, schedule(o))
}

func TestInjectedFailuresAreTheSameInEveryProcessAndEnds(t *testing.T) {
	t.Parallel()
	m := failurePlan{Seed: 1, Dir: t.TempDir(), Faults: allFaults}
	seen := map[injectedFailure]int{}
	for position := range int64(20_000) {
		what, long, err := m.draw("p", position)
		require.NoError(t, err)
		seen[what]++
		if what == behave {
			continue
		}
		for range 10 {
			again, same, err := m.draw("p", position)
			require.NoError(t, err)
			if again == behave {
				long = 0
				break
			}
			require.Equal(t, what, again)
			require.Equal(t, long, same)
		}
		assert.Zero(t, long, "the failure of position %d does not end", position)
	}
	for _, p := range injectedFailures {
		assert.InDelta(t, float64(p.share)/5, seen[p.failure], max(5, float64(p.share)/10), "%d", p.failure)
	}
	quiet, _, err := failurePlan{Seed: 1, Dir: t.TempDir()}.draw("p", 1)
	require.NoError(t, err)
	assert.Equal(t, behave, quiet)
}

func TestOptions(t *testing.T) {
	t.Parallel()
	environment := map[string]string{"SEED": "7", "DURATION": "10s", "FAULTS": "kill, freeze"}
	var output bytes.Buffer
	o, err := parseOptions([]string{"-workers", "4", "-duration=20s"}, func(name string) string { return environment[name] }, &output)
	require.NoError(t, err)
	assert.Equal(t, options{Seed: 7, Duration: 20 * time.Second, Workers: 4, Faults: []fault{faultKill, faultFreeze}, Interval: defaultInterval}, o)
	for flag, text := range map[string]string{
		"-faults=fire":   `there is no fault "fire"; there are join,`,
		"-seed=x":        "invalid syntax",
		"-duration=10ms": "at least 1s",
		"-workers=1":     "at least 2 workers",
		"-interval=1ms":  "at least 10ms",
		"more":           "takes no arguments",
	} {
		_, err := parseOptions([]string{flag}, func(string) string { return "" }, &output)
		assert.ErrorContains(t, err, text, flag)
	}
	o, err = parseOptions(nil, func(string) string { return "" }, &output)
	require.NoError(t, err)
	assert.Equal(t, allFaults, o.Faults)
	assert.Equal(t, defaultDuration, o.Duration)
}

func TestJournal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	none, err := readJournal(dir, "w")
	require.NoError(t, err)
	assert.Empty(t, none)
	j, err := openJournal(dir, "w")
	require.NoError(t, err)
	first, err := j.begin("p", 5, 77)
	require.NoError(t, err)
	second, err := j.begin("p", 6, 77)
	require.NoError(t, err)
	require.NoError(t, j.end(first, outcomeFailed))
	_, err = j.file.WriteString("end 2 o") // cut by the process's death
	require.NoError(t, err)
	entries, err := readJournal(dir, "w")
	require.NoError(t, err)
	require.Len(t, entries, 2)
	assert.Equal(t, entry{Worker: "w", Call: first, Projection: "p", Position: 5, Backend: 77, Began: entries[0].Began, Ended: entries[0].Ended, Outcome: outcomeFailed}, *entries[0])
	assert.LessOrEqual(t, entries[0].Began, entries[0].Ended)
	assert.Equal(t, entry{Worker: "w", Call: second, Projection: "p", Position: 6, Backend: 77, Began: entries[1].Began}, *entries[1])
	require.NoError(t, j.file.Close())
}

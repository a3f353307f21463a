package main

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

func TestACheckIsShownWithItsOutcome(t *testing.T) {
	t.Parallel()
	none := workload.Check{Title: "lost things", SQL: "SELECT 1\nFROM t"}
	assert.Equal(t, []string{"", "-- lost things", "SELECT 1", "FROM t;", "  => 0  (must be 0: ok)"}, shown(workload.Result{Check: none}))
	assert.Contains(t, shown(workload.Result{Check: none, Count: 2}), "  => 2  (must be 0: FAILED)")
	some := workload.Check{Title: "found things", SQL: "SELECT 1", Some: true}
	assert.Contains(t, shown(workload.Result{Check: some}), "  => 0  (must be above 0: FAILED)")
	assert.Contains(t, shown(workload.Result{Check: some, Count: 5}), "  => 5  (must be above 0: ok)")
}

func TestTheSummaryHasALineForEachCheck(t *testing.T) {
	t.Parallel()
	assert.Equal(t, []string{
		"  ok          0  lost things",
		"  FAILED      7  lost things",
		"  ok          5  found things",
	}, summary([]workload.Result{
		{Check: workload.Check{Title: "lost things"}},
		{Check: workload.Check{Title: "lost things"}, Count: 7},
		{Check: workload.Check{Title: "found things", Some: true}, Count: 5},
	}))
}

func TestTheVerdictIsOneLine(t *testing.T) {
	t.Parallel()
	f := figures{Events: 100, Workers: 5, Generations: 8, LongestChange: 25 * time.Millisecond, Most: 3 * time.Second}
	assert.Equal(t, "demo: OK: 100 events, each handled exactly once, and in order, by each of the 2 projections that wanted it; "+
		"5 workers, 8 generations, longest change 25ms, longest wait of an event 3s, 41 s", verdict(f, "", 41*time.Second, nil))
	interrupted := verdict(figures{}, "", 12*time.Second, errInterrupted)
	assert.Equal(t, "demo: interrupted after 12 s: workers and database are gone, and nothing is proved", interrupted)
	assert.Contains(t, verdict(figures{}, "", time.Second, errors.Join(errInterrupted, errors.New("the server goes on"))), "the server goes on")
	failed := verdict(figures{}, "/tmp/here", 12*time.Second, errors.Join(errors.New("first"), errors.New("second")))
	assert.Equal(t, "demo: FAILED after 12 s: first; second; logs are in /tmp/here", failed)
}

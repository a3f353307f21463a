package face

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// cell is one of the table of classes and policies. The number of partitions does not change until the outcome is there, and then does, twice. It is tried with a handler of single events and one of
// batches at once.
type cell struct {
	class  string
	policy string
}

// outcomeOf is what the policy makes of an event of the class.
func (c cell) outcomeOf() string {
	if c.class == "conflict" || c.class == "database" {
		return "handled" // the event is not at fault
	}
	return c.policy
}

// seen is what the tables say when the outcome has come about: the positions that were handled, and the letters. The event that fails is at 3, and its aggregate
// has the events at 1, 3 and 5.
var seen = map[string][2]string{
	"handled": {"1 2 3 4 5 6", ""},
	"retry":   {"1 2", "3 retrying"},
	"stop":    {"1 2", "3 stopped"},
	"skip":    {"1 2 4 5 6", "3 skipped"},
	"park":    {"1 2 4 6", "3 parked, 5 parked"},
}

// What becomes of an event, for each class of failure and each policy, whether events are handled alone or in batches, and whether workers come and go. In the end a
// person repairs the handler and decides, and each event was handled once and in order, but for one that was skipped.
func TestTheTableOfErrorPolicies(t *testing.T) {
	directOnly(t)
	var mu sync.Mutex
	var table []string
	t.Run("cells", func(t *testing.T) {
		for _, class := range []string{"error", "timeout", "permanent", "conflict", "database"} {
			for _, policy := range []string{"retry", "stop", "skip", "park"} {
				c := cell{class, policy}
				t.Run(class+"/"+policy, func(t *testing.T) {
					t.Parallel()
					row := c.try(t)
					mu.Lock()
					defer mu.Unlock()
					table = append(table, row)
				})
			}
		}
	})
	slices.Sort(table)
	t.Logf("class | policy | outcome, alone and in batches | handled then | letters then | in the end\n%s", strings.Join(table, "\n"))
}

// fail fails on the event at 3 in the way of the class, for as long as broken is true; where the event is not at fault, twice.
func (c cell) fail(broken *atomic.Bool) func(context.Context, es.PersistedEvent) error {
	var mu sync.Mutex
	failures := 0
	return func(ctx context.Context, e es.PersistedEvent) error {
		if e.GlobalPosition != 3 || !broken.Load() {
			return nil
		}
		mu.Lock()
		failures++
		n := failures
		mu.Unlock()
		switch c.class {
		case "timeout":
			<-ctx.Done()
			return context.Cause(ctx)
		case "permanent":
			return projection.Permanent(errBad)
		case "conflict":
			if n <= 2 {
				return &pgconn.PgError{Code: "40001", Message: "could not serialize access"}
			}
			return nil
		case "database":
			if n <= 2 {
				return &pgconn.PgError{Code: "57P01", Message: "terminating connection"}
			}
			return nil
		}
		return errBad
	}
}

func (c cell) option() orchestrator.Option {
	policy := projection.ErrorPolicy{First: time.Millisecond, Max: 5 * time.Millisecond, Attempts: 2}
	if c.class == "timeout" {
		policy.Timeout = 500 * time.Millisecond
	}
	switch c.policy {
	case "retry":
		policy.Attempts = 0
	case "skip":
		policy.Then = projection.Skip
	case "park":
		policy.Then = projection.Park
	}
	return orchestrator.WithErrorPolicy(policy)
}

// try goes through the cell and returns its row.
func (c cell) try(t *testing.T) string {
	t.Helper()
	w := newWorld(t)
	w.troubled = c.class == "database" // as the handler says
	w.appendInTurn(3, "ada", "grace")
	var broken atomic.Bool
	broken.Store(true)
	run := func() *running {
		return start(t, w.orchestrator("set", c.option()), recorder{name: "alone", before: c.fail(&broken)}, inBatches{recorder{name: "batches", before: c.fail(&broken)}})
	}
	first, outcome := run(), c.outcomeOf()
	for _, p := range []string{"alone", "batches"} {
		w.await(seen[outcome][0], "SELECT coalesce(string_agg(position::text, ' ' ORDER BY position), '') FROM handled WHERE projection = $1", p)
		w.await(seen[outcome][1], "SELECT coalesce(string_agg(global_position || ' ' || state, ', ' ORDER BY 1), '') FROM orchestrator_dead_letters WHERE projection = $1 AND state <> 'handled'", p)
	}
	second := run() // it joins, and the other leaves
	w.await("2", "SELECT cardinality(members) FROM orchestrator_generations WHERE state = 'active'")
	require.NoError(t, first.stop())
	w.await("1", "SELECT cardinality(members) FROM orchestrator_generations WHERE state = 'active'")
	first = second
	assert.Equal(t, seen[outcome][0], w.value("SELECT coalesce(string_agg(position::text, ' ' ORDER BY position), '') FROM handled WHERE projection = 'alone'"))
	broken.Store(false)
	a, all := w.admin("set"), 6
	switch outcome {
	case "stop":
		require.NoError(t, a.Resume(w.patiently(), admin.Target{}, "repaired"))
	case "park":
		result, err := a.Retry(w.patiently(), admin.Filter{}, "repaired")
		require.NoError(t, err)
		assert.Equal(t, []int{2, 2}, []int{result.Aggregates, result.Succeeded})
	case "skip":
		all = 5
	}
	w.appendInTurn(1, "ada", "grace")
	for _, p := range []string{"alone", "batches"} {
		w.awaitHandled(p, all+2)
		if outcome != "skip" {
			w.requireOrder(p)
		}
	}
	require.NoError(t, first.stop())
	return fmt.Sprintf("%-9s | %-5s | %-7s | %-11s | %-18s | %d of 6", c.class, c.policy, outcome, seen[outcome][0], seen[outcome][1], all)
}

package handling_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
)

// answer is an answer of the database.
func answer(code string) error { return fmt.Errorf("writing: %w", &pgconn.PgError{Code: code}) }

// forever is the policy of the orchestrator's processors, and atOnce of the manual one.
var (
	forever = handling.Policy{Backoff: dbfault.Backoff{First: time.Second, Max: time.Minute}}
	atOnce  = handling.Policy{Attempts: 1, Then: handling.Stop}
)

func TestDecide(t *testing.T) {
	t.Parallel()
	const idle = 10 * time.Minute
	for name, tt := range map[string]struct {
		f    handling.Failure
		want handling.Verdict
	}{
		"an error":                                  {handling.Failure{Err: errBad}, handling.EventFailed},
		"an error of one of several":                {handling.Failure{Err: errBad, Events: 5, Handled: 3}, handling.EventFailed},
		"an error of a whole batch":                 {handling.Failure{Err: errBad, Events: 5, Whole: true}, handling.Smaller},
		"an error of the last of a whole batch":     {handling.Failure{Err: errBad, Whole: true}, handling.EventFailed},
		"a violated constraint":                     {handling.Failure{Err: answer("23505")}, handling.EventFailed},
		"a violated constraint and a lost session":  {handling.Failure{Err: answer("23505"), Lost: true}, handling.EventFailed},
		"a statement that was cut short":            {handling.Failure{Err: answer("57014")}, handling.EventFailed},
		"its own deadline":                          {handling.Failure{Err: context.DeadlineExceeded, Lost: true}, handling.EventFailed},
		"a panic":                                   {handling.Failure{Err: &handling.PanicError{Value: "no"}}, handling.EventFailed},
		"a panic over a lost connection":            {handling.Failure{Err: &handling.PanicError{Value: io.EOF}, Lost: true}, handling.Database},
		"a lost connection":                         {handling.Failure{Err: io.EOF, Lost: true}, handling.Database},
		"a lost connection, hidden":                 {handling.Failure{Err: errBad, Lost: true}, handling.Database},
		"an administrator's shutdown":               {handling.Failure{Err: answer("57P01"), Lost: true}, handling.Database},
		"a deadlock":                                {handling.Failure{Err: answer("40P01")}, handling.Conflict},
		"a serialization failure":                   {handling.Failure{Err: answer("40001"), Events: 5, Whole: true}, handling.Conflict},
		"a lock that was not to be had":             {handling.Failure{Err: answer("55P03")}, handling.Conflict},
		"a conflict, hidden":                        {handling.Failure{Err: errBad, Conflict: true}, handling.Conflict},
		"a conflict at commit":                      {handling.Failure{Err: answer("40001"), AtCommit: true}, handling.Conflict},
		"idle for too long":                         {handling.Failure{Err: answer("25P03"), Lost: true, Took: idle}, handling.Idle},
		"idle for too long, hidden":                 {handling.Failure{Err: errBad, Cause: answer("25P03"), Lost: true, Took: idle}, handling.Idle},
		"idle for too long, without an answer":      {handling.Failure{Err: io.EOF, Lost: true, Took: idle}, handling.Idle},
		"idle for too long at commit":               {handling.Failure{Err: answer("25P03"), AtCommit: true, Lost: true, Took: idle}, handling.Idle},
		"idle by its own doing":                     {handling.Failure{Err: answer("25P03"), Lost: true, Took: time.Second}, handling.Database},
		"idle, and not lost":                        {handling.Failure{Err: batchtx.ErrOwner, AtCommit: true, Took: idle}, handling.EventFailed},
		"slow, and lost for another reason":         {handling.Failure{Err: answer("57P01"), Lost: true, Took: idle}, handling.Database},
		"a transaction that was ended":              {handling.Failure{Err: batchtx.ErrOwner, AtCommit: true, Events: 5}, handling.Smaller},
		"a transaction that cannot write":           {handling.Failure{Err: batchtx.ErrReadOnly, AtCommit: true}, handling.EventFailed},
		"a row that is hidden":                      {handling.Failure{Err: batchtx.ErrRows, AtCommit: true}, handling.EventFailed},
		"a right that the role lacks at the commit": {handling.Failure{Err: answer("42501"), AtCommit: true}, handling.Database},
		"a full disk at the commit":                 {handling.Failure{Err: answer("53100"), AtCommit: true}, handling.Database},
		"a lost answer to COMMIT":                   {handling.Failure{Err: io.EOF, AtCommit: true, Lost: true, Events: 5}, handling.Database},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := tt.f
			f.Events, f.Position, f.Idle = max(f.Events, 1), 7, idle
			_, d := handling.Decide(forever, handling.State{}, f)
			assert.Equal(t, tt.want, d.Verdict)
			require.ErrorIs(t, d.Err, f.Err)
			switch d.Verdict {
			case handling.Idle:
				assert.Equal(t, 40*time.Minute, d.Idle)
			case handling.Smaller:
				assert.Equal(t, f.Events/2, d.Size)
			case handling.EventFailed:
				assert.Equal(t, f.Handled, d.Event)
				assert.Equal(t, max(1, f.Handled), d.Size)
			default:
			}
			f.Events = 0 // only the checkpoint was written
			_, d = handling.Decide(forever, handling.State{}, f)
			assert.NotContains(t, []handling.Verdict{handling.Smaller, handling.EventFailed}, d.Verdict)
		})
	}
}

// A connection that is lost again and again at one event is the event's doing. Losses elsewhere, or with a success between, are not.
func TestDecideCountsLosses(t *testing.T) {
	t.Parallel()
	lost := handling.Failure{Err: io.EOF, Lost: true, Events: 10, Handled: 4, Position: 7}
	elsewhere := lost
	elsewhere.Position = 8
	var s handling.State
	verdicts := func(failures ...handling.Failure) (found []handling.Verdict) {
		for _, f := range failures {
			var d handling.Decision
			s, d = handling.Decide(forever, s, f)
			found = append(found, d.Verdict)
		}
		return found
	}
	assert.Equal(t, []handling.Verdict{handling.Database, handling.Database, handling.EventFailed, handling.EventFailed}, verdicts(lost, lost, lost, lost))
	assert.Equal(t, []handling.Verdict{handling.Database, handling.Database, handling.Database}, verdicts(elsewhere, lost, elsewhere))
	s = s.Committed(3)
	assert.Equal(t, []handling.Verdict{handling.Database, handling.Database}, verdicts(elsewhere, elsewhere))

	atCommit := handling.Failure{Err: answer("XX000"), AtCommit: true, Events: 10, Position: 7}
	assert.Equal(t, []handling.Verdict{handling.Database, handling.Database, handling.Smaller}, verdicts(atCommit, atCommit, atCommit))
	_, d := handling.Decide(forever, s, atCommit)
	assert.ErrorContains(t, d.Err, "lost 4 times")
}

func TestDecideFollowsThePolicy(t *testing.T) {
	t.Parallel()
	f := handling.Failure{Err: errBad, Events: 1, Position: 7}
	s, d := handling.Decide(atOnce, handling.State{}, f)
	assert.Equal(t, handling.Stop, d.Outcome)
	assert.Zero(t, d.Delay)
	assert.Equal(t, 1, s.Attempts)

	s = handling.State{}
	for attempt := 1; attempt <= 20; attempt++ {
		s, d = handling.Decide(forever, s, f)
		assert.Equal(t, handling.Retry, d.Outcome)
		assert.Equal(t, attempt, s.Attempts)
		assert.GreaterOrEqual(t, d.Delay, forever.Backoff.Ceiling(attempt)/2)
		assert.LessOrEqual(t, d.Delay, forever.Backoff.Ceiling(attempt))
	}
	assert.Equal(t, 20, s.Committed(6).Attempts, "what came before it was committed")
	assert.Zero(t, s.Committed(7).Attempts)
	f.Position = 8
	s, _ = handling.Decide(forever, s, f)
	assert.Equal(t, 1, s.Attempts, "another event")
}

// Whatever fails, one event fails in the end, and it is the right one: batches are cut until the faulty event is found, and everything
// before it is committed.
func TestPropertyTheFaultyEventIsFound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		events := rapid.IntRange(1, 200).Draw(t, "events")
		faulty := rapid.IntRange(0, events-1).Draw(t, "faulty")
		whole := rapid.Bool().Draw(t, "whole")
		atCommit := rapid.Bool().Draw(t, "at commit")
		fault := rapid.SampledFrom([]handling.Failure{
			{Err: errBad}, {Err: io.EOF, Lost: true}, {Err: batchtx.ErrOwner}, {Err: answer("XX000"), Lost: true},
		}).Draw(t, "fault")
		noise := rapid.SliceOfN(rapid.Bool(), 0, 20).Draw(t, "conflicts")
		var s handling.State
		committed, size := 0, events
		for step := 0; ; step++ {
			if step > 2000 {
				t.Fatalf("nothing is found after %d steps", step)
			}
			n := min(size, events-committed)
			f := fault
			f.Events, f.Position, f.AtCommit = n, int64(committed), atCommit && !errors.Is(f.Err, errBad)
			switch {
			case len(noise) > step && noise[step]:
				f = handling.Failure{Err: answer("40P01"), Events: n, Position: int64(committed)}
			case faulty >= committed+n:
				committed += n
				s = s.Committed(int64(committed - 1))
				continue
			case whole || f.AtCommit:
				f.Whole = true
			default:
				f.Handled, f.Position = faulty-committed, int64(faulty)
			}
			var d handling.Decision
			s, d = handling.Decide(atOnce, s, f)
			switch d.Verdict {
			case handling.Smaller:
				if d.Size >= n || d.Size < 1 {
					t.Fatalf("a batch of %d is followed by one of %d", n, d.Size)
				}
				size = d.Size
			case handling.EventFailed:
				if committed+d.Event != faulty {
					t.Fatalf("event %d is at fault, not %d", faulty, committed+d.Event)
				}
				if d.Outcome != handling.Stop {
					t.Fatalf("the outcome is %v", d.Outcome)
				}
				return
			default:
			}
		}
	})
}

package handling_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/awaiting"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

var backoff = dbfault.Backoff{First: time.Second, Max: time.Minute}

// policyOf is a policy as Run makes it.
func policyOf(p projection.ErrorPolicy) (handling.Policy, error) {
	return handling.ErrorPolicy[projection.Outcome, projection.Class](p).Policy(backoff)
}

// followed is the policy, which must be valid.
func followed(t *testing.T, p projection.ErrorPolicy) handling.Policy {
	t.Helper()
	made, err := policyOf(p)
	require.NoError(t, err)
	return made
}

func TestPolicyFillsInItsDefaults(t *testing.T) {
	t.Parallel()
	made := followed(t, projection.ErrorPolicy{})
	assert.Equal(t, handling.Policy{Backoff: backoff, MaxParked: 1024, MaxParkedEvents: 1024}, made, "the zero value retries for ever")
	made = followed(t, projection.ErrorPolicy{Attempts: 3, First: 2 * time.Second, Timeout: time.Minute, Then: projection.Park, MaxParked: 1, MaxParkedEvents: 2})
	assert.Equal(t, handling.Policy{
		Attempts: 3, Backoff: dbfault.Backoff{First: 2 * time.Second, Max: time.Minute}, Timeout: time.Minute, Then: handling.Park, MaxParked: 1, MaxParkedEvents: 2,
	}, made)
	assert.Equal(t, dbfault.Backoff{First: time.Millisecond, Max: time.Millisecond}, followed(t, projection.ErrorPolicy{Max: time.Millisecond}).Backoff)
	assert.Equal(t, handling.Stop, followed(t, projection.ErrorPolicy{Attempts: 1}).Then)
	assert.Equal(t, handling.Skip, followed(t, projection.ErrorPolicy{Then: projection.Skip}).Then)
}

func TestPolicyNamesTheFieldThatBreaksItsRule(t *testing.T) {
	t.Parallel()
	for field, p := range map[string]projection.ErrorPolicy{
		"Attempts must not be negative, got -1":                            {Attempts: -1},
		"First must be 0 or between 1ms and 24h, got 1µs":                  {First: time.Microsecond},
		"First must be 0 or between 1ms and 24h, got -1s":                  {First: -time.Second},
		"Max must be 0 or between 1ms and 24h, got 25h0m0s":                {Max: 25 * time.Hour},
		"First (2m0s) must not be above Max (1m0s)":                        {First: 2 * time.Minute},
		"First (3s) must not be above Max (2s)":                            {First: 3 * time.Second, Max: 2 * time.Second},
		"Timeout must be 0 or between 1ms and 24h, got -1ns":               {Timeout: -1},
		"Then must be Stop, Skip or Park, got 3":                           {Then: projection.Park + 1},
		"Then must be Stop, Skip or Park, got -1":                          {Then: -1},
		"MaxParked must be between 0 and 1048576, got -1":                  {MaxParked: -1},
		"MaxParkedEvents must be between 0 and 1048576, got 1048577":       {MaxParkedEvents: 1<<20 + 1},
		"Then must be Stop, Skip or Park, got 4611686018427387904":         {Then: 1 << 62},
		"Timeout must be 0 or between 1ms and 24h, got 24h0m0.000000001s":  {Timeout: 24*time.Hour + 1},
		"MaxParked must be between 0 and 1048576, got 9223372036854775807": {MaxParked: 1<<63 - 1},
	} {
		_, err := policyOf(p)
		assert.ErrorContains(t, err, field)
	}
}

func TestDefaultClass(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err  error
		want projection.Class
	}{
		"an error":                    {errBad, projection.ClassError},
		"a violated constraint":       {answer("23505"), projection.ClassError},
		"a panic":                     {&handling.PanicError{Value: "no"}, projection.ClassError},
		"its own deadline":            {context.DeadlineExceeded, projection.ClassError},
		"another system's connection": {io.EOF, projection.ClassError},
		"permanent":                   {fmt.Errorf("handling: %w", projection.Permanent(errBad)), projection.ClassPermanent},
		"a permanent panic":           {&handling.PanicError{Value: projection.Permanent(errBad)}, projection.ClassPermanent},
		"a timeout":                   {fmt.Errorf("%w: %w", &handling.TimeoutError{}, errBad), projection.ClassTimeout},
		"a permanent timeout":         {fmt.Errorf("%w: %w", &handling.TimeoutError{}, projection.Permanent(errBad)), projection.ClassPermanent},
		"a deadlock":                  {answer("40P01"), projection.ClassConflict},
		"a permanent deadlock":        {projection.Permanent(answer("40P01")), projection.ClassConflict},
		"a serialization failure":     {answer("40001"), projection.ClassConflict},
		"a lock":                      {answer("55P03"), projection.ClassConflict},
		"a shutdown":                  {answer("57P01"), projection.ClassDatabase},
		"too many connections":        {answer("53300"), projection.ClassDatabase},
		"a full disk":                 {answer("53100"), projection.ClassDatabase},
		"a statement that cannot be":  {answer("0A000"), projection.ClassError},
		"no connection":               {fmt.Errorf("x: %w", &pgconn.ConnectError{}), projection.ClassDatabase},
		"the worker stops":            {fmt.Errorf("x: %w", handling.StopError("no")), projection.ClassShutdown},
		"nil":                         {nil, projection.ClassError},
	} {
		assert.Equal(t, tt.want, projection.DefaultClass(tt.err), name)
	}
}

func TestMarksKeepTheError(t *testing.T) {
	t.Parallel()
	require.NoError(t, projection.Permanent(nil))
	require.NoError(t, projection.RetryAfter(time.Second, nil))
	for _, err := range []error{projection.Permanent(errBad), projection.RetryAfter(time.Second, errBad), projection.Permanent(projection.RetryAfter(time.Second, errBad))} {
		require.ErrorIs(t, err, errBad)
		assert.Equal(t, errBad.Error(), err.Error())
	}
}

// What counts, what leads to the outcome at once, and what does neither.
func TestDecideByClass(t *testing.T) {
	t.Parallel()
	park := followed(t, projection.ErrorPolicy{Attempts: 2, Then: projection.Park})
	late := fmt.Errorf("%w: %w", &handling.TimeoutError{Limit: time.Second}, context.DeadlineExceeded)
	for name, tt := range map[string]struct {
		err     error
		lost    bool
		verdict handling.Verdict
		first   handling.Outcome // after the first failure
		second  handling.Outcome // after the second
	}{
		"an error":        {errBad, false, handling.EventFailed, handling.Retry, handling.Park},
		"a timeout":       {late, true, handling.EventFailed, handling.Retry, handling.Park},
		"permanent":       {projection.Permanent(errBad), false, handling.EventFailed, handling.Park, handling.Park},
		"a conflict":      {answer("40P01"), false, handling.Conflict, 0, 0},
		"a lost database": {answer("57P01"), false, handling.Database, 0, 0},
		"a lost session":  {projection.Permanent(io.EOF), true, handling.Database, 0, 0},
		"a stop":          {handling.StopError("x"), false, handling.Database, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := handling.Failure{Err: tt.err, Events: 1, Position: 7, Lost: tt.lost}
			s, d := handling.Decide(park, handling.State{}, f)
			assert.Equal(t, tt.verdict, d.Verdict)
			assert.Equal(t, tt.first, d.Outcome)
			_, d = handling.Decide(park, s, f)
			assert.Equal(t, tt.verdict, d.Verdict)
			assert.Equal(t, tt.second, d.Outcome)
			if tt.verdict == handling.EventFailed {
				assert.Zero(t, d.Delay)
				_, d = handling.Decide(park, handling.State{}, handling.Failure{Err: tt.err, Events: 9, Position: 7, Lost: tt.lost, Whole: true})
				assert.Equal(t, handling.Smaller, d.Verdict, "it is not known yet which of the events it is")
			}
		})
	}
	_, d := handling.Decide(followed(t, projection.ErrorPolicy{}), handling.State{}, handling.Failure{Err: projection.Permanent(errBad), Events: 1, Position: 7})
	assert.Equal(t, handling.Retry, d.Outcome, "the zero policy retries whatever it is")
	_, d = handling.Decide(followed(t, projection.ErrorPolicy{Then: projection.Skip}), handling.State{Position: 7, Attempts: 1000}, handling.Failure{Err: errBad, Events: 1, Position: 7})
	assert.Equal(t, handling.Retry, d.Outcome, "no number of attempts leads to it")
}

func TestRetryAfterSetsTheDelay(t *testing.T) {
	t.Parallel()
	p := followed(t, projection.ErrorPolicy{Attempts: 2, Then: projection.Skip})
	delay := func(s handling.State, wish time.Duration, whole bool) (handling.State, time.Duration) {
		s, d := handling.Decide(p, s, handling.Failure{Err: projection.RetryAfter(wish, errBad), Events: map[bool]int{true: 8, false: 1}[whole], Whole: whole, Position: 7})
		return s, d.Delay
	}
	s, d := delay(handling.State{}, time.Hour, false)
	assert.Equal(t, time.Hour, d)
	_, d = delay(s, time.Hour, false)
	assert.Zero(t, d, "it counts like any other attempt")
	_, d = delay(handling.State{}, time.Hour, true)
	assert.Equal(t, time.Hour, d, "a smaller batch waits too")
	_, d = delay(handling.State{}, 1<<62, false)
	assert.Equal(t, 24*time.Hour, d)
	_, d = delay(handling.State{}, -1, false)
	assert.InDelta(t, 0.75, d.Seconds(), 0.251, "the policy's backoff")
}

// Whatever Classify does, the event has an outcome.
func TestClassifyIsContained(t *testing.T) {
	t.Parallel()
	released := make(chan struct{})
	t.Cleanup(func() { close(released) })
	for name, tt := range map[string]struct {
		classify func(error) projection.Class
		want     handling.Verdict
		outcome  handling.Outcome
		says     string
	}{
		"permanent": {func(error) projection.Class { return projection.ClassPermanent }, handling.EventFailed, handling.Stop, ""},
		"conflict":  {func(error) projection.Class { return projection.ClassConflict }, handling.Conflict, 0, ""},
		"database":  {func(error) projection.Class { return projection.ClassDatabase }, handling.Database, 0, ""},
		"panics":    {func(error) projection.Class { panic("oh no") }, handling.EventFailed, handling.Retry, "it panicked: oh no"},
		"exits":     {func(error) projection.Class { runtime.Goexit(); return 0 }, handling.EventFailed, handling.Retry, "it ended its goroutine"},
		"unknown":   {func(error) projection.Class { return 77 }, handling.EventFailed, handling.Retry, "the class 77, which does not exist"},
		"hangs":     {func(error) projection.Class { <-released; return 0 }, handling.EventFailed, handling.Retry, "it did not return within 2s"},
		"negative":  {func(error) projection.Class { return -1 }, handling.EventFailed, handling.Retry, "the class -1, which does not exist"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := followed(t, projection.ErrorPolicy{Classify: tt.classify})
			decided := make(chan handling.Decision, 1)
			go func() {
				_, d := handling.Decide(p, handling.State{}, handling.Failure{Err: errBad, Events: 1, Position: 7})
				decided <- d
			}()
			d := awaiting.Value(t, 30*time.Second, decided, "a decision")
			assert.Equal(t, tt.want, d.Verdict)
			assert.Equal(t, tt.outcome, d.Outcome)
			require.ErrorIs(t, d.Err, errBad)
			assert.ErrorContains(t, d.Err, tt.says)
		})
	}
}

// policied has an error policy.
type policied struct {
	plain
	policy func() projection.ErrorPolicy
}

func (p policied) ErrorPolicy() projection.ErrorPolicy { return p.policy() }

// around is a wrapper with a policy.
type around struct{ unwrapped }

func (around) ErrorPolicy() projection.ErrorPolicy { return projection.ErrorPolicy{Attempts: 3} }

// mistyped has a method with the name of an optional one.
type mistyped struct{ plain }

func (mistyped) ErrorPolicy() (projection.ErrorPolicy, error) { return projection.ErrorPolicy{}, nil }

func TestPolicyOf(t *testing.T) {
	t.Parallel()
	three := policied{policy: func() projection.ErrorPolicy { return projection.ErrorPolicy{Attempts: 3} }}
	for name, tt := range map[string]struct {
		p    projection.Projection
		want int
		ok   bool
	}{
		"none":            {plain{}, 0, false},
		"its own":         {three, 3, true},
		"what it wraps":   {unwrapped{unwrapped{three}}, 3, true},
		"none in a wrap":  {unwrapped{plain{}}, 0, false},
		"the outer one's": {around{unwrapped{policied{policy: func() projection.ErrorPolicy { panic("asked") }}}}, 3, true},
	} {
		d, err := describe(tt.p)
		require.NoError(t, err, name)
		policy, ok, err := handling.PolicyOf[projection.ErrorPolicied](d.Projection)
		require.NoError(t, err, name)
		assert.Equal(t, tt.ok, ok, name)
		assert.Equal(t, tt.want, policy.Attempts, name)
	}
	_, _, err := handling.PolicyOf[projection.ErrorPolicied](policied{policy: func() projection.ErrorPolicy { panic("no") }})
	require.ErrorContains(t, err, "ErrorPolicy panicked: no")
	_, err = describe(mistyped{})
	require.ErrorContains(t, err, "ErrorPolicy of handling_test.mistyped has the signature")
	_, err = describe(logged{three})
	require.ErrorContains(t, err, "hides the method ErrorPolicy")
}

// A call that takes too long fails as a timeout, whatever it returns, and the next event has time of its own.
func TestHandleWithin(t *testing.T) {
	slow := &each{"p", func(ctx context.Context, _ pgx.Tx, e es.PersistedEvent) error {
		if e.GlobalPosition < 5 {
			return ctx.Err()
		}
		<-ctx.Done()
		var late *handling.TimeoutError
		require.ErrorAs(t, context.Cause(ctx), &late, "the cause says so")
		return errBad
	}}
	handled, err := handling.HandleWithin(t.Context(), 20*time.Millisecond, slow, nil, handling.List(eventsAt(3, 5)), nil)
	require.ErrorIs(t, err, errBad)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "longer than the error policy's Timeout of 20ms")
	assert.Equal(t, projection.ClassTimeout, projection.DefaultClass(err))
	assert.Equal(t, 1, handled)

	batch := &whole{batch: func(ctx context.Context, _ pgx.Tx, _ []es.PersistedEvent) error { <-ctx.Done(); return ctx.Err() }}
	handled, err = handling.HandleWithin(t.Context(), time.Millisecond, batch, nil, handling.List(eventsAt(3, 5)), nil)
	assert.Equal(t, projection.ClassTimeout, projection.DefaultClass(err))
	assert.Zero(t, handled)

	quick := &each{"p", func(ctx context.Context, _ pgx.Tx, _ es.PersistedEvent) error { <-ctx.Done(); return nil }}
	handled, err = handling.HandleWithin(t.Context(), time.Millisecond, quick, nil, handling.List(eventsAt(3)), nil)
	require.NoError(t, err, "it is done, though late")
	assert.Equal(t, 1, handled)

	why := errors.New("stopping")
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := &each{"p", func(ctx context.Context, _ pgx.Tx, _ es.PersistedEvent) error {
		cancel(why)
		<-ctx.Done()
		return ctx.Err()
	}}
	_, err = handling.HandleWithin(ctx, time.Hour, stopped, nil, handling.List(eventsAt(3)), nil)
	assert.Equal(t, projection.ClassError, projection.DefaultClass(err), "its caller has ended it")
}

// A handler that hides that its time was over has lost its connection with it.
func TestHandleWithinHidden(t *testing.T) {
	conn, err := pgtest.NewDatabase(t).Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	p := &each{"p", func(ctx context.Context, tx pgx.Tx, _ es.PersistedEvent) error {
		_, _ = tx.Exec(ctx, `SELECT pg_sleep(60)`)
		return nil
	}}
	handled, err := handling.HandleWithin(t.Context(), 20*time.Millisecond, p, batchtx.Guard(tx), handling.List(eventsAt(3)), nil)
	assert.Equal(t, projection.ClassTimeout, projection.DefaultClass(err))
	assert.Zero(t, handled)
}

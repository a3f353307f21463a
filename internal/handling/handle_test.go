package handling_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/packed"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// eventsAt are events at positions.
func eventsAt(positions ...int64) []es.PersistedEvent {
	events := make([]es.PersistedEvent, len(positions))
	for i, position := range positions {
		events[i].GlobalPosition = position
	}
	return events
}

func TestHandleCallsInOrder(t *testing.T) {
	var calls []int64
	p := &each{"p", func(_ context.Context, _ pgx.Tx, e es.PersistedEvent) error {
		calls = append(calls, e.GlobalPosition)
		return nil
	}}
	handled, err := handling.Handle(t.Context(), p, nil, handling.List(eventsAt(3, 5, 8)), func(i int) bool {
		calls = append(calls, int64(-i))
		return true
	})
	require.NoError(t, err)
	assert.Equal(t, 3, handled)
	assert.Equal(t, []int64{0, 3, -1, 5, -2, 8}, calls)
}

func TestHandleNoEvents(t *testing.T) {
	handled, err := handling.Handle(t.Context(), &whole{}, nil, handling.List(nil), nil)
	require.NoError(t, err)
	assert.Zero(t, handled)
}

func TestHandleFailures(t *testing.T) {
	tests := map[string]struct {
		fail  func() error
		check func(t *testing.T, err error)
	}{
		"an error": {
			func() error { return errBad },
			func(t *testing.T, err error) { assert.Equal(t, errBad, err) },
		},
		"a panic": {
			func() error { panic("no such user") },
			func(t *testing.T, err error) {
				var panicked *handling.PanicError
				require.ErrorAs(t, err, &panicked)
				assert.Equal(t, "no such user", panicked.Value)
				assert.Contains(t, string(panicked.Stack), "handle_test.go")
				assert.NotContains(t, err.Error(), "handle_test.go")
			},
		},
		"a panic with an error": {
			func() error { panic(errBad) },
			func(t *testing.T, err error) { assert.ErrorIs(t, err, errBad) },
		},
		"a panic with nil": {
			func() error { panic(nil) },
			func(t *testing.T, err error) {
				var none *runtime.PanicNilError
				assert.ErrorAs(t, err, &none)
			},
		},
		"Goexit": {
			func() error { runtime.Goexit(); return nil },
			func(t *testing.T, err error) { assert.ErrorIs(t, err, handling.ErrHandlerExited) },
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			one := &each{"p", func(_ context.Context, _ pgx.Tx, e es.PersistedEvent) error {
				if e.GlobalPosition == 5 {
					return tt.fail()
				}
				return nil
			}}
			handled, err := handling.Handle(t.Context(), one, nil, handling.List(eventsAt(3, 5, 8)), nil)
			tt.check(t, err)
			assert.Equal(t, 1, handled)

			all := &whole{batch: func(context.Context, pgx.Tx, []es.PersistedEvent) error { return tt.fail() }}
			handled, err = handling.Handle(t.Context(), all, nil, handling.List(eventsAt(3, 5, 8)), nil)
			tt.check(t, err)
			assert.Zero(t, handled)
		})
	}
}

// blind is an error whose methods do not expect a nil pointer.
type blind struct{ cause error }

func (b *blind) Error() string { return "blind: " + b.cause.Error() }
func (b *blind) Unwrap() error { return b.cause }

// looped is an error that wraps itself.
type looped struct{}

func (looped) Error() string   { return "looped" }
func (l looped) Unwrap() error { return l }

// matching is an error whose methods for comparisons panic.
type matching struct{ is, as bool }

func (matching) Error() string { return "matching" }
func (m matching) Is(error) bool {
	if m.is {
		panic("no comparison")
	}
	return false
}

func (m matching) As(any) bool {
	if m.as {
		panic("no conversion")
	}
	return false
}

// hesitant is an error like those of the driver that say whether it is safe to retry.
type hesitant struct{}

func (hesitant) Error() string     { return "hesitant" }
func (hesitant) SafeToRetry() bool { panic("no advice") }

// agreeing is an error that claims to be every other one.
type agreeing struct{}

func (agreeing) Error() string { return "agreeing" }
func (agreeing) Is(error) bool { return true }
func (agreeing) As(any) bool   { return true }

// Whoever decides what follows looks into the error of a handler. That must not panic, whatever the error's methods do.
func TestErrorsWhoseMethodsPanic(t *testing.T) {
	var none *blind
	for name, c := range map[string]struct {
		returned error
		says     string
	}{
		"a nil pointer":          {none, "of type *handling_test.blind, panicked"},
		"a nil pointer, wrapped": {fmt.Errorf("handling: %w", none), "panicked"},
		"a nil pointer, joined":  {errors.Join(errBad, none), "panicked"},
		"Is":                     {matching{is: true}, "panicked: no comparison"},
		"As":                     {matching{as: true}, "panicked: no conversion"},
		"yes to everything":      {agreeing{}, "agreeing (a method Is or As of it says yes"},
		"no answer, wrapped":     {fmt.Errorf("saving: %w", (*pgconn.PgError)(nil)), "saving"},
		"SafeToRetry":            {fmt.Errorf("connecting: %w", hesitant{}), "panicked: no advice"},
	} {
		t.Run(name, func(t *testing.T) {
			assert.NotPanics(t, func() {
				requireFailure(t, func() error { return c.returned }, c.says)
				requireFailure(t, func() error { panic(c.returned) }, c.says)
			})
		})
	}
	for _, fine := range []error{errBad, &blind{errBad}, errors.Join(errBad, &blind{errBad}), matching{}} {
		one := &each{"p", func(context.Context, pgx.Tx, es.PersistedEvent) error { return fine }}
		_, err := handling.Handle(t.Context(), one, nil, handling.List(eventsAt(3)), nil)
		assert.Equal(t, fine, err)
	}
}

// Nor must it go on for ever.
func TestAnErrorThatWrapsItself(t *testing.T) {
	requireFailure(t, func() error { return looped{} }, "of type handling_test.looped that wraps itself")
}

// requireFailure requires that what a handler returns, or panics with, is the failure of its event.
func requireFailure(t *testing.T, fails func() error, says string) {
	t.Helper()
	one := &each{"p", func(context.Context, pgx.Tx, es.PersistedEvent) error { return fails() }}
	handled, err := handling.Handle(t.Context(), one, nil, handling.List(eventsAt(3)), nil)
	require.ErrorContains(t, err, says)
	_, d := handling.Decide(handling.Policy{Attempts: 1, Then: handling.Park}, handling.State{}, handling.Failure{Err: err, Events: 1, Handled: handled, Position: 3})
	assert.Equal(t, handling.Park, d.Outcome)
	kind, frame := handling.Alike(d.Err, one)
	assert.NotEmpty(t, kind)
	assert.NotEmpty(t, frame)

	_, err = handling.HandleWithin(t.Context(), time.Minute, one, nil, handling.List(eventsAt(3)), nil)
	require.ErrorContains(t, err, says)

	all := &whole{batch: func(context.Context, pgx.Tx, []es.PersistedEvent) error { return fails() }}
	_, err = handling.Handle(t.Context(), all, nil, handling.List(eventsAt(3, 5)), nil)
	require.ErrorContains(t, err, says)
}

func TestHandleStopsSoftly(t *testing.T) {
	p := &each{"p", func(context.Context, pgx.Tx, es.PersistedEvent) error { return nil }}
	handled, err := handling.Handle(t.Context(), p, nil, handling.List(eventsAt(3, 5, 8)), func(i int) bool { return i < 2 })
	require.NoError(t, err)
	assert.Equal(t, 2, handled)

	batches := 0
	b := &whole{batch: func(context.Context, pgx.Tx, []es.PersistedEvent) error { batches++; return nil }}
	handled, err = handling.Handle(t.Context(), b, nil, handling.List(eventsAt(3, 5, 8)), func(int) bool { return false })
	require.NoError(t, err)
	assert.Zero(t, handled)
	assert.Zero(t, batches)
}

func TestHandleStopsWithItsContext(t *testing.T) {
	why := errors.New("fenced")
	ctx, cancel := context.WithCancelCause(t.Context())
	p := &each{"p", func(context.Context, pgx.Tx, es.PersistedEvent) error { cancel(why); return nil }}
	handled, err := handling.Handle(ctx, p, nil, handling.List(eventsAt(3, 5)), nil)
	require.ErrorIs(t, err, why)
	assert.Equal(t, 1, handled, "the first event was handled in full")

	handled, err = handling.Handle(ctx, &whole{}, nil, handling.List(eventsAt(3, 5)), nil)
	require.ErrorIs(t, err, why)
	assert.Zero(t, handled)
}

func TestHandleBatch(t *testing.T) {
	var got [][]es.PersistedEvent
	p := &whole{batch: func(_ context.Context, _ pgx.Tx, events []es.PersistedEvent) error {
		got = append(got, events)
		return nil
	}}
	handled, err := handling.Handle(t.Context(), p, nil, handling.List(eventsAt(3, 5)), nil)
	require.NoError(t, err)
	assert.Equal(t, 2, handled)
	assert.Equal(t, [][]es.PersistedEvent{eventsAt(3, 5)}, got)
}

// Handlers that report a success which the transaction contradicts.
func TestHandleDoubtsSuccess(t *testing.T) {
	tests := map[string]struct {
		sql  string
		open bool // leave the result open
		want error
	}{
		"a failed statement":       {`SELECT 1/0`, false, handling.ErrTransactionAborted},
		"a result left open":       {`SELECT generate_series(1, 100000)`, true, handling.ErrResultLeftOpen},
		"a transaction committed":  {`COMMIT`, false, batchtx.ErrOwner},
		"a transaction given up":   {`ROLLBACK`, false, batchtx.ErrOwner},
		"nothing to be doubted of": {`SELECT 1`, false, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			conn, err := pgtest.NewDatabase(t).Acquire(t.Context())
			require.NoError(t, err)
			defer conn.Release()
			tx, err := conn.Begin(t.Context())
			require.NoError(t, err)
			defer func() { _ = tx.Rollback(context.Background()) }()
			var left pgx.Rows
			p := &each{"p", func(ctx context.Context, tx pgx.Tx, _ es.PersistedEvent) error {
				rows, err := tx.Query(ctx, tt.sql) //nolint:rowserrcheck // the handler is careless; that is the test
				if err != nil || tt.open {
					left = rows
					return nil //nolint:nilerr // the handler hides it; that is the test
				}
				rows.Close()
				return nil
			}}
			handled, err := handling.Handle(t.Context(), p, batchtx.Guard(tx), handling.List(eventsAt(3)), nil)
			if left != nil {
				left.Close()
			}
			require.ErrorIs(t, err, tt.want)
			if tt.want != nil {
				assert.Zero(t, handled)
			}
		})
	}
}

func BenchmarkHandle(b *testing.B) {
	p := &each{"p", func(context.Context, pgx.Tx, es.PersistedEvent) error { return nil }}
	events := handling.List(eventsAt(1))
	for b.Loop() {
		_, _ = handling.Handle(b.Context(), p, nil, events, nil)
	}
}

// Packed events are handled as the same events in a list are.
func TestHandlePacked(t *testing.T) {
	events := packed.Pack(eventsAt(3, 5, 8))
	var got []int64
	p := &each{handle: func(_ context.Context, _ pgx.Tx, e es.PersistedEvent) error {
		if e.GlobalPosition == 8 {
			return errBad
		}
		got = append(got, e.GlobalPosition)
		return nil
	}}
	handled, err := handling.Handle(t.Context(), p, nil, events, nil)
	require.ErrorIs(t, err, errBad)
	assert.Equal(t, 2, handled)
	assert.Equal(t, []int64{3, 5}, got)

	var batches [][]es.PersistedEvent
	b := &whole{batch: func(_ context.Context, _ pgx.Tx, events []es.PersistedEvent) error {
		batches = append(batches, events)
		return nil
	}}
	handled, err = handling.Handle(t.Context(), b, nil, events.Slice(1, 3), nil)
	require.NoError(t, err)
	assert.Equal(t, 2, handled)
	assert.Equal(t, [][]es.PersistedEvent{events.All()[1:]}, batches)
	handled, err = handling.Handle(t.Context(), b, nil, packed.Events{}, nil)
	require.NoError(t, err)
	assert.Zero(t, handled)
}

package handling

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
)

// ErrHandlerExited is returned by [Handle] when a handler ended its
// goroutine with [runtime.Goexit], as testing.T.FailNow does.
var ErrHandlerExited = errors.New("the handler ended its goroutine instead of returning")

// ErrTransactionAborted is returned by [Handle] when a handler reported
// success although one of its statements had failed, which makes PostgreSQL
// refuse everything that follows in the transaction. A handler that expects a
// statement to fail wraps it in a savepoint (tx.Begin).
var ErrTransactionAborted = errors.New("the handler returned no error, but a statement of it failed and aborted the transaction")

// ErrResultLeftOpen is returned by [Handle] when a handler returned
// without reading or closing a result (pgx.Rows, pgx.BatchResults), so that the
// connection cannot be used.
var ErrResultLeftOpen = errors.New("the handler returned no error, but left a result of a query open")

// PanicError is a panic of a handler, as an error.
type PanicError struct {
	// Value is what the handler panicked with.
	Value any
	// Stack is the stack of the handler's goroutine at the panic.
	Stack []byte
}

// Error describes the panic without its stack.
func (e *PanicError) Error() string { return fmt.Sprintf("the handler panicked: %v", e.Value) }

// Unwrap is the panic's value if that is an error, else nil.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// Events are the events of a batch, in order: a [List], or packed ones, which are unpacked one by one.
type Events interface {
	Len() int
	At(i int) es.PersistedEvent
	All() []es.PersistedEvent
}

// List is events that need no unpacking.
type List []es.PersistedEvent

// Len is how many events there are.
func (l List) Len() int { return len(l) }

// At is event i.
func (l List) At(i int) es.PersistedEvent { return l[i] }

// All is all events.
func (l List) All() []es.PersistedEvent { return l }

// Handle has p handle the events in order within tx, which is handed on
// as it is (see [batchtx.Guard]). A [BatchHandler] gets them in one call of
// HandleBatch, any other projection one by one.
//
// next, unless nil, is called with i before events[i] is handled, and with 0
// before HandleBatch: for the caller to record progress, and to stop softly by
// returning false. It must not use tx.
//
// It returns how many events were handled without an error. With a nil error
// that is all of them, or fewer if next said stop. With an error, events[handled] is
// the event that failed (with HandleBatch, handled is 0 and any event may be the
// culprit), and tx must be rolled back: it holds what came before the failure too.
// The error is
//   - what the handler returned, unchanged;
//   - a [*PanicError] if it panicked, or if a method of the error that it returned does;
//   - [ErrHandlerExited] if it ended its goroutine;
//   - [ErrTransactionAborted] or [ErrResultLeftOpen] if it reported a success that
//     the transaction contradicts;
//   - wrapping [batchtx.ErrOwner] if it ended the transaction by SQL, after which
//     whatever the transaction held has been committed or lost;
//   - the cause of ctx, if ctx ended before events[handled] was begun.
//
// Handlers run on a goroutine of their own, one for the call, so that Goexit
// ends only that one; Handle returns when it has ended, however long a
// handler takes after ctx has ended.
func Handle(ctx context.Context, p Projection, tx pgx.Tx, events Events, next func(i int) bool) (handled int, err error) {
	return HandleWithin(ctx, 0, p, tx, events, next)
}

// HandleWithin is [Handle] where the context of each call of the handler ends after limit, with a [*TimeoutError] as its cause, unless limit is
// 0. The error of such a call wraps that.
func HandleWithin(ctx context.Context, limit time.Duration, p Projection, tx pgx.Tx, events Events, next func(i int) bool) (handled int, err error) {
	if events.Len() == 0 {
		return 0, nil
	}
	if next == nil {
		next = func(int) bool { return true }
	}
	r := run{projection: p, limit: limit, tx: tx, events: events, next: next}
	r.own, _ = tx.(verifier)
	if tx != nil && tx.Conn() != nil {
		r.conn = tx.Conn().PgConn()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.guarded(ctx)
	}()
	<-done
	return r.handled, r.err
}

// run is one call of Handle. The caller reads it after its goroutine has ended.
type run struct {
	projection Projection
	limit      time.Duration // of a call; 0 for none
	tx         pgx.Tx
	events     Events
	next       func(i int) bool
	own        verifier       // tx, if it is a batch's
	conn       *pgconn.PgConn // tx's; nil if it has none

	handled int
	err     error
}

// guarded handles the events and turns a panic or Goexit into r.err.
func (r *run) guarded(ctx context.Context) {
	returned := false
	defer func() {
		if returned {
			return
		}
		if value := recover(); value != nil {
			stack := debug.Stack()
			if err, is := value.(error); is {
				value = sound(err)
			}
			r.err = &PanicError{Value: value, Stack: stack}
			return
		}
		r.err = ErrHandlerExited
	}()
	if b, ok := r.projection.(BatchHandler); ok {
		r.err = r.whole(ctx, b)
	} else {
		r.err = r.oneByOne(ctx)
	}
	returned = true
}

// whole hands all events to HandleBatch.
func (r *run) whole(ctx context.Context, b BatchHandler) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if !r.next(0) {
		return nil
	}
	call, end := r.limited(ctx)
	defer end()
	if err := r.overTime(call, r.verdict(ctx, sound(b.HandleBatch(call, r.tx, r.events.All())))); err != nil {
		return err
	}
	r.handled = r.events.Len()
	return nil
}

// oneByOne hands each event to Handle.
func (r *run) oneByOne(ctx context.Context) error {
	for i := range r.events.Len() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !r.next(i) {
			return nil
		}
		if err := r.one(ctx, i); err != nil {
			return err
		}
		r.handled = i + 1
	}
	return nil
}

// one hands event i to Handle.
func (r *run) one(ctx context.Context, i int) error {
	if r.limit <= 0 {
		return r.verdict(ctx, sound(r.projection.Handle(ctx, r.tx, r.events.At(i))))
	}
	call, end := r.limited(ctx)
	defer end()
	return r.overTime(call, r.verdict(ctx, sound(r.projection.Handle(call, r.tx, r.events.At(i)))))
}

// Transaction states as the server reports them after each statement.
const (
	txIdle    = 'I'
	txAborted = 'E'
)

// verifier is a batch's transaction, which says whether a handler has ended it.
type verifier interface {
	Verify(ctx context.Context) error
}

// verdict is the outcome of a handler that returned err: a success is doubted
// if tx does not look as a transaction does between two statements. A tx
// without a connection (a test double) is not looked at.
func (r *run) verdict(ctx context.Context, err error) error {
	conn := r.conn
	switch {
	case conn == nil:
		return err
	case conn.TxStatus() == txIdle:
		return errors.Join(err, fmt.Errorf("%w, but the handler ended it by SQL", batchtx.ErrOwner))
	case err != nil:
		return err
	case conn.IsBusy():
		return ErrResultLeftOpen
	case conn.TxStatus() == txAborted:
		return ErrTransactionAborted
	}
	if r.own != nil {
		return r.own.Verify(ctx)
	}
	return nil
}

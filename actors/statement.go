package actors

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/eventread"
)

// statement is one of the window's reads that is under way: in SQL several statements, where it goes over many positions. What is below
// ended is its goroutine's until then.
type statement struct {
	after, upTo int64      // the positions that it is to read
	bounded     bool       // it is expected to reach upTo
	before      *statement // the one that reads up to after; nil if it has ended
	cancel      context.CancelFunc
	giveBack    func() // of the spare connection, if it is sent ahead on one; may be called again

	ended   chan struct{} // closed at its end
	reached int64         // the position up to which it has handed on all
	events  int
	bytes   int64
	err     error
}

// run reads, and then hands on the end: after that of the statement before, also
// where it failed before its query was sent.
func (s *statement) run(read func() error, send func(*windowEnded)) {
	s.err = read()
	if s.before != nil {
		<-s.before.ended
		s.before = nil // or each would keep all before it
	}
	send(&windowEnded{statement: s})
	close(s.ended) // the next one's chunks come after
}

// batchesToSpare is for how many batches a pool must have room at least, so that one of their connections is used for reading
// while none needs it.
const batchesToSpare = 4

// spareConnection takes a connection from the batches if there are enough and one
// is free, until the function is called that it returns.
func (w *worker) spareConnection() (giveBack func(), ok bool) {
	if w.batches.AtOnce() < batchesToSpare {
		return nil, false
	}
	return w.batches.Try()
}

// errOutOfTurn says that the statement before did not reach the position at which one begins.
var errOutOfTurn = errors.New("the statement before has ended elsewhere")

// inTurn begins a query at once, and returns its rows when the statement before has ended. Until then the server
// sends what the connection has room for. It is for the queries of one statement.
type inTurn struct {
	eventread.DB
	own *statement
}

// Query returns errOutOfTurn if the statement before has ended elsewhere.
func (d inTurn) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	rows, err := d.DB.Query(ctx, sql, args...) //nolint:rowserrcheck // the caller checks it
	<-d.own.before.ended
	if d.own.before.reached == d.own.after {
		d.own.giveBack() // the statement before has left its connection
		return rows, err
	}
	if err == nil {
		d.own.cancel() // closing would fetch the rest
		rows.Close()
	}
	return nil, errOutOfTurn
}

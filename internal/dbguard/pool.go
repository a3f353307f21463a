package dbguard

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
)

// Pool is an application's pool. Statements run on it as they do on the pool itself, except that
//
//   - a connection is closed, and not used again, when a statement finds out that its server is a standby, or that its role lacks a right;
//   - a statement that is not answered in time fails with [ErrNoAnswer], and the connections that rest in the pool are tried: see
//     [Pool.Suspect];
//   - a connection whose settings would change what is read is refused: see [CheckConn].
//
// The time is for the whole statement, and for a query for its first row and between two rows. What the caller does between two rows
// does not count.
type Pool struct {
	pool  *pgxpool.Pool
	watch *watch
}

// New returns the pool as the library uses it. A statement must be answered within 5s.
func New(pool *pgxpool.Pool) Pool { return NewPatient(pool, 0) }

// NewPatient returns the pool as the library uses it. A statement must be answered within patience; 0 means 5s.
func NewPatient(pool *pgxpool.Pool, patience time.Duration) Pool {
	if patience <= 0 {
		patience = defaultPatience
	}
	return Pool{pool: pool, watch: &watch{pool: pool, shortest: patience}}
}

// Unguarded returns the application's pool itself.
func (p Pool) Unguarded() *pgxpool.Pool { return p.pool }

// Config returns a copy of the pool's configuration.
func (p Pool) Config() *pgxpool.Config { return p.pool.Config() }

// Acquire takes a connection from the pool. It must go back with [Release]. A connection that has rested is tried first, as the
// pool is configured; one that does not answer in time is closed. So is one with unfit settings, which whoever had it before may have left behind:
// its error is returned only if the connections that the pool opens have them too.
func (p Pool) Acquire(ctx context.Context) (*pgxpool.Conn, error) {
	for others := p.pool.Stat().TotalConns(); ; others-- {
		conn, err := p.acquire(ctx)
		if err != nil {
			return nil, err
		}
		if err = CheckConn(conn.Conn()); err == nil {
			return conn, nil
		}
		if drop(conn); others <= 0 {
			return nil, err
		}
	}
}

// acquire takes a connection from the pool, whatever its settings are.
func (p Pool) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	for {
		patience := p.watch.patience()
		limited, cancel := context.WithTimeout(ctx, patience)
		conn, err := p.pool.Acquire(limited)
		late := limited.Err() != nil
		cancel()
		switch {
		case err == nil:
			p.watch.mark(conn)
			return conn, nil
		case !late || ctx.Err() != nil:
			return nil, err
		}
		p.Suspect() // all are in use, or one that had rested did not answer
	}
}

// Release returns the connection to its pool. err is what the caller's last statement returned: if it shows that the server is of
// no use, the connection is closed. Where a connection was lost, the others of its [Pool] are tried.
func Release(conn *pgxpool.Conn, err error) {
	lost := conn.Conn().IsClosed()
	if lost || Unfit(err) {
		w := watchOf(conn)
		drop(conn)
		if w != nil && lost {
			w.suspect()
		}
		return
	}
	conn.Release()
}

// Unfit says whether err shows that the connection is of no use: its server is a standby, or it has a timeout that is too short, or a role that may not do what the
// library needs, which whoever had it before may have left behind.
func Unfit(err error) bool {
	return dbfault.IsCutShort(err) || IsStandby(err) || IsBeginOnStandby(err) || HidesRows(err) || Raised(err, roleParameter) || dbfault.Code(err) == insufficientPrivilege
}

// IsBeginOnStandby says whether err is a standby's answer to BEGIN READ WRITE, which is 0A000 (feature not supported). That is no answer to
// any other statement of the library.
func IsBeginOnStandby(err error) bool { return dbfault.Code(err) == "0A000" }

// closeTimeout bounds the farewell to a server whose connection is closed.
const closeTimeout = time.Second

// drop takes the connection out of its pool and closes it. The pool itself would keep its place taken until the server has
// answered, for up to 15s.
func drop(conn *pgxpool.Conn) {
	w := watchOf(conn)
	hijacked := conn.Hijack()
	if w != nil {
		if before := w.pool.Config().BeforeClose; before != nil {
			before(hijacked)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = hijacked.Close(ctx)
}

// Limit returns the context of a statement that must be answered in time, and a function that makes its error say so, as the
// statements of the Pool do.
func (p Pool) Limit(ctx context.Context) (limited context.Context, explain func(error) error, cancel context.CancelFunc) {
	return p.LimitTo(ctx, p.Patience())
}

// Patience is how long the server has to answer now.
func (p Pool) Patience() time.Duration { return p.watch.patience() }

// LimitTo is Limit with another patience, for what may wait longer.
func (p Pool) LimitTo(ctx context.Context, patience time.Duration) (limited context.Context, explain func(error) error, cancel context.CancelFunc) {
	limited, cancel = context.WithTimeout(ctx, patience)
	return limited, func(err error) error {
		if err == nil || limited.Err() == nil || ctx.Err() != nil {
			return err
		}
		p.watch.late()
		return fmt.Errorf("%w within %s: %w", ErrNoAnswer, patience, err)
	}, cancel
}

// Exec executes a statement.
func (p Pool) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	conn, err := p.Acquire(ctx)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	ctx, explain, cancel := p.Limit(ctx)
	defer cancel()
	tag, err := conn.Exec(ctx, sql, args...)
	err = explain(err)
	Release(conn, err)
	return tag, err
}

// Query executes a query. The connection is held until the rows are closed.
func (p Pool) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	conn, err := p.Acquire(ctx)
	if err != nil {
		return failedRows{err: err}, err
	}
	ctx, timer := p.watch.time(ctx)
	found, err := conn.Query(ctx, sql, args...) //nolint:rowserrcheck // whoever reads the rows checks it
	timer.answered()
	if err != nil {
		timer.stop()
		err = timer.explain(err)
		Release(conn, err)
		return failedRows{err: err}, err
	}
	return &rows{Rows: found, timer: timer, done: func(err error) error {
		Release(conn, err)
		return nil
	}}, nil
}

// QueryRow executes a query that returns one row.
func (p Pool) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	found, err := p.Query(ctx, sql, args...) //nolint:rowserrcheck // Scan checks it
	return row{rows: found, err: err}
}

// SendBatch sends the batch. The connection is held until the results are closed.
func (p Pool) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	conn, err := p.Acquire(ctx)
	if err != nil {
		return pgx.FailedBatchResults(b, err)
	}
	limited, explain, cancel := p.Limit(ctx)
	return &results{BatchResults: conn.SendBatch(limited, b), conn: conn, explain: explain, cancel: cancel}
}

// BeginTx begins a transaction. The connection is held until it ends. BEGIN and COMMIT must be answered in time; the
// statements between have the time that their contexts leave them.
func (p Pool) BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error) {
	conn, err := p.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	limited, explain, cancel := p.Limit(ctx)
	defer cancel()
	begun, err := conn.BeginTx(limited, options)
	if err != nil {
		err = explain(err)
		Release(conn, err)
		return nil, err
	}
	return &tx{Tx: begun, pool: p, conn: conn}, nil
}

package pgcoord

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/pooler"
)

// What a pooler between the worker and the database may not give.
var (
	// ErrNoSession says that connections are not sessions: a pooler hands each
	// transaction to another backend, so locks and LISTEN do not last.
	ErrNoSession = pooler.ErrNoSession

	// ErrNoPreparedStatements says that a statement that was prepared on a connection is
	// not there when it is to be executed: another backend does that.
	ErrNoPreparedStatements = pooler.ErrNoPreparedStatements

	// ErrNoTransactions says that each statement goes to another backend.
	ErrNoTransactions = pooler.ErrNoTransactions

	// ErrNoStartupParameters says that a pooler refuses a parameter that connections set as
	// they start.
	ErrNoStartupParameters = pooler.ErrNoStartupParameters
)

// Connect opens a connection of its own.
type Connect = pooler.Connect

// CheckPooler returns an error wrapping ErrNoTransactions, ErrNoPreparedStatements or
// ErrNoStartupParameters if the pool reaches the database through a pooler that a worker cannot work with
// at all, and one wrapping ErrNoSession if the connections that session opens are
// not sessions. session is nil for a worker that needs none.
func CheckPooler(ctx context.Context, pool *pgxpool.Pool, session Connect) error {
	return pooler.Check(ctx, pool, session)
}

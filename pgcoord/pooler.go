package pgcoord

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/pooler"
)

// What a pooler between the worker and the database may not give.
var (
	// ErrNoSession means that connections are not sessions. A pooler gives each transaction another backend, so locks
	// and LISTEN do not last.
	ErrNoSession = pooler.ErrNoSession

	// ErrNoPreparedStatements means that a statement that was prepared on a connection does not exist when it is
	// executed, because another backend executes it.
	ErrNoPreparedStatements = pooler.ErrNoPreparedStatements

	// ErrNoTransactions means that each statement goes to another backend.
	ErrNoTransactions = pooler.ErrNoTransactions

	// ErrNoStartupParameters means that a pooler refuses a parameter that connections set when they start.
	ErrNoStartupParameters = pooler.ErrNoStartupParameters
)

// Connect opens a new connection outside the pool.
type Connect = pooler.Connect

// CheckPooler checks whether a pooler in front of the database lacks what a worker needs. It returns an error that wraps
// ErrNoTransactions, ErrNoPreparedStatements or ErrNoStartupParameters if a worker cannot work with the pooler at all.
// It returns one that wraps ErrNoSession if the connections that session opens are not sessions. session is nil for a
// worker that needs none.
func CheckPooler(ctx context.Context, pool *pgxpool.Pool, session Connect) error {
	return pooler.Check(ctx, pool, session)
}

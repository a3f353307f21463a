package workload

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Target is a database that all processes of a run connect to.
type Target struct {
	// DSN names the server, and a database of it, as pgx reads it.
	DSN string
	// Database is the database to use instead of the one in DSN. Empty means that one.
	Database string
}

// Pool opens a pool of at most maxConns connections; the caller closes it. It does not connect yet.
func (t Target) Pool(ctx context.Context, maxConns int) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(t.DSN)
	if err != nil {
		return nil, fmt.Errorf("reading the database's address: %w", err)
	}
	if t.Database != "" {
		config.ConnConfig.Database = t.Database
	}
	config.MaxConns = int32(maxConns)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("opening a pool: %w", err)
	}
	return pool, nil
}

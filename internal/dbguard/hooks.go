package dbguard

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// RunHooks runs the pool's hooks on a new connection that is none of the pool's, so that it has the same role and settings as one that the
// pool hands out: AfterConnect, and then PrepareConn or BeforeAcquire.
func RunHooks(ctx context.Context, pool *pgxpool.Config, conn *pgx.Conn) error {
	if pool.AfterConnect != nil {
		if err := pool.AfterConnect(ctx, conn); err != nil {
			return fmt.Errorf("running the pool's AfterConnect: %w", err)
		}
	}
	prepare := pool.PrepareConn
	if prepare == nil && pool.BeforeAcquire != nil { //nolint:staticcheck // pools still have it
		prepare = func(ctx context.Context, conn *pgx.Conn) (bool, error) { return pool.BeforeAcquire(ctx, conn), nil } //nolint:staticcheck // as above
	}
	if prepare == nil {
		return nil
	}
	usable, err := prepare(ctx, conn)
	if err == nil && !usable {
		err = errors.New("it refused the connection")
	}
	if err != nil {
		return fmt.Errorf("running the pool's PrepareConn: %w", err)
	}
	return nil
}

// Open opens a connection as the pool does, and runs its hooks on it. Nobody has had it before, unless a pooler gave somebody its session. The caller
// closes it.
func Open(ctx context.Context, pool *pgxpool.Pool) (*pgx.Conn, error) {
	config := pool.Config()
	if config.BeforeConnect != nil {
		if err := config.BeforeConnect(ctx, config.ConnConfig); err != nil {
			return nil, fmt.Errorf("running the pool's BeforeConnect: %w", err)
		}
	}
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return nil, err
	}
	if err := RunHooks(ctx, config, conn); err != nil {
		return nil, errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
	}
	return conn, nil
}

// PoolOf returns the application's pool, if db is one, or knows its own.
func PoolOf(db any) (*pgxpool.Pool, bool) {
	switch db := db.(type) {
	case *pgxpool.Pool:
		return db, true
	case interface{ Unguarded() *pgxpool.Pool }:
		return db.Unguarded(), true
	}
	return nil, false
}

// HasHooks says whether the pool's hooks may change a connection's settings.
func HasHooks(pool *pgxpool.Config) bool {
	return pool.AfterConnect != nil || pool.PrepareConn != nil || pool.BeforeAcquire != nil //nolint:staticcheck // pools still have it
}

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

// HasHooks says whether the pool's hooks may change a connection's settings.
func HasHooks(pool *pgxpool.Config) bool {
	return pool.AfterConnect != nil || pool.PrepareConn != nil || pool.BeforeAcquire != nil //nolint:staticcheck // pools still have it
}

package pgtest

import (
	"context"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
)

// spare holds connections to the shared server that create and drop databases. To connect costs about as much as to create a database.
var spare struct {
	sync.Mutex
	conns []*pgx.Conn
}

// connect opens one connection; the caller closes it.
func connect(ctx context.Context, dsn string) (*pgx.Conn, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil, fmt.Errorf("connecting to the test server: %w", err)
	}
	return conn, nil
}

// takeConn returns a connection, which [giveBack] takes. That to the shared server may be one that was used before.
func takeConn(ctx context.Context, dsn string) (*pgx.Conn, error) {
	if dsn == shared.dsn {
		spare.Lock()
		defer spare.Unlock()
		for n := len(spare.conns); n > 0; n = len(spare.conns) {
			conn := spare.conns[n-1]
			spare.conns = spare.conns[:n-1]
			if conn.Ping(ctx) == nil {
				return conn, nil
			}
			_ = conn.Close(context.WithoutCancel(ctx))
		}
	}
	return connect(ctx, dsn)
}

// giveBack keeps the connection to the shared server for the next caller, and closes one to another server.
func giveBack(ctx context.Context, dsn string, conn *pgx.Conn) {
	if dsn != shared.dsn || conn.IsClosed() {
		_ = conn.Close(context.WithoutCancel(ctx))
		return
	}
	spare.Lock()
	defer spare.Unlock()
	spare.conns = append(spare.conns, conn)
}

// closeSpare closes the connections that are left when all tests have ended.
func closeSpare() {
	spare.Lock()
	defer spare.Unlock()
	for _, conn := range spare.conns {
		_ = conn.Close(context.Background())
	}
	spare.conns = nil
}

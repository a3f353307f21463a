package pgtest

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
)

// ForExample creates an empty database for an Example function and returns a pool to it. The caller calls end at last. It panics where a
// test would fail. It needs [Main].
func ForExample() (pool *pgxpool.Pool, end func()) {
	must := func(err error) {
		if err != nil {
			panic(fmt.Sprintf("pgtest: %v", err))
		}
	}
	ctx := context.Background()
	server, err := sharedServer()
	must(err)
	name := newName()
	dsn, err := createDatabase(ctx, server, name, emptyTemplate)
	must(err)
	pool, err = pgxpool.New(ctx, dsn)
	must(err)
	return pool, func() {
		pool.Close()
		must(dropDatabase(ctx, server, name))
	}
}

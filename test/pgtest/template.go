package pgtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// emptyTemplate is the database that others are copied from unless they begin with contents. Nobody can be connected to it, so a
// copy never has to wait for, or fail because of, somebody's session.
const emptyTemplate = "template0"

// templates are the databases that [NewDatabaseFrom] copies.
var templates struct {
	sync.Mutex
	names map[string]string // by contents
}

// NewDatabaseFrom is [NewDatabase] with contents that several tests begin with. fill makes them in the first database that a test binary
// asks for by this name. It is copied, which takes a fraction of the time.
func NewDatabaseFrom(t testing.TB, contents string, fill func(*pgxpool.Pool) error) *pgxpool.Pool {
	t.Helper()
	template, err := templateOf(t.Context(), serverDSN(t), contents, fill)
	if err != nil {
		t.Fatalf("pgtest: making the database of %s that others are copied from: %v", contents, err)
	}
	return newPool(t, newDSN(t, template))
}

// templateOf returns the name of the database with these contents, and makes it if there is none.
func templateOf(ctx context.Context, server, contents string, fill func(*pgxpool.Pool) error) (string, error) {
	templates.Lock()
	defer templates.Unlock()
	if name, ok := templates.names[contents]; ok {
		return name, nil
	}
	name := newName()
	dsn, err := createDatabase(ctx, server, name, emptyTemplate)
	if err != nil {
		return "", err
	}
	if err := fillTemplate(ctx, server, dsn, name, fill); err != nil {
		return "", errors.Join(err, dropDatabase(context.WithoutCancel(ctx), server, name))
	}
	if templates.names == nil {
		templates.names = make(map[string]string)
	}
	templates.names[contents] = name
	return name, nil
}

// fillTemplate makes the contents, and then lets nobody connect to the database.
func fillTemplate(ctx context.Context, server, dsn, name string, fill func(*pgxpool.Pool) error) error {
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return err
	}
	err = fill(pool)
	pool.Close()
	if err != nil {
		return err
	}
	conn, err := takeConn(ctx, server)
	if err != nil {
		return err
	}
	defer giveBack(ctx, server, conn)
	_, err = conn.Exec(ctx, "ALTER DATABASE "+pgx.Identifier{name}.Sanitize()+" ALLOW_CONNECTIONS false")
	return err
}

// dropTemplates drops what templateOf made on a server that stays.
func dropTemplates(ctx context.Context) (err error) {
	for contents, name := range templates.names {
		if failed := dropDatabase(ctx, shared.dsn, name); failed != nil {
			err = errors.Join(err, fmt.Errorf("dropping the database of %s: %w", contents, failed))
		}
	}
	return err
}

package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const objectInUse = "55006" // SQLSTATE

// newName returns a name for a database that no other test has.
func newName() string {
	return "pgtest_" + strings.ToLower(rand.Text()[:16])
}

// createDatabase creates a copy of the database template on the server that dsn connects to and returns its connection string.
func createDatabase(ctx context.Context, dsn, name, template string) (string, error) {
	target, err := withDatabase(dsn, name)
	if err != nil {
		return "", err
	}
	conn, err := takeConn(ctx, dsn)
	if err != nil {
		return "", err
	}
	defer giveBack(ctx, dsn, conn)
	create := "CREATE DATABASE " + pgx.Identifier{name}.Sanitize() + " TEMPLATE " + pgx.Identifier{template}.Sanitize()
	if choosesStrategy(conn) {
		create += " STRATEGY FILE_COPY"
	}
	if _, err := conn.Exec(ctx, create); err != nil {
		return "", fmt.Errorf("creating the database %s: %w", name, err)
	}
	return target, nil
}

// choosesStrategy says whether the server has another way to create a database than to copy the files, which is the quickest without
// fsync. PostgreSQL 14 has not.
func choosesStrategy(conn *pgx.Conn) bool {
	major, _, _ := strings.Cut(conn.PgConn().ParameterStatus("server_version"), ".")
	n, err := strconv.Atoi(major)
	return err == nil && n >= 15
}

// dropDatabase drops the database with the sessions and the prepared transactions that are left in it.
func dropDatabase(ctx context.Context, dsn, name string) error {
	conn, err := takeConn(ctx, dsn)
	if err != nil {
		return err
	}
	defer giveBack(ctx, dsn, conn)
	drop := "DROP DATABASE IF EXISTS " + pgx.Identifier{name}.Sanitize() + " WITH (FORCE)"
	_, err = conn.Exec(ctx, drop)
	if failure, ok := errors.AsType[*pgconn.PgError](err); ok && failure.Code == objectInUse {
		if err = rollbackPrepared(ctx, dsn, name); err == nil {
			_, err = conn.Exec(ctx, drop)
		}
	}
	if err != nil {
		return fmt.Errorf("dropping the database %s: %w", name, err)
	}
	return nil
}

// rollbackPrepared rolls back all prepared transactions of a database.
func rollbackPrepared(ctx context.Context, dsn, database string) error {
	target, err := withDatabase(dsn, database)
	if err != nil {
		return err
	}
	conn, err := connect(ctx, target)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, "SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts WHERE database = current_database()")
	if err != nil {
		return fmt.Errorf("listing the prepared transactions of %s: %w", database, err)
	}
	statements, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("listing the prepared transactions of %s: %w", database, err)
	}
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("rolling back a prepared transaction of %s: %w", database, err)
		}
	}
	return nil
}

// withDatabase returns dsn, which is a URL or a list of keywords and values, with another database.
func withDatabase(dsn, database string) (string, error) {
	if !strings.HasPrefix(dsn, "postgres://") && !strings.HasPrefix(dsn, "postgresql://") {
		return dsn + " dbname=" + database, nil // of several values the last counts
	}
	parsed, err := url.Parse(dsn)
	if err != nil {
		return "", fmt.Errorf("reading the test server's address: %w", err)
	}
	parsed.Path = "/" + database
	return parsed.String(), nil
}

package migrate

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbrights"
)

// ErrPlace says that it is not clear in which schema the tables are. The text around it says why.
var ErrPlace = errors.New("the tables' schema is not clear")

// errNoSchema is returned where there is no schema to look into.
var errNoSchema = fmt.Errorf("%w: no schema in the connection's search_path exists: give one", ErrPlace)

// errSharedPath says that nobody knows which search_path is meant.
var errSharedPath = fmt.Errorf("%w: the session's search_path is not the one that it began with, since a pooler gave the session to somebody else before: give the schema", ErrPlace)

// placeSQL looks for a schema without a configured one: that of the version table $1, of the table $2, and the one that new tables
// go to. A temporary table counts as such, since every session has its own. The last columns say whether the search_path, or the role that "$user"
// in it stands for, was set in the session. A standby makes it fail.
const placeSQL = `
SELECT v.schema, h.schema, pg_catalog.current_schema()::text, coalesce(v.temporary, h.temporary, false),
	(SELECT setting <> reset_val FROM pg_catalog.pg_settings WHERE name = 'search_path'), current_user <> session_user
FROM (SELECT pg_catalog.to_regclass($1::text)::oid AS versions, pg_catalog.to_regclass($2::text)::oid AS home) AS names
LEFT JOIN LATERAL (
	SELECT n.nspname::text AS schema, c.relpersistence = 't' AS temporary
	FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = names.versions) AS v ON true
LEFT JOIN LATERAL (
	SELECT n.nspname::text AS schema, c.relpersistence = 't' AS temporary
	FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = names.home) AS h ON true
WHERE ` + dbguard.Primary

// place is the schema in which everything is.
type place struct {
	schema  string
	created bool // there is a version table
	afresh  bool // it was found on a new connection
}

// locate finds the place. All tables are in one schema: the configured one; or else that of the version table, wherever in the
// search_path it is; or else that of a table which was there before; or else the one that new tables go to. So a schema that
// appears in front of it in the search_path changes nothing. Where somebody has left another search_path, or another role, on a connection of a pool,
// it looks on a new connection.
func (r *Runner) locate(ctx context.Context, db Querier) (place, error) {
	if r.schema != "" {
		created, err := exists(ctx, db, tableExistsSQL, Qualify(r.schema, r.versionTable))
		return place{schema: r.schema, created: created}, err
	}
	var versions, home, current *string
	var temporary, path, role bool
	err := db.QueryRow(ctx, placeSQL, oneTrip, pgx.Identifier{r.versionTable}.Sanitize(), r.homeName()).Scan(&versions, &home, &current, &temporary, &path, &role)
	pool, pooled := dbguard.PoolOf(db)
	_, fresh := db.(freshConn)
	switch {
	case err != nil:
		return place{}, fmt.Errorf("looking for the tables' schema: %w", err)
	case pooled && (path || role):
		return r.locateAfresh(ctx, pool)
	case fresh && path:
		return place{}, errSharedPath
	case temporary:
		return place{}, fmt.Errorf("%w: a temporary table has the name of one of them", ErrPlace)
	case versions != nil:
		return place{schema: *versions, created: true}, nil
	}
	// A table in a schema that the role may not use looks as if it were not there.
	if err := dbrights.Check(ctx, db, []dbrights.Need{dbrights.On(pgx.Identifier{r.versionTable}, "SELECT")}); err != nil {
		return place{}, fmt.Errorf("looking for the version table %s: %w", pgx.Identifier{r.versionTable}.Sanitize(), err)
	}
	switch {
	case home != nil:
		return place{schema: *home}, nil
	case current != nil:
		return place{schema: *current}, nil
	}
	return place{}, errNoSchema
}

// freshConn is a new connection of a pool without hooks, so its search_path is the one that it began with.
type freshConn struct{ *pgx.Conn }

// pooledTx is a transaction on a connection of a pool.
type pooledTx struct {
	pgx.Tx
	pool *pgxpool.Pool
}

// Unguarded returns the pool.
func (t pooledTx) Unguarded() *pgxpool.Pool { return t.pool }

// locateAfresh finds the place on a new connection, opened as the pool opens one.
func (r *Runner) locateAfresh(ctx context.Context, pool *pgxpool.Pool) (p place, err error) {
	conn, err := dbguard.Open(ctx, pool)
	if err != nil {
		return place{}, fmt.Errorf("looking for the tables' schema: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if dbguard.HasHooks(pool.Config()) {
		p, err = r.locate(ctx, conn)
	} else {
		p, err = r.locate(ctx, freshConn{conn})
	}
	p.afresh = true
	return p, err
}

// homeName is the name of the table that may have been there before, or one that no table has.
func (r *Runner) homeName() string {
	if r.home == "" {
		return pgx.Identifier{r.versionTable}.Sanitize()
	}
	return pgx.Identifier{r.home}.Sanitize()
}

// elsewhereSQL is the schema, other than $2, in which the search_path leads to the table $1.
const elsewhereSQL = `
SELECT coalesce((SELECT n.nspname::text FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
	WHERE c.oid = pg_catalog.to_regclass($1::text) AND n.nspname <> $2::text), '')`

// checkPath makes sure that the search_path leads to none of the tables in another schema, for a program that does not name the schema in
// its statements.
func (r *Runner) checkPath(ctx context.Context, db Querier, p place) error {
	if r.schema != "" || !r.byPath || p.afresh {
		return nil
	}
	for _, t := range r.tables {
		var other string
		if err := db.QueryRow(ctx, elsewhereSQL, oneTrip, pgx.Identifier{t.Name}.Sanitize(), p.schema).Scan(&other); err != nil {
			return fmt.Errorf("looking for %s: %w", t.Name, err)
		}
		if other != "" {
			return fmt.Errorf("%w: the tables are in the schema %q, and the connection's search_path leads to %q in the schema %q: give the schema",
				ErrPlace, p.schema, t.Name, other)
		}
	}
	return nil
}

// enter makes the place the only one that names without a schema lead to, until the transaction ends.
func enter(ctx context.Context, tx pgx.Tx, p place) error {
	path := pgx.Identifier{p.schema}.Sanitize() + ", pg_temp"
	if _, err := tx.Exec(ctx, `SELECT pg_catalog.set_config('search_path', $1::text, true)`, oneTrip, path); err != nil {
		return fmt.Errorf("setting the search_path: %w", err)
	}
	return nil
}

package eventstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbrights"
)

// resolveSQL finds the schemas of the tables named $1, in their order, ” for one that is not there. It looks where the session's
// search_path leads, except among temporary tables. The next columns say whether the search_path, or the role that "$user" in it
// stands for, was set in the session.
const resolveSQL = `
SELECT ARRAY(
	SELECT coalesce((
		SELECT n.nspname::text
		FROM unnest(pg_catalog.current_schemas(false)) WITH ORDINALITY AS path (name, place)
		JOIN pg_catalog.pg_namespace n ON n.nspname = path.name
		JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid
		WHERE c.relname = wanted.name AND c.relpersistence <> 't'
		ORDER BY path.place LIMIT 1), '')
	FROM unnest($1::text[]) WITH ORDINALITY AS wanted (name, place) ORDER BY wanted.place),
	(SELECT setting <> reset_val FROM pg_catalog.pg_settings WHERE name = 'search_path'), current_user <> session_user`

// schemas are those in which Resolve has found the tables; empty before.
type schemas struct{ events, heads, checkpoints string }

// errSharedPath says that nobody knows which search_path is meant.
var errSharedPath = errors.New("the session's search_path is not the one that it began with, since a pooler gave the session to somebody else before: " +
	"name the tables' schema with eventstore.WithSchema")

// Resolve returns a copy of the store with the schemas of its tables, as db finds them now. Its statements keep using
// these tables, even if a connection's search_path changes or has temporary tables. The orchestrator and the manual
// runner resolve the store that they are given. A store with WithSchema is returned as it is, and so is a resolved one.
//
// The previous user of a pool's connection may have changed its search_path. If so, Resolve asks on a new connection. It
// is an error if the events table is not found. If another table is not found, the store expects it in the schema of the
// events table.
func (s *Store) Resolve(ctx context.Context, db DB) (*Store, error) {
	if err := s.usable("resolving the event store's tables", db); err != nil {
		return nil, err
	}
	if s.schema != "" || s.found.events != "" {
		return s, nil
	}
	found, changed, err := s.lookUp(ctx, db)
	if pool, ok := poolOf(db); ok && err == nil && changed.any() {
		found, err = s.lookUpAfresh(ctx, pool)
	}
	if err == nil && found.events == "" { // or the role may not use its schema
		err = dbrights.Check(ctx, db, []dbrights.Need{dbrights.On(s.EventsTable(), "SELECT")})
	}
	if err == nil && found.events == "" {
		err = fmt.Errorf("the events table %s does not exist, or is in a schema outside the search_path: create it, or name its schema with eventstore.WithSchema",
			s.EventsTable().Sanitize())
	}
	if err != nil {
		return nil, fmt.Errorf("resolving the event store's tables: %w", err)
	}
	found.heads = cmp.Or(found.heads, found.events)
	found.checkpoints = cmp.Or(found.checkpoints, found.events)
	resolved := *s
	resolved.found = found
	resolved.sql = newStatements(resolved.EventsTable(), resolved.AggregateHeadsTable())
	resolved.keys = newKeyCache(resolved.EventsTable())
	return &resolved, nil
}

// changes says what of a session is not as it began.
type changes struct{ path, role bool }

func (c changes) any() bool { return c.path || c.role }

// lookUp finds the tables on one connection.
func (s *Store) lookUp(ctx context.Context, db DB) (schemas, changes, error) {
	var found []string
	var changed changes
	if err := db.QueryRow(ctx, resolveSQL, []string{s.events, s.heads, s.checkpoints}).Scan(&found, &changed.path, &changed.role); err != nil {
		return schemas{}, changed, err
	}
	return schemas{events: found[0], heads: found[1], checkpoints: found[2]}, changed, nil
}

// poolOf returns the application's pool, if db is one.
func poolOf(db DB) (*pgxpool.Pool, bool) { return dbguard.PoolOf(db) }

// lookUpAfresh finds the tables on a new connection, opened as the pool opens one.
func (s *Store) lookUpAfresh(ctx context.Context, pool *pgxpool.Pool) (schemas, error) {
	conn, err := dbguard.Open(ctx, pool)
	if err != nil {
		return schemas{}, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	found, changed, err := s.lookUp(ctx, conn)
	if err == nil && changed.path && !dbguard.HasHooks(pool.Config()) {
		err = errSharedPath
	}
	return found, err
}

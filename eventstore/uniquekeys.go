package eventstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
)

// A unique violation names the index, its table and the schema. Only the index's columns say what it means, since names
// change, partitions have indexes of their own, and triggers write to other tables. After the violation the transaction
// is aborted, so its connection cannot be asked. The first append therefore reads the indexes, once per store and
// database. Indexes may change, so after a violation they are read again on a separate connection. If that fails, the
// earlier result decides.

const uniqueViolation = "23505"

// keyMeaning is what it means that a unique index is violated.
type keyMeaning uint8

const (
	keyOfOthers   keyMeaning = iota // nothing that this package knows of
	keyOfVersion                    // the aggregate has an event with the version
	keyOfEventID                    // an event has the id
	keyOfPosition                   // an event has the position
)

// versionColumns identify an event within its aggregate.
var versionColumns = []string{"bounded_context", "aggregate_type", "aggregate_id", "aggregate_version"}

// meaningOf returns what an index on these columns means. It may have more columns, as indexes of partitioned tables must: the events
// that it takes for equal are equal in all of them.
func meaningOf(columns []string) keyMeaning {
	has := func(column string) bool { return slices.Contains(columns, column) }
	switch {
	case has("global_position"):
		return keyOfPosition
	case has("event_id"):
		return keyOfEventID
	case !slices.ContainsFunc(versionColumns, func(c string) bool { return !has(c) }):
		return keyOfVersion
	}
	return keyOfOthers
}

// keysSQL lists the unique indexes of the table $1, its partitions and its children: schema, table and name, and the columns
// that are compared as the table compares them. Each row also says in which schema the table is, which sequence feeds its positions, and
// whether a policy may hide rows of it. A table without indexes has one row without a name. There are no rows if the table does not exist, or if $2 names
// another table that does not.
var keysSQL = `
WITH RECURSIVE tree AS (
	SELECT oid, oid AS root FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass($1::text)
		AND ($2::text = '' OR pg_catalog.to_regclass(nullif($2, '')) IS NOT NULL)
	UNION ALL
	SELECT i.inhrelid, tree.root FROM tree JOIN pg_catalog.pg_inherits AS i ON i.inhparent = tree.oid
), fed AS MATERIALIZED (SELECT ` + dbguard.SequenceOf("pg_catalog.to_regclass($1::text)") + ` AS sequence)
SELECT rs.nspname::text, coalesce(fed.sequence, ''), pg_catalog.row_security_active(tree.root),
	coalesce(n.nspname::text, ''), coalesce(t.relname::text, ''), coalesce(c.relname::text, ''),
	ARRAY(
		SELECT a.attname::text
		FROM pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY AS k (attnum, n)
		JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
		WHERE k.n <= i.indnkeyatts AND i.indcollation[k.n - 1] = a.attcollation)
FROM tree CROSS JOIN fed
JOIN pg_catalog.pg_class AS r ON r.oid = tree.root JOIN pg_catalog.pg_namespace AS rs ON rs.oid = r.relnamespace
LEFT JOIN (pg_catalog.pg_index AS i
	JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
	JOIN pg_catalog.pg_class AS t ON t.oid = i.indrelid
	JOIN pg_catalog.pg_namespace AS n ON n.oid = t.relnamespace) ON i.indrelid = tree.oid AND i.indisunique`

// keyName is what a violation names.
type keyName struct{ schema, table, name string }

// key is a unique index, and when that was looked up.
type key struct {
	meaning keyMeaning
	at      time.Time
}

const (
	// keysKeep is how long the meaning of an index is taken to be what it was.
	keysKeep = time.Second
	// keysTimeout bounds looking it up again.
	keysTimeout = 5 * time.Second
)

// uniqueKeys are those of the events table in one database.
type uniqueKeys struct {
	looking chan struct{} // holds a value while somebody looks them up

	mu sync.Mutex
	tables
	meaning map[keyName]key
}

// tables is what is known of the events table.
type tables struct {
	table    pgx.Identifier // with its schema
	heads    string         // a table that must exist too, quoted, or there are no keys; may be empty
	sequence string         // that feeds the positions, quoted; empty if it is not clear
	hides    bool           // row-level security hides rows from the role that looked
}

// keyCache has the unique keys of one store's events table, by database.
type keyCache struct {
	attached string // the name under which a connection has those of its database
	mu       sync.Mutex
	known    map[place]*uniqueKeys
}

// place is where an events table is. The schema is empty for the one that an append looked up.
type place struct {
	databaseName
	schema string
}

// databaseName is what a database is known by.
type databaseName struct {
	host, database, user string
	port                 uint16
}

// nameOf is the database of a connection.
func nameOf(cfg *pgx.ConnConfig) databaseName {
	return databaseName{host: cfg.Host, port: cfg.Port, database: cfg.Database, user: cfg.User}
}

func newKeyCache(events pgx.Identifier) *keyCache {
	return &keyCache{attached: "pupsourcing.unique_keys." + events.Sanitize(), known: map[place]*uniqueKeys{}}
}

// of returns the keys in the transaction's database, nil if the table is not there. They are looked up if they are not known, which
// takes a round trip.
func (c *keyCache) of(ctx context.Context, tx pgx.Tx, events pgx.Identifier) (*uniqueKeys, error) {
	conn := tx.Conn()
	if conn == nil {
		return nil, nil
	}
	attached := conn.PgConn().CustomData()
	if keys, ok := attached[c.attached].(*uniqueKeys); ok {
		return keys, nil
	}
	name := place{databaseName: nameOf(conn.Config())}
	c.mu.Lock()
	keys := c.known[name]
	c.mu.Unlock()
	if keys == nil {
		keys = &uniqueKeys{looking: make(chan struct{}, 1), meaning: map[keyName]key{}}
		if err := keys.look(ctx, tx, events); err != nil || keys.table == nil {
			return nil, err
		}
		c.mu.Lock()
		c.known[name] = keys
		c.mu.Unlock()
	}
	attached[c.attached] = keys
	return keys, nil
}

// elsewhere returns the keys of the table with the store's name in another schema. One pool may serve tenants with a schema each, so the search_path
// decides which table an append writes to. A trigger may also write to a table of that name, so the heads must be in the same schema.
func (c *keyCache) elsewhere(conn *pgx.Conn, known *uniqueKeys, schema, heads string) *uniqueKeys {
	table := known.found().table
	if schema == "" || schema == table[0] {
		return nil
	}
	name := place{databaseName: nameOf(conn.Config()), schema: schema}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known[name] == nil {
		c.known[name] = &uniqueKeys{
			looking: make(chan struct{}, 1), meaning: map[keyName]key{},
			tables: tables{table: pgx.Identifier{schema, table[1]}, heads: pgx.Identifier{schema, heads}.Sanitize()},
		}
	}
	return c.known[name]
}

// found is what is known besides the meanings.
func (k *uniqueKeys) found() tables {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.tables
}

// look looks the keys up.
func (k *uniqueKeys) look(ctx context.Context, db DB, events pgx.Identifier) error {
	at := time.Now()
	rows, err := db.Query(ctx, keysSQL, pgx.QueryExecModeExec, events.Sanitize(), k.found().heads)
	if err != nil {
		return fmt.Errorf("looking up the unique indexes of %s: %w", events.Sanitize(), err)
	}
	defer rows.Close()
	k.mu.Lock()
	defer k.mu.Unlock()
	for rows.Next() {
		var schema, sequence string
		var hides bool
		var name keyName
		var columns []string
		if err := rows.Scan(&schema, &sequence, &hides, &name.schema, &name.table, &name.name, &columns); err != nil {
			return fmt.Errorf("looking up the unique indexes of %s: %w", events.Sanitize(), err)
		}
		k.table, k.sequence = pgx.Identifier{schema, events[len(events)-1]}, sequence
		k.hides = k.hides || hides
		k.meaning[name] = key{meaningOf(columns), at}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("looking up the unique indexes of %s: %w", events.Sanitize(), err)
	}
	return nil
}

// recall returns the meaning of an index, and whether it was looked up just now.
func (k *uniqueKeys) recall(name keyName) (meaning keyMeaning, fresh bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	found, ok := k.meaning[name]
	return found.meaning, ok && time.Since(found.at) < keysKeep
}

// meaningIn returns the meaning of a violated index. conn, whose transaction is aborted, says where the database is. If the index cannot be
// looked up the meaning is what was known of it, and the error says why.
func (k *uniqueKeys) meaningIn(ctx context.Context, conn *pgx.Conn, name keyName) (keyMeaning, error) {
	if meaning, fresh := k.recall(name); fresh {
		return meaning, nil
	}
	select {
	case k.looking <- struct{}{}:
		defer func() { <-k.looking }()
	case <-ctx.Done():
		return keyOfOthers, ctx.Err()
	}
	meaning, fresh := k.recall(name)
	if fresh {
		return meaning, nil
	}
	if err := k.lookElsewhere(ctx, conn, name); err != nil {
		return meaning, err
	}
	meaning, _ = k.recall(name)
	return meaning, nil
}

// lookElsewhere looks the keys up on a connection of its own. An index that is none of the events table's is remembered too.
func (k *uniqueKeys) lookElsewhere(ctx context.Context, conn *pgx.Conn, name keyName) error {
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	other, err := pgx.ConnectConfig(ctx, conn.Config())
	if err != nil {
		return fmt.Errorf("looking up the unique index %q: %w", name.name, err)
	}
	defer func() { _ = other.Close(ctx) }()
	began := time.Now()
	if err := k.look(ctx, other, k.found().table); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if found := k.meaning[name]; found.at.Before(began) {
		k.meaning[name] = key{keyOfOthers, began}
	}
	return nil
}

// violation adds to a unique violation what it means. It returns every other error as it is.
func (s *Store) violation(ctx context.Context, tx pgx.Tx, keys *uniqueKeys, givenID bool, err error) error {
	violated, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || violated.Code != uniqueViolation || keys == nil {
		return err
	}
	name := keyName{violated.SchemaName, violated.TableName, violated.ConstraintName}
	meaning, unknown := keys.meaningIn(ctx, tx.Conn(), name)
	if meaning == keyOfOthers && len(s.EventsTable()) == 1 {
		if other := s.keys.elsewhere(tx.Conn(), keys, name.schema, s.heads); other != nil {
			if found, failed := other.meaningIn(ctx, tx.Conn(), name); failed == nil && found != keyOfOthers {
				keys, meaning = other, found
			}
		}
	}
	known := keys.found()
	switch {
	case meaning == keyOfVersion && !known.hides:
		return fmt.Errorf("%w: its version in %s is behind its events, because other code wrote them, or because a restore left the table behind: "+
			"then set it to the highest version of the events, since a retry cannot succeed before: %w",
			ErrOptimisticConcurrency, s.AggregateHeadsTable().Sanitize(), err)
	case meaning == keyOfVersion:
		return fmt.Errorf("row-level security on %s may hide the event that has the version: append with a role that sees all events: %w",
			known.table.Sanitize(), err)
	case meaning == keyOfEventID && givenID:
		return fmt.Errorf("%w: %w", ErrDuplicateEvent, err)
	case meaning == keyOfPosition:
		return behind(known, err)
	case unknown != nil:
		return fmt.Errorf("%w (%w)", err, unknown)
	}
	return err
}

// behind says how to advance a sequence that is behind the events.
func behind(known tables, err error) error {
	table, remedy := known.table.Sanitize(), "advance it to the highest position"
	if known.sequence != "" {
		remedy = fmt.Sprintf("advance it with SELECT setval(%s, (SELECT max(global_position) FROM %s))", dbguard.Literal(known.sequence), table)
	}
	return fmt.Errorf("the sequence of global_position is behind the events that are stored, as after a restore: %s: %w", remedy, err)
}

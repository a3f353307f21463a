package pgcoord

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
)

// DB is the interface that single statements of this package need. A pool, a connection and a transaction satisfy it.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Conn is the interface that transactions need. A pool and a connection satisfy it.
type Conn interface {
	DB
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
}

// Pool gives a batch its connection. The application's pool and a dbguard.Pool satisfy it.
type Pool interface {
	Acquire(ctx context.Context) (*pgxpool.Conn, error)
	Config() *pgxpool.Config
}

// transaction is how every transaction of this package begins, whatever the
// connection's defaults are. What waited for a row must see it as it is then,
// which the higher levels refuse.
var transaction = pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}

// Store runs the coordination statements of one replica set. It holds only names and is safe for concurrent use.
type Store struct {
	replicaSet string
	schema     string // as the database resolved it, never empty
	events     string // the events table as schema.table
	sequence   string // that its positions are drawn from, as SQL writes it; empty if there is not exactly one
	qualify    *strings.Replacer
	silent     bool                         // no notifications are sent
	untold     func(context.Context, error) // is told of those that could not be; may be nil
	aids       *aid
	notes      *aid   // orchestrator_waits
	encoding   string // of the database
}

// sqlResolve finds the schemas in which the connection finds two tables, wherever
// in its search_path they are, and the sequence of the second one's positions.
var sqlResolve = `
SELECT (SELECT n.nspname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)),
       (SELECT n.nspname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($2)),
       ` + dbguard.SequenceOf("to_regclass($2)") + `, ` + dbguard.Encoding + `
WHERE ` + dbguard.Primary

// Open resolves the schema on db and returns the replica set's Store. schema is the schema of the coordination tables.
// Empty means the connection's. events is the events table that the replica set reads.
func Open(ctx context.Context, db DB, schema, replicaSet string, events pgx.Identifier) (*Store, error) {
	table := pgx.Identifier{"orchestrator_checkpoints"}
	if schema != "" {
		table = pgx.Identifier{schema, "orchestrator_checkpoints"}
	}
	var resolved, eventsSchema, sequence *string
	var encoding string
	if err := db.QueryRow(ctx, sqlResolve, table.Sanitize(), events.Sanitize()).Scan(&resolved, &eventsSchema, &sequence, &encoding); err != nil {
		return nil, fmt.Errorf("resolving the schemas of the tables: %w", err)
	}
	if resolved == nil || eventsSchema == nil {
		return nil, dbfault.Configuration(fmt.Errorf("resolving the schemas of the tables: the connection's search_path does not lead to both %s and %s", table.Sanitize(), events.Sanitize()))
	}
	s := &Store{
		replicaSet: replicaSet,
		encoding:   encoding,
		aids:       &aid{},
		notes:      &aid{},
		schema:     *resolved,
		events:     *eventsSchema + "." + events[len(events)-1],
		qualify: strings.NewReplacer("{{schema}}", pgx.Identifier{*resolved}.Sanitize()+".",
			"{{all rows}}", allRows(*resolved, "NULL::bigint"), "{{all rows and drains}}", allDrains(*resolved, allRows(*resolved, "NULL::bigint")),
			"{{one of all rows}}", allRows(*resolved, "1::bigint"),
			"{{all successions}}", dbguard.LimitAllRows(pgx.Identifier{*resolved, "orchestrator_successions"}, "NULL::bigint"),
			"{{letters 1}}", allLetters(*resolved, "1::bigint"), "{{letters $5}}", allLetters(*resolved, "$5::bigint")),
	}
	if sequence != nil {
		s.sequence = *sequence
	}
	return s, nil
}

// allRows is for the LIMIT of a statement that reads coordination tables: the limit, or an error where row-level security hides rows
// of one of them. A hidden row looks like one that is not there.
func allRows(schema, limit string) string {
	for _, table := range []string{"generations", "workers", "heartbeats", "checkpoints", "parked_aggregates"} {
		limit = dbguard.LimitAllRows(pgx.Identifier{schema, "orchestrator_" + table}, limit)
	}
	return limit
}

// allDrains is allRows for the table of drains.
func allDrains(schema, limit string) string {
	return dbguard.LimitAllRows(pgx.Identifier{schema, "orchestrator_drains"}, limit)
}

// allLetters is allRows for the table of failed events.
func allLetters(schema, limit string) string {
	return dbguard.LimitAllRows(pgx.Identifier{schema, "orchestrator_dead_letters"}, limit)
}

// SeesAppends reports whether Observe shows the events table's last allocated position. It does if one sequence feeds
// the positions.
func (s *Store) SeesAppends() bool { return s.sequence != "" }

// SQL replaces {{schema}} in a statement with the schema of the coordination tables.
func (s *Store) SQL(statement string) string { return s.q(statement) }

// q fills the schema into a statement of this package.
func (s *Store) q(sql string) string { return s.qualify.Replace(sql) }

// storable is text as the tables take it.
func (s *Store) storable(text string) string { return dbguard.Storable(text, s.encoding) }

// ReplicaSet returns the name of the replica set.
func (s *Store) ReplicaSet() string { return s.replicaSet }

// EventsTable returns the events table that the replica set reads, in the form schema.table, as in the coordination
// tables.
func (s *Store) EventsTable() string { return s.events }

// Channel returns the NOTIFY channel of the replica set. Its notifications are hints: polling finds the same changes.
func (s *Store) Channel() string {
	sum := sha256.Sum256([]byte("channel\x00" + s.schema + "\x00" + s.replicaSet))
	return "pupsourcing_orchestrator_" + hex.EncodeToString(sum[:8])
}

// leaderKey is the advisory lock that the leader of the replica set holds.
func (s *Store) leaderKey() int64 {
	return lockKey("leader", s.schema, s.replicaSet)
}

// SessionKey returns the advisory lock that a worker's coordination session holds while it lives.
func (s *Store) SessionKey(worker uuid.UUID) int64 {
	return lockKey("worker", s.schema, worker.String())
}

// lockKey derives an advisory lock's key from names. Workers of different
// versions must agree on it, so it must not change.
func lockKey(kind, schema, name string) int64 {
	sum := sha256.Sum256([]byte("pupsourcing-orchestrator\x00" + kind + "\x00" + schema + "\x00" + name))
	return int64(binary.BigEndian.Uint64(sum[:8]))
}

// applicationPrefix begins the application_name of every transaction and
// session that the library opens; the worker's id follows.
const applicationPrefix = "pupsourcing-worker "

// ApplicationName is the application_name under which a worker's sessions and
// batches appear in pg_stat_activity.
func ApplicationName(worker uuid.UUID) string { return applicationPrefix + worker.String() }

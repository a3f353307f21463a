package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgxpool"
	urfave "github.com/urfave/cli/v3"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/migrations"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// settings are the variables that PostgreSQL's own programs read, and what they are called in a connection string.
var settings = []struct{ variable, name string }{
	{"PGSERVICE", "service"},
	{"PGSERVICEFILE", "servicefile"},
	{"PGHOST", "host"},
	{"PGPORT", "port"},
	{"PGDATABASE", "dbname"},
	{"PGUSER", "user"},
	{"PGPASSWORD", "password"},
	{"PGPASSFILE", "passfile"},
	{"PGSSLMODE", "sslmode"},
	{"PGSSLCERT", "sslcert"},
	{"PGSSLKEY", "sslkey"},
	{"PGSSLROOTCERT", "sslrootcert"},
	{"PGTARGETSESSIONATTRS", "target_session_attrs"},
	{"PGOPTIONS", "options"},
	{"PGCONNECT_TIMEOUT", "connect_timeout"},
}

// value is a flag, or else an environment variable.
func (a *app) value(c *urfave.Command, flag, variable string) string {
	return cmp.Or(c.String(flag), a.config.Getenv(variable))
}

// database opens the pool, once.
func (a *app) database(ctx context.Context, c *urfave.Command) (*pgxpool.Pool, error) {
	if a.pool != nil {
		return a.pool, nil
	}
	connect := a.config.Connect
	if connect == nil {
		where := a.value(c, "database", "DATABASE_URL")
		if where == "" {
			where = a.fromSettings()
		}
		if where == "" {
			return nil, usage(c, errors.New("no database is given: use --database, DATABASE_URL, or PGHOST and its like"))
		}
		connect = func(ctx context.Context) (*pgxpool.Pool, error) { return open(ctx, where) }
	}
	pool, err := connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("connecting to the database: %w", err)
	}
	a.pool = pool
	return pool, nil
}

// open opens a pool of few connections: a command needs one, and one more to cancel or look.
func open(ctx context.Context, where string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(where)
	if err != nil {
		return nil, err
	}
	config.MaxConns = 3
	if _, set := config.ConnConfig.RuntimeParams["application_name"]; !set {
		config.ConnConfig.RuntimeParams["application_name"] = "pupsourcing-orchestrator"
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return pool, nil
}

// fromSettings is a connection string of PostgreSQL's variables; empty if none is set.
func (a *app) fromSettings() string {
	var parts []string
	for _, s := range settings {
		if value := a.config.Getenv(s.variable); value != "" {
			parts = append(parts, s.name+"='"+strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value)+"'")
		}
	}
	return strings.Join(parts, " ")
}

// eventStore is the store of the events.
func (a *app) eventStore(c *urfave.Command) *eventstore.Store {
	if a.config.EventStore != nil {
		return a.config.EventStore
	}
	return eventstore.New(append(a.eventStoreOptions(c), eventstore.WithLogger(a.logger()))...)
}

func (a *app) eventStoreOptions(c *urfave.Command) (options []eventstore.Option) {
	if schema := a.value(c, "events-schema", "PUPSOURCING_EVENTS_SCHEMA"); schema != "" {
		options = append(options, eventstore.WithSchema(schema))
	}
	if table := a.value(c, "events-table", "PUPSOURCING_EVENTS_TABLE"); table != "" {
		options = append(options, eventstore.WithEventsTable(table))
	}
	return options
}

// schema is that of the orchestrator's tables; empty where the search_path says it.
func (a *app) schema(c *urfave.Command) string { return a.value(c, "schema", "PUPSOURCING_SCHEMA") }

// admin is the replica set's.
func (a *app) admin(ctx context.Context, c *urfave.Command, options ...admin.Option) (*admin.Admin, error) {
	if _, err := form(c); err != nil {
		return nil, err
	}
	if err := checkTexts(c); err != nil {
		return nil, err
	}
	db, err := a.database(ctx, c)
	if err != nil {
		return nil, err
	}
	replicaSet, err := a.replicaSet(ctx, c, db)
	if err != nil {
		return nil, err
	}
	if schema := a.schema(c); schema != "" {
		options = append(options, admin.WithSchema(schema))
	}
	if actor := c.String("actor"); actor != "" {
		options = append(options, admin.WithActor(actor))
	}
	return admin.New(db, a.eventStore(c), replicaSet, options...)
}

// checkTexts says which flag cannot be stored.
func checkTexts(c *urfave.Command) error {
	for _, flag := range []struct {
		name string
		most int
	}{{"replica-set", 255}, {"actor", 255}, {"reason", 4 << 10}} {
		switch text := c.String(flag.name); {
		case len(text) > flag.most:
			return usage(c, fmt.Errorf("--%s must have at most %d bytes, and has %d", flag.name, flag.most, len(text)))
		case !utf8.ValidString(text):
			return usage(c, fmt.Errorf("--%s must be valid UTF-8", flag.name))
		}
	}
	return nil
}

// replicaSet is the one that is named, or the only one that there is.
func (a *app) replicaSet(ctx context.Context, c *urfave.Command, db *pgxpool.Pool) (string, error) {
	named := a.value(c, "replica-set", "PUPSOURCING_REPLICA_SET")
	if named != "" && (c.Name == importing || c.Name == serving) {
		return named, nil // which need not have run
	}
	schema, err := migrations.Locate(ctx, db, a.schema(c))
	if err != nil {
		return "", err
	}
	names, err := pgcoord.ReplicaSets(ctx, db, schema, a.eventStore(c).EventsTable())
	switch {
	case err != nil:
		return "", err
	case len(names) == 0:
		return "", errors.New("no replica set has run in this database")
	case slices.Contains(names, named):
		return named, nil
	case named != "":
		return "", fmt.Errorf("there is no replica set %q; there is %s", named, strings.Join(names, ", "))
	case len(names) > 1:
		return "", usage(c, fmt.Errorf("there are several replica sets (%s): name one with --replica-set", strings.Join(names, ", ")))
	}
	return names[0], nil
}

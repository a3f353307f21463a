package workload

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// Database is an empty database for one run of a program. Tests have pgtest.NewDSN.
type Database struct {
	// Target is how to connect to it.
	Target Target
	// Server says in a few words where it is, for people.
	Server string

	cluster *pgtest.Cluster // nil if the server is somebody else's
}

// dropTimeout bounds the removal of a database.
const dropTimeout = 10 * time.Second

// NewDatabase creates a database of its own on the server that DATABASE_URL or PGTEST_URL names, whose role needs CREATEDB, or on
// a new throw-away server if neither is set. The caller closes it.
func NewDatabase(ctx context.Context) (*Database, error) {
	if dsn := cmp.Or(os.Getenv(pgtest.DatabaseURLVariable), os.Getenv(pgtest.ServerURLVariable)); dsn != "" {
		d := &Database{Target: Target{DSN: dsn, Database: "workload_" + strings.ToLower(rand.Text()[:12])}}
		d.Server = "database " + d.Target.Database + " on the server that the environment names"
		return d, d.administer(ctx, "CREATE DATABASE "+d.quoted()+" TEMPLATE template0")
	}
	cluster, err := pgtest.Start(ctx, pgtest.Options{})
	if err != nil {
		return nil, fmt.Errorf("starting a PostgreSQL server: %w", err)
	}
	dsn, err := cluster.CreateDatabase(ctx, "workload")
	if err != nil {
		return nil, errors.Join(err, cluster.Close())
	}
	return &Database{Target: Target{DSN: dsn}, Server: "a throw-away PostgreSQL server", cluster: cluster}, nil
}

// Close removes the database with everything that is in it, and the server if it is the run's own.
func (d *Database) Close() error {
	if d.cluster != nil {
		return d.cluster.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), dropTimeout)
	defer cancel()
	return d.administer(ctx, "DROP DATABASE IF EXISTS "+d.quoted()+" WITH (FORCE)")
}

// Log is the end of the server's log if the server is the run's own, else empty.
func (d *Database) Log() string {
	if d.cluster == nil {
		return ""
	}
	return d.cluster.Log()
}

func (d *Database) quoted() string { return pgx.Identifier{d.Target.Database}.Sanitize() }

// administer runs a statement on the server's own database.
func (d *Database) administer(ctx context.Context, statement string) error {
	conn, err := pgx.Connect(ctx, d.Target.DSN)
	if err != nil {
		return fmt.Errorf("connecting to the server: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("running %s: %w", statement, err)
	}
	return nil
}

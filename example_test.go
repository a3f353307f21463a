package orchestrator_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// Users keeps one row for each user. It stops the example when it has seen the second one.
type Users struct{ stop context.CancelFunc }

func (Users) Name() string { return "users" }

func (u Users) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	_, err := tx.Exec(ctx, "INSERT INTO users (id, email) VALUES ($1, $2)", event.AggregateID, string(event.Payload))
	if event.AggregateID == "grace" {
		u.stop()
	}
	return err
}

// A worker of the replica set "main-projections". Start as many as you like, in as many processes: they share the events.
func Example() {
	db, end := pgtest.ForExample() // a *pgxpool.Pool
	defer end()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	eventStore := eventstore.New()
	must(eventstore.RunMigrations(db)) // only where there are no pupsourcing tables
	must(orchestrator.RunMigrations(db))
	exec(ctx, db, "CREATE TABLE users (id text PRIMARY KEY, email text NOT NULL)")
	register(ctx, db, eventStore, "ada", "grace")

	orch, err := orchestrator.New(db, eventStore, "main-projections", orchestrator.WithLogger(slog.New(slog.DiscardHandler)))
	must(err)
	must(orch.Run(ctx, []projection.Projection{Users{stop: cancel}})) // returns when ctx ends

	rows, _ := db.Query(context.Background(), "SELECT id FROM users ORDER BY id")
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(err)
	fmt.Println(ids)
	// Output: [ada grace]
}

// register appends an event for each user, in one transaction.
func register(ctx context.Context, db *pgxpool.Pool, eventStore *eventstore.Store, ids ...string) {
	must(pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		for _, id := range ids {
			_, err := eventStore.Append(ctx, tx, es.NoStream(), []es.Event{{
				BoundedContext: "Identity", AggregateType: "User", AggregateID: id,
				EventType: "UserRegistered", Payload: []byte(id + "@example.org"),
			}})
			if err != nil {
				return err
			}
		}
		return nil
	}))
}

func exec(ctx context.Context, db *pgxpool.Pool, sql string) {
	_, err := db.Exec(ctx, sql)
	must(err)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

package cli_test

import (
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/cli"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// A program has the commands of its own: usually os.Exit(cli.Run(ctx, os.Args[1:], …)). It connects as the rest of the program does.
func ExampleRun() {
	db, end := pgtest.ForExample() // a *pgxpool.Pool
	defer end()
	config := cli.Config{
		Connect:    func(ctx context.Context) (*pgxpool.Pool, error) { return pgxpool.NewWithConfig(ctx, db.Config()) },
		EventStore: eventstore.New(),
		Stdout:     io.Discard, // usually the process's own
		Stderr:     io.Discard,
	}
	ctx := context.Background()
	for _, args := range [][]string{{"migrate", "status"}, {"migrate", "up"}, {"migrate", "status"}} {
		fmt.Printf("%v: exit code %d\n", args, cli.Run(ctx, args, config))
	}
	// Output:
	// [migrate status]: exit code 3
	// [migrate up]: exit code 0
	// [migrate status]: exit code 0
}

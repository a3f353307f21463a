package transcripts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rogpeppe/go-internal/testscript"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/awaiting"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// patience is how long a script waits for what must come.
const patience = 30 * time.Second

// world is a script's database, and the workers that it has started.
type world struct {
	db     *pgxpool.Pool
	broken atomic.Bool // handlers fail on events of the type Broken
	stops  map[string]func() error
}

type worldKey struct{}

func of(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

// setUp makes a database for a script. The tables are made by the commands.
func setUp(env *testscript.Env) error {
	t, ok := env.T().(testing.TB)
	if !ok {
		return errors.New("the script's test is not one of package testing")
	}
	dsn := pgtest.NewDSN(t)
	db, err := pgxpool.New(context.Background(), dsn)
	if err != nil {
		return err
	}
	w := &world{db: db, stops: map[string]func() error{}}
	w.broken.Store(true)
	env.Defer(func() {
		for _, stop := range w.stops {
			_ = stop()
		}
		db.Close()
	})
	env.Values[worldKey{}] = w
	env.Setenv("DATABASE_URL", dsn)
	env.Setenv("HOME", env.WorkDir)
	return nil
}

var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"exits":   exits,
	"sql":     runSQL,
	"await":   awaitSQL,
	"appears": appears,
	"append":  appendEvents,
	"worker":  startWorker,
	"leave":   stopWorker,
	"repair":  func(ts *testscript.TestScript, _ bool, _ []string) { of(ts).broken.Store(false) },
}

// exits runs a program that must exit with a code: exits 3 pupsourcing-orchestrator migrate status.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var ended *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &ended) {
		got = ended.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("the exit code is %d, and must be %d", got, want)
	}
}

// runSQL runs statements.
func runSQL(ts *testscript.TestScript, _ bool, args []string) {
	_, err := of(ts).db.Exec(context.Background(), strings.Join(args, " "))
	ts.Check(err)
}

// awaitSQL waits until a query returns a text: await 3 'SELECT count(*) FROM handled'.
func awaitSQL(ts *testscript.TestScript, _ bool, args []string) {
	eventually(ts, args[0], func() (got string, ok bool) {
		ts.Check(of(ts).db.QueryRow(context.Background(), "SELECT coalesce(("+args[1]+")::text, '')").Scan(&got))
		return got, got == args[0]
	})
}

// appears waits until a file matches: appears lines 'workers=2'.
func appears(ts *testscript.TestScript, _ bool, args []string) {
	pattern := regexp.MustCompile(args[1])
	eventually(ts, args[1], func() (string, bool) {
		text, err := os.ReadFile(ts.MkAbs(args[0]))
		return fmt.Sprintf("%s (%v)", text, err), pattern.Match(text)
	})
}

// eventually waits until look says that it has found what is wanted.
func eventually(ts *testscript.TestScript, want string, look func() (got string, ok bool)) {
	var got string
	if !awaiting.Poll(patience, func() (ok bool) { got, ok = look(); return ok }) {
		ts.Fatalf("waited in vain for %s, got %s", want, got)
	}
}

// appendEvents appends events of a type to an aggregate: append ada Registered 3.
func appendEvents(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	events := make([]es.Event, n)
	for i := range events {
		events[i] = es.Event{BoundedContext: "Identity", AggregateType: "User", AggregateID: args[0], EventType: args[1], Payload: []byte(`{"name": "Ada"}`)}
	}
	ts.Check(pgx.BeginFunc(context.Background(), of(ts).db, func(tx pgx.Tx) error {
		_, err := eventstore.New().Append(context.Background(), tx, es.Any(), events)
		return err
	}))
}

// users enters each event into a table.
type users struct {
	name  string
	world *world
}

func (u users) Name() string { return u.name }

func (u users) Handle(ctx context.Context, tx pgx.Tx, e es.PersistedEvent) error {
	if e.EventType == "Broken" && u.world.broken.Load() {
		return fmt.Errorf("the name of %q is too long", e.AggregateID)
	}
	_, err := tx.Exec(ctx, "INSERT INTO handled (projection, position) VALUES ($1, $2)", u.name, e.GlobalPosition)
	return err
}

func (u users) Reset(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, "DELETE FROM handled WHERE projection = $1", u.name)
	return err
}

// successor is to take over from another projection.
type successor struct {
	users
	replaces string
}

func (s successor) Replaces() string { return s.replaces }

// startWorker starts a worker of a replica set with projections: worker ada main users orders. The projection users-2=users is to take over from users.
func startWorker(ts *testscript.TestScript, _ bool, args []string) {
	w, name := of(ts), args[0]
	o, err := orchestrator.New(w.db, eventstore.New(), args[1], orchestrator.WithWorkerName(name), orchestrator.WithPollInterval(20*time.Millisecond),
		orchestrator.WithLogger(slog.New(slog.DiscardHandler)), orchestrator.WithErrorPolicy(projection.ErrorPolicy{Attempts: 1, Then: projection.Park}))
	ts.Check(err)
	var list []projection.Projection
	for _, p := range args[2:] {
		if next, old, succeeds := strings.Cut(p, "="); succeeds {
			list = append(list, successor{users{next, w}, old})
			continue
		}
		list = append(list, users{p, w})
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- o.Run(ctx, list) }()
	w.stops[name] = func() error {
		delete(w.stops, name)
		cancel()
		return <-ended
	}
	awaitSQL(ts, false, []string{"running", "SELECT state FROM orchestrator_workers WHERE name = '" + name + "' ORDER BY started_at DESC LIMIT 1"})
}

func stopWorker(ts *testscript.TestScript, _ bool, args []string) { ts.Check(of(ts).stops[args[0]]()) }

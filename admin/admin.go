package admin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbrights"
	"github.com/getpup/pupsourcing-orchestrator/v2/migrations"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// Admin reads and changes a replica set. It is safe for concurrent use.
type Admin struct {
	pool       *pgxpool.Pool
	db         dbguard.Transactions
	eventStore *eventstore.Store
	replicaSet string
	schema     string
	actor      string
	progress   func(Result)
	apart      int64         // see WithCutOverLimits
	pause      time.Duration // see WithCutOverLimits

	mu    chan struct{}          // room for one: who holds it looks for the tables
	found atomic.Pointer[tables] // nil before the first use
	moved atomic.Bool            // a table is not where it was found: they are looked for again
}

// tables is what an Admin finds with its first use, and when a table is not there any more.
type tables struct {
	store  *pgcoord.Store
	events pgx.Identifier // the events table
}

// Option configures an Admin.
type Option func(*Admin)

// WithSchema sets the schema of the coordination tables. By default Admin looks for them in the connection's
// search_path.
func WithSchema(schema string) Option { return func(a *Admin) { a.schema = schema } }

// WithActor sets the actor for the rows in orchestrator_operations. Defaults to the operating system's user and the
// host, such as "anna@ops-1".
func WithActor(actor string) Option { return func(a *Admin) { a.actor = actor } }

// WithProgress sets a function that Try and Retry call with the result so far, at least twice a second, from the
// goroutine that waits.
func WithProgress(tell func(soFar Result)) Option { return func(a *Admin) { a.progress = tell } }

// mostText bounds names, actors and reasons, in bytes.
const mostText = 255

// New makes an Admin of the named replica set, which need not be running. It does not touch the database.
func New(db *pgxpool.Pool, eventStore *eventstore.Store, replicaSet string, options ...Option) (*Admin, error) {
	switch {
	case db == nil:
		return nil, errors.New("making an admin: the pool must not be nil")
	case eventStore == nil:
		return nil, errors.New("making an admin: the event store must not be nil")
	}
	if err := checkText("the replica set's name", replicaSet, 1, mostText); err != nil {
		return nil, fmt.Errorf("making an admin: %w", err)
	}
	if err := eventStore.Validate(); err != nil {
		return nil, fmt.Errorf("making an admin of replica set %q: %w", replicaSet, err)
	}
	a := &Admin{pool: db, db: dbguard.New(db).InTransactions(), eventStore: eventStore, replicaSet: replicaSet, actor: somebody(), apart: defaultApart, pause: defaultPause, mu: make(chan struct{}, 1)}
	for i, option := range options {
		if option == nil {
			return nil, fmt.Errorf("making an admin of replica set %q: the option at index %d is nil", replicaSet, i)
		}
		option(a)
	}
	if err := checkText("WithActor: the actor", a.actor, 1, mostText); err != nil {
		return nil, fmt.Errorf("making an admin of replica set %q: %w", replicaSet, err)
	}
	return a, nil
}

// checkText says why a text cannot be stored.
func checkText(what, text string, least, most int) error {
	switch {
	case len(text) < least:
		return wrong("%s must not be empty", what)
	case len(text) > most:
		return wrong("%s must have at most %d bytes, and has %d", what, most, len(text))
	case !utf8.ValidString(text):
		return wrong("%s must be valid UTF-8", what)
	}
	for _, r := range text {
		if r == 0 {
			return wrong("%s must not contain NUL", what)
		}
	}
	return nil
}

// somebody is the user and the host that the program runs as.
func somebody() string {
	name := "unknown"
	if current, err := user.Current(); err == nil && current.Username != "" {
		name = current.Username
	}
	if host, err := os.Hostname(); err == nil && host != "" {
		name += "@" + host
	}
	if checkText("", name, 1, mostText) != nil {
		return "unknown"
	}
	return name
}

// open finds the tables, once, unless one of them has been moved to another schema since.
func (a *Admin) open(ctx context.Context) (*pgcoord.Store, error) {
	if found := a.found.Load(); found != nil && !a.moved.Load() {
		return found.store, nil
	}
	select {
	case a.mu <- struct{}{}:
		defer func() { <-a.mu }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if found := a.found.Load(); found != nil && !a.moved.Load() {
		return found.store, nil
	}
	schema, err := migrations.Locate(ctx, a.db, a.schema)
	if err != nil {
		return nil, err
	}
	events, err := a.eventStore.Resolve(ctx, a.db)
	if err != nil {
		return nil, err
	}
	store, err := pgcoord.Open(ctx, a.db, schema, a.replicaSet, events.EventsTable())
	if err != nil {
		return nil, err
	}
	a.found.Store(&tables{store: store, events: events.EventsTable()})
	a.moved.Store(false)
	return store, nil
}

// inEvents fills the events table into a statement, where it says {{events}}. The tables have been found.
func (a *Admin) inEvents(statement string) string {
	return strings.ReplaceAll(statement, "{{events}}", a.found.Load().events.Sanitize())
}

// explain adds to an error of the database the GRANT that is missing of what an act needs. What it needs in some cases only is asked for last.
func (a *Admin) explain(ctx context.Context, needs rights, doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s of replica set %q: %w", doing, a.replicaSet, a.withGrant(ctx, needs, err))
}

// withGrant is an error with what [Admin.explain] adds to it. After one that says that a table is not there, the next call looks for the tables.
func (a *Admin) withGrant(ctx context.Context, needs rights, err error) error {
	if code := dbfault.Code(err); code == "42P01" || code == "3F000" {
		a.moved.Store(true)
	}
	if dbrights.IsRefusal(err) {
		return dbrights.Explain(ctx, a.pool, err, needs.needs(a.schema, a.eventStore.EventsTable()), pgcoord.Needs(a.schema, a.eventStore.EventsTable()))
	}
	return err
}

package eventstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/migrate"
)

// Names of the tables unless an option says otherwise.
const (
	defaultEvents      = "events"
	defaultHeads       = "aggregate_heads"
	defaultCheckpoints = "projection_checkpoints"
)

// DB is the interface that reading needs. *pgxpool.Pool, *pgx.Conn and pgx.Tx satisfy it.
type DB = interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Store appends and reads events. It holds no connection, only table names and the statements made from them. Several
// goroutines may use it at once. Make it with New; the zero value does not work.
type Store struct {
	schema      string
	events      string
	heads       string
	checkpoints string
	found       schemas
	log         *slog.Logger
	traces      bool // appends store the trace context
	invalid     error
	sql         statements
	keys        *keyCache
	refusals    *refusals
}

// New makes a Store. It cannot fail: if an option has a bad value, Validate and every operation return the error.
func New(opts ...Option) *Store {
	s := &Store{
		events:      defaultEvents,
		heads:       defaultHeads,
		checkpoints: defaultCheckpoints,
		log:         slog.Default(),
	}
	for _, opt := range opts {
		opt(s)
	}
	s.log = s.log.With("component", "eventstore")
	s.invalid = s.checkNames()
	s.sql = newStatements(s.EventsTable(), s.AggregateHeadsTable())
	s.keys = newKeyCache(s.EventsTable())
	s.refusals = &refusals{found: map[refused]*refusal{}}
	return s
}

// errNotMade is what is wrong with a Store that New has not made.
var errNotMade = errors.New("the event store must be made by eventstore.New: the zero value is of no use")

// Validate returns an error for the first bad option, naming the field and its rule. It returns an error for the zero
// value, too.
func (s *Store) Validate() error {
	if s.invalid == nil && s.events == "" {
		return errNotMade
	}
	return s.invalid
}

// usable says what keeps an operation from being tried: the options, or a nil db.
func (s *Store) usable(doing string, db any) error {
	if err := s.Validate(); err != nil {
		return err
	}
	return refuseNil(doing, "db", db)
}

// refuseNil returns an error for a db that is nothing, or one of pgx's with nothing
// in it: a call of either would panic. argument is what the caller knows it by.
func refuseNil(doing, argument string, db any) error {
	none := false
	switch db := db.(type) {
	case nil:
		none = true
	case *pgxpool.Pool:
		none = db == nil
	case *pgxpool.Conn:
		none = db == nil
	case *pgxpool.Tx:
		none = db == nil
	case *pgx.Conn:
		none = db == nil
	case *sql.Tx:
		none = db == nil
	case *sql.Conn:
		none = db == nil
	}
	if none {
		return fmt.Errorf("%s: %s must not be nil", doing, argument)
	}
	return nil
}

// EventsTable returns the name of the events table. If a schema is set, or was found by Resolve, it is the first of two
// parts.
func (s *Store) EventsTable() pgx.Identifier {
	return migrate.Qualify(cmp.Or(s.found.events, s.schema), s.events)
}

// AggregateHeadsTable returns the name of the table of aggregates' versions. If a schema is set, or was found by
// Resolve, it is the first of two parts.
func (s *Store) AggregateHeadsTable() pgx.Identifier {
	return migrate.Qualify(cmp.Or(s.found.heads, s.schema), s.heads)
}

// CheckpointsTable returns the name of pupsourcing's table of positions. If a schema is set, or was found by Resolve, it
// is the first of two parts.
func (s *Store) CheckpointsTable() pgx.Identifier {
	return migrate.Qualify(cmp.Or(s.found.checkpoints, s.schema), s.checkpoints)
}

// DeadLettersTable returns the name of the table in which the manual runner keeps events that it could not handle. It is
// projection_dead_letters, or the checkpoints table's name followed by _dead_letters if that name is not
// projection_checkpoints. If the result would be too long, it is eventstore_<hash>_dead_letters. The table is in the
// schema of the checkpoints table.
func (s *Store) DeadLettersTable() pgx.Identifier {
	return migrate.Qualify(cmp.Or(s.found.checkpoints, s.schema), s.letters())
}

// ParkedAggregatesTable returns the name of the table of the aggregates that the manual runner has parked. It is
// projection_parked_aggregates, or follows from the checkpoints table's name as in [Store.DeadLettersTable].
func (s *Store) ParkedAggregatesTable() pgx.Identifier {
	return migrate.Qualify(cmp.Or(s.found.checkpoints, s.schema), s.parked())
}

func (s *Store) checkNames() error {
	err := cmp.Or(
		migrate.ValidateSchema("Schema", s.schema),
		migrate.ValidateName("EventsTable", s.events),
		migrate.ValidateName("AggregateHeadsTable", s.heads),
		migrate.ValidateName("CheckpointsTable", s.checkpoints),
		s.checkDistinct(),
	)
	if err != nil {
		return fmt.Errorf("the event store's options: %w", err)
	}
	return nil
}

func (s *Store) checkDistinct() error {
	if s.events == s.heads || s.events == s.checkpoints || s.heads == s.checkpoints {
		return fmt.Errorf("EventsTable, AggregateHeadsTable and CheckpointsTable must differ, got %q, %q and %q",
			s.events, s.heads, s.checkpoints)
	}
	for _, own := range []string{s.letters(), s.parked()} {
		if s.events == own || s.heads == own || s.checkpoints == own {
			return fmt.Errorf("EventsTable, AggregateHeadsTable and CheckpointsTable must not be %q, which is the name of another of the store's tables", own)
		}
	}
	return nil
}

package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/puddle/v2"

	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbrights"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/horizon"
	"github.com/getpup/pupsourcing-orchestrator/v2/migrations"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// described is the caller's projections and what their methods returned. The methods are called once, so neither the
// caller's slice nor a projection can change the answers later.
type described struct {
	projections   []handling.Description
	names         []string
	unpartitioned []string // names
	resettable    []string // names
	replaces      map[string]string
	sources       []policySource
}

// describe asks the projections about themselves. It returns an error if they cannot be run.
func describe(projections []projection.Projection) (described, error) {
	d := described{unpartitioned: []string{}, replaces: map[string]string{}}
	if len(projections) == 0 {
		return d, fmt.Errorf("%w: there must be at least one", ErrInvalidProjections)
	}
	for i, p := range projections {
		if p == nil {
			return d, fmt.Errorf("%w: the projection at index %d is nil", ErrInvalidProjections, i)
		}
		described, err := handling.Describe[projection.Wrapper, projection.ErrorPolicied](p)
		if invalid, ok := errors.AsType[*handling.NameError](err); ok {
			return d, fmt.Errorf("%w: the name of the projection at index %d %w", ErrInvalidProjections, i, invalid)
		}
		if err != nil {
			return d, fmt.Errorf("%w: the projection at index %d: %w", ErrInvalidProjections, i, err)
		}
		name := described.Name
		d.projections = append(d.projections, described)
		if first := slices.Index(d.names, name); first >= 0 {
			return d, fmt.Errorf("%w: the projections at index %d and %d are both named %q; names must be unique, since checkpoints are kept by name", ErrInvalidProjections, first, i, name)
		}
		d.names = append(d.names, name)
		if described.Unpartitioned {
			d.unpartitioned = append(d.unpartitioned, name)
		}
		if described.Resettable {
			d.resettable = append(d.resettable, name)
		}
		if described.Replaces != "" {
			d.replaces[name] = described.Replaces
		}
	}
	return d, nil
}

// stores hold the worker's statements. Their table names are resolved against the database.
type stores struct {
	coordination *pgcoord.Store
	events       *eventstore.Store
}

// check checks that the database meets the library's needs, and claims the projections. It tries until the database
// answers or ctx ends. The error is ErrNeverReached if ctx ended after a failed attempt.
func (o *Orchestrator) check(ctx context.Context, d described) (stores, error) {
	var last error // why the attempt before failed
	for failures := 1; ; failures++ {
		checked, err := o.checkOnce(ctx, d)
		switch {
		case err != nil && ctx.Err() != nil && last != nil:
			return stores{}, fmt.Errorf("%w: %w", ErrNeverReached, last)
		case err == nil || ctx.Err() != nil || !dbguard.MayPass(err, configurationFaults...):
			return checked, err
		}
		last = err
		delay := startBackoff.After(failures)
		o.config.logger.WarnContext(ctx, "the database is not ready, trying again",
			"replica_set", o.replicaSet, "error", err, "next_try", delay)
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
	}
}

// startBackoff is the delay between attempts to start.
var startBackoff = dbfault.Backoff{First: 100 * time.Millisecond, Max: 5 * time.Second}

// checkTimeout bounds one attempt to check the database.
const checkTimeout = 30 * time.Second

// checkOnce is one attempt. If a missing right may have caused the error, the error names it.
func (o *Orchestrator) checkOnce(ctx context.Context, d described) (stores, error) {
	checked, err := o.checkDatabase(ctx, d)
	return checked, dbrights.Explain(ctx, o.db, err, pgcoord.Needs(o.config.schema, o.eventStore.EventsTable()))
}

// checkDatabase checks the connection first, then the tables, then the projections' checkpoints.
func (o *Orchestrator) checkDatabase(ctx context.Context, d described) (stores, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var session pgcoord.Connect // none is needed to poll
	if !o.config.pollOnly {
		session = func(ctx context.Context) (*pgx.Conn, error) { return o.connect(ctx, uuid.Nil) }
	}
	if err := pgcoord.CheckPooler(ctx, o.db, session); err != nil {
		return stores{}, fmt.Errorf("checking the way to the database: %w", err)
	}
	if err := dbguard.CheckSettings(ctx, o.db); err != nil {
		return stores{}, err
	}
	db := dbguard.New(o.db).InTransactions() // what a standby answers is not relied upon
	schema, err := migrations.Locate(ctx, db, o.config.schema)
	if err != nil {
		return stores{}, err
	}
	events, err := o.eventStore.Resolve(ctx, db)
	if err != nil {
		return stores{}, dbguard.Finding(ctx, err) // a table is missing, or it is not clear which is meant
	}
	checked := func() error { return nil }
	sessionCtx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	if session != nil {
		checked = o.checkSession(sessionCtx, schema, events.EventsTable())
	}
	store, err := o.checkTables(ctx, db, schema, events)
	if err != nil {
		giveUp()
	}
	if sessionErr := checked(); err == nil {
		err = sessionErr
	}
	if err != nil {
		return stores{}, err
	}
	o.warnOfManualRows(ctx, db, store, events, d.names)
	err = store.Claim(ctx, db, d.names)
	if claimed, ok := errors.AsType[*pgcoord.ClaimedError](err); ok {
		return stores{}, claimedError{claimed}
	}
	if err != nil {
		return stores{}, err
	}
	return stores{coordination: store, events: events}, store.CheckEntered(ctx, db, d.names)
}

// checkTables checks the rights of the pool's role on the tables, and whether a projection can follow the events table.
func (o *Orchestrator) checkTables(ctx context.Context, db dbguard.Transactions, schema string, events *eventstore.Store) (*pgcoord.Store, error) {
	if err := dbrights.Check(ctx, db, pgcoord.Needs(schema, events.EventsTable())); err != nil {
		return nil, err
	}
	if err := horizon.Check(ctx, db, events.EventsTable()); err != nil {
		return nil, fmt.Errorf("checking the events table: %w", err)
	}
	store, err := pgcoord.Open(ctx, db, schema, o.replicaSet, events.EventsTable())
	if err != nil {
		return nil, err
	}
	return store, pgcoord.CheckVisible(ctx, db, schema, events.EventsTable())
}

// configurationFaults end Run. Some answers of the database do too: see dbguard.MayPass.
var configurationFaults = []error{
	ErrProjectionClaimed, ErrCheckpointsIncomplete, ErrNotGranted, ErrNoSession, ErrNoPreparedStatements, ErrNoTransactions, ErrNoStartupParameters,
	ErrMigrationsMissing, ErrMigrationsOutdated, ErrMigrationsNewer, ErrMigrationsChanged, puddle.ErrClosedPool,
}

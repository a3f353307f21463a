package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/getpup/pupsourcing-orchestrator/v2/actors"
	"github.com/getpup/pupsourcing-orchestrator/v2/horizon"
	"github.com/getpup/pupsourcing-orchestrator/v2/metrics"
	"github.com/getpup/pupsourcing-orchestrator/v2/migrations"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// validateProjections says why the projections cannot be run.
func validateProjections(projections []projection.Projection) error {
	if len(projections) == 0 {
		return fmt.Errorf("%w: there must be at least one", ErrInvalidProjections)
	}
	seen := map[string]int{}
	for i, p := range projections {
		if p == nil {
			return fmt.Errorf("%w: the projection at index %d is nil", ErrInvalidProjections, i)
		}
		name, err := describe(p)
		if err != nil {
			return fmt.Errorf("%w: the projection at index %d: %w", ErrInvalidProjections, i, err)
		}
		if !validName(name) {
			return fmt.Errorf("%w: the name of the projection at index %d must have between 1 and %d bytes of valid UTF-8 without NUL, got %q", ErrInvalidProjections, i, maxNameLength, abridged(name))
		}
		if first, twice := seen[name]; twice {
			return fmt.Errorf("%w: the projections at index %d and %d are both named %q; names must be unique, since checkpoints are kept by name", ErrInvalidProjections, first, i, name)
		}
		seen[name] = i
	}
	return nil
}

// describe asks a projection for all that it says about itself, and returns its
// name. A panic becomes an error.
func describe(p projection.Projection) (name string, err error) {
	defer func() {
		if value := recover(); value != nil {
			err = fmt.Errorf("describing itself it panicked: %v", value)
		}
	}()
	_, _ = projection.ScopeOf(p), projection.IsUnpartitioned(p)
	return p.Name(), nil
}

// open checks that the database is as the library needs it, and claims the
// projections. It tries until the database answers, or ctx ends.
func (o *Orchestrator) open(ctx context.Context, projections []projection.Projection) (*pgcoord.Store, error) {
	delay := 100 * time.Millisecond
	for {
		store, err := o.check(ctx, projections)
		if err == nil || ctx.Err() != nil || !unreachable(err) {
			return store, err
		}
		o.config.logger.WarnContext(ctx, "the database cannot be reached, trying again",
			"replica_set", o.replicaSet, "error", err, "next_try", delay)
		select {
		case <-ctx.Done():
		case <-time.After(delay/2 + rand.N(delay/2)):
		}
		delay = min(2*delay, 5*time.Second)
	}
}

// checkTimeout bounds one attempt to check the database.
const checkTimeout = 30 * time.Second

func (o *Orchestrator) check(ctx context.Context, projections []projection.Projection) (*pgcoord.Store, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	if err := migrations.Check(ctx, o.db, o.config.schema); err != nil {
		return nil, err
	}
	if err := horizon.Check(ctx, o.db, o.eventStore.EventsTable()); err != nil {
		return nil, fmt.Errorf("checking the events table: %w", err)
	}
	if !o.config.pollOnly {
		connect := func(ctx context.Context) (*pgx.Conn, error) { return o.connect(ctx, uuid.Nil) }
		if err := pgcoord.CheckSession(ctx, o.db, connect); err != nil {
			return nil, fmt.Errorf("checking the coordination session: %w", err)
		}
	}
	store, err := pgcoord.Open(ctx, o.db, o.config.schema, o.replicaSet, o.eventStore.EventsTable())
	if err != nil {
		return nil, err
	}
	err = store.Claim(ctx, o.db, namesOf(projections, nil))
	if claimed, ok := errors.AsType[*pgcoord.ClaimedError](err); ok {
		return nil, claimedError{claimed}
	}
	return store, err
}

// unreachable says whether the database could not be asked, rather than that
// its answer was no.
func unreachable(err error) bool {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch {
		case strings.HasPrefix(pgErr.Code, "08"), // connection exceptions
			strings.HasPrefix(pgErr.Code, "53"),  // too many connections, no memory, no disk
			strings.HasPrefix(pgErr.Code, "57P"), // shutting down, starting up
			strings.HasPrefix(pgErr.Code, "40"):  // deadlock, serialization
			return true
		}
		return false
	}
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	return connecting || pgconn.SafeToRetry(err) || pgconn.Timeout(err) || errors.Is(err, context.DeadlineExceeded)
}

// namesOf is the names of those projections for which is holds, or of all.
func namesOf(projections []projection.Projection, is func(projection.Projection) bool) []string {
	names := []string{}
	for _, p := range projections {
		if is == nil || is(p) {
			names = append(names, p.Name())
		}
	}
	return names
}

// workerConfig is what the worker's actors need.
func (o *Orchestrator) workerConfig(id uuid.UUID, store *pgcoord.Store, projections []projection.Projection, recorder *metrics.ReplicaSet) actors.Config {
	hostname, _ := os.Hostname()
	cfg := actors.Config{
		Pool:        o.db,
		EventStore:  o.eventStore,
		Store:       store,
		Projections: projections,
		Membership: pgcoord.Membership{
			ID:            id,
			Name:          o.config.workerName,
			Projections:   namesOf(projections, nil),
			Unpartitioned: namesOf(projections, projection.IsUnpartitioned),
			Partitions:    o.config.partitions,
			HasSession:    !o.config.pollOnly,
			Hostname:      hostname,
			ProcessID:     os.Getpid(),
			Version:       version(),
		},
		Timing:  o.config.timing(),
		Batch:   o.config.batch(),
		Logger:  o.config.logger.With("replica_set", o.replicaSet, "worker", id.String(), "worker_name", o.config.workerName),
		Metrics: recorder,
	}
	if !o.config.pollOnly {
		cfg.Connect = func(ctx context.Context) (*pgx.Conn, error) { return o.connect(ctx, id) }
	}
	return cfg
}

// connect opens the coordination session's connection, as the pool would.
func (o *Orchestrator) connect(ctx context.Context, id uuid.UUID) (*pgx.Conn, error) {
	pool := o.db.Config()
	cfg := pool.ConnConfig.Copy()
	if pool.BeforeConnect != nil {
		if err := pool.BeforeConnect(ctx, cfg); err != nil {
			return nil, fmt.Errorf("running the pool's BeforeConnect: %w", err)
		}
	}
	cfg.RuntimeParams["application_name"] = pgcoord.ApplicationName(id)
	return pgx.ConnectConfig(ctx, cfg)
}

// modulePath is the library's own, as builds record it.
const modulePath = "github.com/getpup/pupsourcing-orchestrator/v2"

// version is the library's version, as the build recorded it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if info.Main.Path == modulePath {
		return info.Main.Version
	}
	for _, dep := range info.Deps {
		if dep.Path == modulePath {
			return dep.Version
		}
	}
	return "unknown"
}

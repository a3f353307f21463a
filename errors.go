package orchestrator

import (
	"errors"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/waiting"
	"github.com/getpup/pupsourcing-orchestrator/v2/migrations"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

var (
	// ErrInvalidOption means that an option, or a combination of options, cannot work. New returns an error that wraps
	// it and names the option and the rule. Run does so for an error policy that was given as an option.
	ErrInvalidOption = errors.New("invalid option")

	// ErrInvalidProjections means that Run cannot work with the list of projections: it is empty, or has a nil
	// projection, an empty name, a name that is too long, or the same name twice. Run returns an error that wraps it.
	ErrInvalidProjections = errors.New("invalid projections")

	// ErrAlreadyRunning means that an earlier call of Run on the same Orchestrator has not returned yet. Run returns an
	// error that wraps it.
	ErrAlreadyRunning = errors.New("this orchestrator is running already: make another one for another worker")

	// ErrProjectionClaimed means that a projection belongs to another replica set. Run returns an error that wraps it
	// and names the projection. docs/operating.md explains how to move a projection.
	ErrProjectionClaimed = errors.New("the projection belongs to another replica set")

	// ErrCheckpointsIncomplete means that a projection has not run yet, but somebody has entered checkpoints for some of
	// its slots and not for others. Run returns an error that wraps it and names the projection and the slots.
	// docs/projections.md explains how to move from projection.PostgresProcessor.
	ErrCheckpointsIncomplete = pgcoord.ErrCheckpointsIncomplete

	// ErrNeverReached means that the context of Run ended before any attempt to reach the database had succeeded. At
	// least one attempt had failed. Run returns an error that wraps it and says why the last attempt failed.
	ErrNeverReached = errors.New("the database was never reached")

	// ErrNotGranted means that the role may not read the events table or change the coordination tables. Run returns an
	// error that wraps it and says which rights to grant.
	ErrNotGranted = pgcoord.ErrNotGranted

	// ErrNoSession means that a pooler that does not keep sessions is in front of the database, and WithPollOnly was not
	// given. Run returns an error that wraps it.
	ErrNoSession = pgcoord.ErrNoSession

	// ErrNoPreparedStatements means that the pool prepares statements, as pgx does by default, and a pooler loses them.
	// Run returns an error that wraps it and names the pool setting that helps.
	ErrNoPreparedStatements = pgcoord.ErrNoPreparedStatements

	// ErrNoTransactions means that a pooler refuses transactions. Run returns an error that wraps it.
	ErrNoTransactions = pgcoord.ErrNoTransactions

	// ErrNoStartupParameters means that a pooler refuses parameters that the pool's connections set when they start. Run
	// returns an error that wraps it and names the parameters.
	ErrNoStartupParameters = pgcoord.ErrNoStartupParameters

	// ErrNotStopped means that handlers did not return within the shutdown timeout, or that the worker could not record
	// its departure. Run returns an error that wraps it and says which of the two happened.
	ErrNotStopped = errors.New("the worker did not stop in time")

	// ErrNotRunning means that no worker runs the projection. WaitFor and WaitForAppend return an error that wraps it. A
	// worker of the same process counts from the moment it calls Run, unless it is drained (see admin.Drain). If workers
	// are drained, the error says who drained them.
	ErrNotRunning = waiting.ErrNotRunning

	// ErrProjectionPaused means that the projection is paused before the position (see admin.Pause). WaitFor and
	// WaitForAppend return an error that wraps it.
	ErrProjectionPaused = waiting.ErrPaused

	// ErrProjectionStopped means that the projection stopped before the position, at an event that could not be handled.
	// WaitFor and WaitForAppend return an error that wraps it.
	ErrProjectionStopped = waiting.ErrStopped

	// ErrAggregateParked means that the event is parked, or will be, because its aggregate has an event that could not
	// be handled. WaitFor and WaitForAppend return an error that wraps it.
	ErrAggregateParked = waiting.ErrParked

	// ErrProjectionReplaced means that another projection replaced this one before the position (see admin.CutOver).
	// WaitFor and WaitForAppend return an error that wraps it and names the other projection.
	ErrProjectionReplaced = waiting.ErrReplaced

	// ErrMigrationsMissing means that the coordination tables do not exist. Run returns an error that wraps it.
	ErrMigrationsMissing = migrations.ErrMissing

	// ErrMigrationsOutdated means that the coordination tables are of an older version than the library. Run returns an
	// error that wraps it.
	ErrMigrationsOutdated = migrations.ErrOutdated

	// ErrMigrationsNewer means that the coordination tables are of a newer version than the library. Run returns an
	// error that wraps it.
	ErrMigrationsNewer = migrations.ErrNewer

	// ErrMigrationsChanged means that the migrations were applied, but a coordination table is missing or differs from
	// what they created. Run and RunMigrations return an error that wraps it, names the table and says what is wrong.
	ErrMigrationsChanged = migrations.ErrChanged
)

// claimedError joins the face's sentinel to the details.
type claimedError struct{ *pgcoord.ClaimedError }

// Unwrap is the sentinel and the details.
func (e claimedError) Unwrap() []error { return []error{ErrProjectionClaimed, e.ClaimedError} }

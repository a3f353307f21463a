package orchestrator

import (
	"errors"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/waiting"
	"github.com/getpup/pupsourcing-orchestrator/v2/migrations"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

var (
	// ErrInvalidOption is wrapped by what New returns for an option, or a
	// combination of options, that cannot work. The text names the option and
	// the rule.
	ErrInvalidOption = errors.New("invalid option")

	// ErrInvalidProjections is wrapped by what Run returns for a list of
	// projections that cannot work: empty, with a nil, an empty name, an
	// over-long name, or one name twice.
	ErrInvalidProjections = errors.New("invalid projections")

	// ErrAlreadyRunning is returned by Run while another Run of the same
	// Orchestrator has not returned.
	ErrAlreadyRunning = errors.New("this orchestrator is running already: make another one for another worker")

	// ErrProjectionClaimed is wrapped by what Run returns for a projection that
	// belongs to another replica set. The text names it. docs/operating.md says how to move
	// a projection.
	ErrProjectionClaimed = errors.New("the projection belongs to another replica set")

	// ErrCheckpointsIncomplete is wrapped by what Run returns for a projection that
	// has not run yet, and for which somebody has entered checkpoints of some slots
	// only. The text names it and the slots. See docs/projections.md on coming from
	// projection.PostgresProcessor.
	ErrCheckpointsIncomplete = pgcoord.ErrCheckpointsIncomplete

	// ErrNeverReached is wrapped by what Run returns when its context ended and no attempt to reach the database,
	// of one at least, had succeeded. The text says why the last one failed.
	ErrNeverReached = errors.New("the database was never reached")

	// ErrNotGranted is wrapped by what Run returns if the role may not read the
	// events table or change the coordination tables. The text says what to grant.
	ErrNotGranted = pgcoord.ErrNotGranted

	// ErrNoSession is wrapped by what Run returns if the database is reached
	// through a pooler that keeps no sessions, and WithPollOnly was not given.
	ErrNoSession = pgcoord.ErrNoSession

	// ErrNoPreparedStatements is wrapped by what Run returns if the pool prepares
	// statements, as pgx does by default, and a pooler loses them. The text says
	// which setting of the pool helps.
	ErrNoPreparedStatements = pgcoord.ErrNoPreparedStatements

	// ErrNoTransactions is wrapped by what Run returns if a pooler refuses
	// transactions.
	ErrNoTransactions = pgcoord.ErrNoTransactions

	// ErrNoStartupParameters is wrapped by what Run returns if a pooler refuses parameters
	// that the pool's connections set as they start. The text names them.
	ErrNoStartupParameters = pgcoord.ErrNoStartupParameters

	// ErrNotStopped is wrapped by what Run returns if handlers did not return
	// within the shutdown timeout, or if the goodbye could not be written. The
	// text says which.
	ErrNotStopped = errors.New("the worker did not stop in time")

	// ErrNotRunning is wrapped by what WaitFor and WaitForAppend return if no worker runs the projection.
	// A worker of the same process counts from the call of Run on, unless it is drained: see admin.Drain. The text says who has drained workers.
	ErrNotRunning = waiting.ErrNotRunning

	// ErrProjectionPaused is wrapped by what WaitFor and WaitForAppend return if the projection is paused
	// before the position: see admin.Pause.
	ErrProjectionPaused = waiting.ErrPaused

	// ErrProjectionStopped is wrapped by what WaitFor and WaitForAppend return if the projection is stopped
	// before the position, at an event that could not be handled.
	ErrProjectionStopped = waiting.ErrStopped

	// ErrAggregateParked is wrapped by what WaitFor and WaitForAppend return if the event is, or will be,
	// put aside with the others of its aggregate, since one of them could not be handled.
	ErrAggregateParked = waiting.ErrParked

	// ErrProjectionReplaced is wrapped by what WaitFor and WaitForAppend return if another projection has replaced this one
	// before the position: see admin.CutOver. The text names it.
	ErrProjectionReplaced = waiting.ErrReplaced

	// ErrMigrationsMissing is wrapped by what Run returns where the coordination
	// tables do not exist.
	ErrMigrationsMissing = migrations.ErrMissing

	// ErrMigrationsOutdated is wrapped by what Run returns where the
	// coordination tables are of an older version than the library.
	ErrMigrationsOutdated = migrations.ErrOutdated

	// ErrMigrationsNewer is wrapped by what Run returns where the coordination
	// tables are of a newer version than the library.
	ErrMigrationsNewer = migrations.ErrNewer

	// ErrMigrationsChanged is wrapped by what Run and RunMigrations return where a
	// coordination table is missing, or is not as the migrations made it, though they
	// were applied. The text names the table and what is wrong.
	ErrMigrationsChanged = migrations.ErrChanged
)

// claimedError joins the face's sentinel to the details.
type claimedError struct{ *pgcoord.ClaimedError }

// Unwrap is the sentinel and the details.
func (e claimedError) Unwrap() []error { return []error{ErrProjectionClaimed, e.ClaimedError} }

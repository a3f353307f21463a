package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// ErrNotInBatch says that a worker was never met in the middle of a batch.
var ErrNotInBatch = errors.New("the worker was never in the middle of a batch")

const sqlInBatch = `
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
    AND application_name = $1 AND state = 'idle in transaction')`

// stillness is how long a process and its backends take to come to rest after SIGSTOP.
const stillness = 10 * time.Millisecond

// FreezeInBatch freezes the worker while the transaction of a batch is open and waits for it: the moment at which a frozen worker
// does the most harm, since it holds its checkpoints' locks. It freezes and thaws until it has met such a moment. It returns
// [ErrNotInBatch], and leaves the worker running, when ctx ends before.
func FreezeInBatch(ctx context.Context, pool *pgxpool.Pool, p *Process, worker WorkerStatus) error {
	application := pgcoord.ApplicationName(worker.ID)
	for {
		if err := p.Freeze(); err != nil {
			return err
		}
		inBatch, err := inBatch(ctx, pool, application)
		if inBatch {
			return nil
		}
		if thawErr := p.Thaw(); thawErr != nil && !errors.Is(thawErr, os.ErrProcessDone) {
			return errors.Join(err, thawErr)
		}
		if err == nil {
			err = pause(ctx, stillness+rand.N(stillness))
		}
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("freezing worker %s: %w (%w)", p.Name, ErrNotInBatch, context.Cause(ctx))
		case err != nil:
			return fmt.Errorf("freezing worker %s in a batch: %w", p.Name, err)
		}
	}
}

// inBatch says whether a session of that name is in a transaction and not busy, after a while.
func inBatch(ctx context.Context, pool *pgxpool.Pool, application string) (found bool, err error) {
	if err := pause(ctx, stillness); err != nil {
		return false, err
	}
	err = pool.QueryRow(ctx, sqlInBatch, application).Scan(&found)
	return found, err
}

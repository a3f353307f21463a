package horizon

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
)

// Check verifies what the horizon depends on and can be verified: see the
// package's comment. The error says what to do. It is nil where a Prober will
// work.
func Check(ctx context.Context, db Querier, events pgx.Identifier) error {
	t, _, err := locate(ctx, db, events)
	if err != nil {
		return fmt.Errorf("checking the preconditions of the horizon: %w", err)
	}
	var c conditions
	err = db.QueryRow(ctx, sqlPreconditions, t.sequence).
		Scan(&c.cache, &c.increment, &c.cycles, &c.standby, &c.mayReadSequence, &c.mayReadLocks)
	if err != nil {
		return fmt.Errorf("checking the preconditions of the horizon: %w", err)
	}
	if err := c.faults(t.sequenceName.Sanitize()); err != nil {
		return fmt.Errorf("checking the preconditions of the horizon: %w", dbfault.Configuration(err))
	}
	return nil
}

// conditions are what the database says of a sequence, itself and the role.
type conditions struct {
	cache, increment int64
	cycles           bool
	standby          bool
	mayReadSequence  bool
	mayReadLocks     bool
}

// faults joins an error for each condition that is not met.
func (c conditions) faults(sequence string) error {
	var faults []error
	if c.standby {
		faults = append(faults, errors.New("the server is a standby: connect to the primary, where the writers are "+
			"(target_session_attrs=primary)"))
	}
	if c.cache != 1 {
		faults = append(faults, fmt.Errorf("the sequence %s has CACHE %d, so sessions draw numbers ahead: ALTER SEQUENCE %[1]s CACHE 1, "+
			"and have the writers reconnect", sequence, c.cache))
	}
	if c.increment < 1 {
		faults = append(faults, fmt.Errorf("the sequence %s counts by %d: positions must grow", sequence, c.increment))
	}
	if c.cycles {
		faults = append(faults, fmt.Errorf("the sequence %s would start again at its end: ALTER SEQUENCE %[1]s NO CYCLE", sequence))
	}
	if !c.mayReadSequence {
		faults = append(faults, fmt.Errorf("the role may not read the sequence: GRANT SELECT ON SEQUENCE %s", sequence))
	}
	if !c.mayReadLocks {
		faults = append(faults, errors.New("the role may not read the locks: GRANT SELECT ON pg_catalog.pg_locks"))
	}
	return errors.Join(faults...)
}

package dbguard

import (
	"context"
	"errors"
	"slices"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
)

// MayPass says whether an attempt is repeated after the error. Whatever is not known to need a person may pass: a hook of the pool that
// fails once, a server that starts, a standby that is met in the primary's place, a table that takes another one's name. final are errors that need a person besides those that
// dbfault.IsConfiguration knows.
func MayPass(err error, final ...error) bool {
	if slices.ContainsFunc(final, func(one error) bool { return errors.Is(err, one) }) {
		return false
	}
	return IsStandby(err) || IsReplaced(err) || !dbfault.IsConfiguration(err)
}

// Finding marks the error of a check whose statements the database has answered: what they found needs a person (see
// dbfault.Configuration). Errors of the database, of the connection and of ctx stay as they are.
func Finding(ctx context.Context, err error) error {
	if dbfault.Code(err) != "" || ctx.Err() != nil || dbfault.IsUnavailable(err) || IsStandby(err) {
		return err
	}
	return dbfault.Configuration(err)
}

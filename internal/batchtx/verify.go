package batchtx

import (
	"context"
	"fmt"
)

// applicationName is a parameter whose value the server reports with the result of the statement that changed it.
const applicationName = "application_name"

// sqlCurrent is the id of the transaction in which it runs.
const sqlCurrent = "SELECT pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.text"

// reportedName is the application_name that the server has reported last.
func (t *Tx) reportedName() string { return t.conn.PgConn().ParameterStatus(applicationName) }

// Verify returns an error wrapping ErrOwner if the transaction is not the one that was begun. It asks the server only if the
// application_name has changed, as it does when the transaction ends, and where a handler sets it. A nil error says nothing where
// Settings.ApplicationName is empty or a pooler hides the name. Commit finds out in any case.
//
// The caller calls it after each event that was handled: errors that came before are not the next event's.
func (t *Tx) Verify(ctx context.Context) error {
	t.last = nil
	name := t.reportedName()
	if t.reported == "" || name == t.reported {
		return nil
	}
	var id *string
	if err := t.conn.QueryRow(ctx, sqlCurrent).Scan(&id); err != nil {
		return fmt.Errorf("looking whether the transaction is still the batch's: %w", err)
	}
	if id == nil || *id != t.id {
		return errReplaced
	}
	t.reported = name // the handler has set it
	return nil
}

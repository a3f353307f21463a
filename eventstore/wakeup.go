package eventstore

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// The wake-up trigger notifies listeners of appends, so that they need not poll.
// NOTIFY makes commits wait for each other, so at most one transaction in flight
// pays for it: the one that gets the advisory lock. Who
// did not get the lock holds its lock on the events table still when the holder's
// notification arrives, or has committed; the woken prober of the horizon sees
// either, and probes on until nobody holds one. If the holder is rolled back, nobody
// is notified; the coordinators' looks find what the others have appended. The lock is tried in the
// trigger's condition, so that all others do not call its function either.

// triggerName is the trigger's name, and that of its function.
const triggerName = "pupsourcing_wake_up"

const triggerFunctionSQL = `
CREATE OR REPLACE FUNCTION {{function}}() RETURNS trigger LANGUAGE plpgsql AS $function$
BEGIN
	PERFORM pg_notify(TG_ARGV[0], '');
	RETURN NULL;
END
$function$`

const triggerSQL = `
CREATE TRIGGER {{trigger}} AFTER INSERT ON {{events}}
FOR EACH STATEMENT WHEN (pg_try_advisory_xact_lock('{{key}}'::bigint))
EXECUTE FUNCTION {{function}}('{{channel}}')`

const dropTriggerSQL = `DROP TRIGGER IF EXISTS {{trigger}} ON {{events}}`

const hasTriggerSQL = `
SELECT EXISTS (
	SELECT 1 FROM pg_trigger
	WHERE tgrelid = to_regclass($1) AND tgname = $2 AND tgenabled IN ('O', 'A')
		AND position(convert_to($3, 'UTF8') IN tgargs) > 0)`

// Execer is what changes of the schema run on: a pool, a connection, or a
// transaction.
type Execer interface {
	DB
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// InstallWakeUp puts a trigger on the events table that notifies workers of
// appends: they handle an event within milliseconds of its commit, and hardly
// ever look while there is none. It may be called again. It needs the rights of
// the table's owner, and takes a lock on the table that waits for, and holds up,
// appends for a moment. All stores must name the table alike, with or without its
// schema, since the channel is made of the name. PostgreSQL refuses PREPARE
// TRANSACTION for a transaction that has notified: applications that prepare their
// appends cannot have the trigger.
func (s *Store) InstallWakeUp(ctx context.Context, db Execer) error {
	if s.invalid != nil {
		return s.invalid
	}
	has, err := s.HasWakeUp(ctx, db)
	if err != nil || has {
		return err
	}
	fill := s.triggerNames()
	for _, sql := range []string{triggerFunctionSQL, dropTriggerSQL, triggerSQL} {
		if _, err := db.Exec(ctx, fill.Replace(sql)); err != nil {
			return fmt.Errorf("installing the wake-up trigger on %s: %w", s.EventsTable().Sanitize(), err)
		}
	}
	return nil
}

// RemoveWakeUp takes the trigger of InstallWakeUp off the events table.
// Workers poll from then on.
func (s *Store) RemoveWakeUp(ctx context.Context, db Execer) error {
	if s.invalid != nil {
		return s.invalid
	}
	if _, err := db.Exec(ctx, s.triggerNames().Replace(dropTriggerSQL)); err != nil {
		return fmt.Errorf("removing the wake-up trigger from %s: %w", s.EventsTable().Sanitize(), err)
	}
	return nil
}

// HasWakeUp says whether the trigger of InstallWakeUp is on the events table,
// enabled, and notifies this store's channel: that of a store which names the table
// otherwise, with or without its schema, does not.
func (s *Store) HasWakeUp(ctx context.Context, db DB) (bool, error) {
	if s.invalid != nil {
		return false, s.invalid
	}
	var has bool
	if err := db.QueryRow(ctx, hasTriggerSQL, s.EventsTable().Sanitize(), triggerName, s.WakeUpChannel()).Scan(&has); err != nil {
		return false, fmt.Errorf("looking for the wake-up trigger on %s: %w", s.EventsTable().Sanitize(), err)
	}
	return has, nil
}

// WakeUpChannel is the channel that the trigger notifies.
func (s *Store) WakeUpChannel() string {
	sum := s.wakeUpSum()
	return "pupsourcing_events_" + hex.EncodeToString(sum[:8])
}

// wakeUpSum identifies the events table by the name that the store has for it.
func (s *Store) wakeUpSum() [sha256.Size]byte {
	return sha256.Sum256([]byte("pupsourcing wake-up\x00" + strings.Join(s.EventsTable(), "\x00")))
}

// triggerNames fills in the statements of the trigger.
func (s *Store) triggerNames() *strings.Replacer {
	events := s.EventsTable()
	function := pgx.Identifier{triggerName}
	if len(events) > 1 {
		function = pgx.Identifier{events[0], triggerName}
	}
	sum := s.wakeUpSum()
	key := int64(binary.BigEndian.Uint64(sum[8:16]))
	return strings.NewReplacer(
		"{{function}}", function.Sanitize(),
		"{{trigger}}", pgx.Identifier{triggerName}.Sanitize(),
		"{{events}}", events.Sanitize(),
		"{{channel}}", s.WakeUpChannel(),
		"{{key}}", fmt.Sprint(key),
	)
}

package eventstore

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
)

// The wake-up trigger notifies listeners of appends, so that they need not poll.
// NOTIFY makes commits wait for each other and wakes every listener, so an append pays
// for it only while somebody wants to be notified: a session that holds the advisory
// lock WakeUpKey. Whoever is at work anyway gives the lock back and looks by itself.
//
// The trigger tries to share the lock, which fails just then, and gives it back at
// once, so appends exclude nobody: who wants the lock gets it.
//
// No wake-up is missed by who takes the lock first and looks then. An append that
// found the lock free holds its lock on the events table already, and has drawn its
// positions, since the condition of a statement's trigger comes after its rows were
// stored. So the look sees the append's outcome, or that somebody holds the lock on the
// table, and looks again until nobody does. An append that tries the lock later notifies.

// triggerName is the trigger's name, and that of its function.
const triggerName = "pupsourcing_wake_up"

const triggerFunctionSQL = `
CREATE OR REPLACE FUNCTION {{function}}() RETURNS trigger LANGUAGE plpgsql AS $function$
BEGIN
	PERFORM pg_catalog.pg_notify(TG_ARGV[0], '');
	RETURN NULL;
END
$function$`

// triggerSQL has the lock tried in the trigger's condition, which costs appends less
// than calling a function that does. PostgreSQL parses the condition in each statement, so
// it is short. It takes and gives back in one expression: between two statements the
// append could be cancelled, and its session keep a share.
const triggerSQL = `
CREATE TRIGGER {{trigger}} AFTER INSERT ON {{events}} FOR EACH STATEMENT
WHEN (NOT (pg_catalog.pg_try_advisory_lock_shared('{{key}}') AND pg_catalog.pg_advisory_unlock_shared('{{key}}')))
EXECUTE FUNCTION {{function}}('{{channel}}', '{{key}}')`

const dropTriggerSQL = `DROP TRIGGER IF EXISTS {{trigger}} ON {{events}}`

// hasTriggerSQL compares the arguments: a trigger of an earlier form has others. It is an error if there is no such table.
const hasTriggerSQL = `
SELECT EXISTS (
	SELECT 1 FROM pg_catalog.pg_trigger
	WHERE tgrelid = $1::text::regclass AND tgname = $2 AND tgenabled IN ('O', 'A')
		AND tgargs = convert_to($3, 'UTF8') || decode('00', 'hex') || convert_to($4, 'UTF8') || decode('00', 'hex'))
WHERE ` + dbguard.Primary

// Execer is what changes of the schema run on: a pool, a connection, or a
// transaction.
type Execer interface {
	DB
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// InstallWakeUp puts a trigger on the events table that notifies workers of
// appends, while they wait for one: they handle an event within milliseconds of its
// commit, and hardly ever look while there is none. A worker looks for the trigger
// when it starts, and about once a minute. It may be called again, and
// replaces a trigger of an earlier form. It needs the rights of
// the table's owner, and takes a lock on the table that waits for, and holds up,
// appends for a moment. PostgreSQL refuses PREPARE
// TRANSACTION for a transaction that has notified: applications that prepare their
// appends cannot have the trigger.
func (s *Store) InstallWakeUp(ctx context.Context, db Execer) error {
	if err := s.usable("installing the wake-up trigger", db); err != nil {
		return err
	}
	s, err := s.Resolve(ctx, db)
	if err != nil {
		return fmt.Errorf("installing the wake-up trigger: %w", err)
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

// RemoveWakeUp takes the trigger of InstallWakeUp off the events table. Workers
// poll as soon as they miss it, which takes up to about a minute; until then an event
// may wait for some seconds.
func (s *Store) RemoveWakeUp(ctx context.Context, db Execer) error {
	if err := s.usable("removing the wake-up trigger", db); err != nil {
		return err
	}
	s, err := s.Resolve(ctx, db)
	if err != nil {
		return fmt.Errorf("removing the wake-up trigger: %w", err)
	}
	if _, err := db.Exec(ctx, s.triggerNames().Replace(dropTriggerSQL)); err != nil {
		return fmt.Errorf("removing the wake-up trigger from %s: %w", s.EventsTable().Sanitize(), err)
	}
	return nil
}

// HasWakeUp says whether the trigger of InstallWakeUp is on the events table,
// enabled, in this version's form, and notifies this table's channel. It is an error if the table does not exist.
func (s *Store) HasWakeUp(ctx context.Context, db DB) (bool, error) {
	if err := s.usable("looking for the wake-up trigger", db); err != nil {
		return false, err
	}
	s, err := s.Resolve(ctx, db)
	if err != nil {
		return false, fmt.Errorf("looking for the wake-up trigger: %w", err)
	}
	var has bool
	err = db.QueryRow(ctx, hasTriggerSQL, s.EventsTable().Sanitize(), triggerName,
		s.WakeUpChannel(), strconv.FormatInt(s.WakeUpKey(), 10)).Scan(&has)
	if err != nil {
		return false, fmt.Errorf("looking for the wake-up trigger on %s: %w", s.EventsTable().Sanitize(), err)
	}
	return has, nil
}

// WakeUpChannel is the channel that the trigger notifies. The store must be one that Resolve has returned: the channel and the
// key are those of the table with its schema.
func (s *Store) WakeUpChannel() string {
	sum := s.wakeUpSum()
	return "pupsourcing_events_" + hex.EncodeToString(sum[:8])
}

// WakeUpKey is the advisory lock that a session holds, exclusively, while appends
// are to be notified. One session can: all others hear the notifications as well.
// Who gives it back must notify the channel itself, so that another can take it.
func (s *Store) WakeUpKey() int64 {
	sum := s.wakeUpSum()
	return int64(binary.BigEndian.Uint64(sum[16:24]))
}

// wakeUpSum identifies the events table by its name with its schema.
func (s *Store) wakeUpSum() [sha256.Size]byte {
	return sha256.Sum256([]byte("pupsourcing appends\x00" + strings.Join(s.EventsTable(), "\x00")))
}

// triggerNames fills in the statements of the trigger. The store is a resolved one.
func (s *Store) triggerNames() *strings.Replacer {
	events := s.EventsTable()
	return strings.NewReplacer(
		"{{function}}", pgx.Identifier{events[0], triggerName}.Sanitize(),
		"{{trigger}}", pgx.Identifier{triggerName}.Sanitize(),
		"{{events}}", events.Sanitize(),
		"{{channel}}", s.WakeUpChannel(),
		"{{key}}", strconv.FormatInt(s.WakeUpKey(), 10),
	)
}

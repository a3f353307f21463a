package eventstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/wakeup"
)

// The wake-up trigger notifies listeners of appends, so that they need not poll.
// NOTIFY makes commits wait for each other and wakes every listener, so an append pays
// for it only while somebody wants to be notified: a session that holds the advisory
// lock wakeup.Key. A worker that is busy anyway gives the lock back and looks by itself.
//
// The trigger tries to share the lock, which fails just then, and gives it back at
// once, so appends exclude nobody: who wants the lock gets it.
//
// A worker that takes the lock first and looks afterwards misses no wake-up. An append that
// found the lock free holds its lock on the events table already, and has drawn its
// positions, since the condition of a statement's trigger comes after its rows were
// stored. So the look sees the append's outcome, or that somebody holds the lock on the
// table, and looks again until nobody does. An append that tries the lock later notifies.

// triggerName is the trigger's name, and that of its function.
const triggerName = "pupsourcing_wake_up"

// triggerBody is the function's body. A notification that finds the queue full fails the append when it commits. So the function sends
// none while the queue is half full, which takes a session that listens and stays in a transaction for long. Workers look by themselves
// every few seconds. Names are qualified because the function runs with the search_path of the session that appends.
const triggerBody = `
BEGIN
	IF pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.<) 0.5::pg_catalog.float8 THEN
		PERFORM pg_catalog.pg_notify(TG_ARGV[0], '');
	END IF;
	RETURN NULL;
END
`

// earlierTriggerBody is the form before, which does not look at the queue. Workers rely on it too, and an install replaces it.
const earlierTriggerBody = `
BEGIN
	PERFORM pg_catalog.pg_notify(TG_ARGV[0], '');
	RETURN NULL;
END
`

const triggerFunctionSQL = `
CREATE OR REPLACE FUNCTION {{function}}() RETURNS trigger LANGUAGE plpgsql AS $function$` + triggerBody + `$function$`

// hasFunctionSQL says whether the schema $1 has the function $2 with the body $3. It is left alone then: several stores in one schema
// share it, and only its owner may replace it.
const hasFunctionSQL = `
SELECT EXISTS (
	SELECT 1 FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
	WHERE n.nspname = $1::text AND p.proname = $2::text AND p.pronargs = 0 AND p.prosrc = $3::text
		AND p.prorettype = 'pg_catalog.trigger'::pg_catalog.regtype)`

// cannotNotifySQL lists the roles that may append to the table $1 but may not call the functions that the trigger calls: each of
// their appends would fail.
const cannotNotifySQL = `
SELECT coalesce(pg_catalog.string_agg(DISTINCT pg_catalog.quote_ident(r.rolname), ', '), ''),
	coalesce(pg_catalog.string_agg(DISTINCT f.oid::pg_catalog.regprocedure::text, ', '), '')
FROM pg_catalog.pg_roles AS r
JOIN pg_catalog.unnest(ARRAY['pg_catalog.pg_notify(text,text)', 'pg_catalog.pg_notification_queue_usage()',
	'pg_catalog.pg_try_advisory_lock_shared(bigint)', 'pg_catalog.pg_advisory_unlock_shared(bigint)']::pg_catalog.regprocedure[]) AS f (oid)
	ON NOT pg_catalog.has_function_privilege(r.oid, f.oid, 'EXECUTE')
WHERE r.rolname !~ '^pg_' AND pg_catalog.has_table_privilege(r.oid, $1::text::pg_catalog.regclass, 'INSERT')`

// triggerSQL replaces a trigger of another form, since dropping that one would lock out readers too. It has the lock tried in the
// trigger's condition, which costs appends less than calling a function that does. PostgreSQL parses the condition in each statement, so
// it is short. It takes and gives back in one expression: between two statements the
// append could be cancelled, and its session keep a share.
const triggerSQL = `
CREATE OR REPLACE TRIGGER {{trigger}} AFTER INSERT ON {{events}} FOR EACH STATEMENT
WHEN (NOT (pg_catalog.pg_try_advisory_lock_shared('{{key}}') AND pg_catalog.pg_advisory_unlock_shared('{{key}}')))
EXECUTE FUNCTION {{function}}('{{channel}}', '{{key}}')`

const dropTriggerSQL = `DROP TRIGGER IF EXISTS {{trigger}} ON {{events}}`

// ownTriggerSQL says whether the table $1 has a trigger with the name $2, in whatever form.
const ownTriggerSQL = `
SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_trigger WHERE tgrelid = $1::text::regclass AND tgname = $2::text)
WHERE ` + dbguard.Primary

// hasTriggerSQL says whether the table $1 has the trigger $2 with the arguments $3 and $4 and a function whose body is one of $5. It is
// an error if there is no such table.
const hasTriggerSQL = `
SELECT EXISTS (
	SELECT 1 FROM pg_catalog.pg_trigger
	WHERE tgrelid = $1::text::regclass AND tgname = $2 AND tgenabled IN ('O', 'A')
		AND tgqual IS NOT NULL AND (SELECT prosrc FROM pg_catalog.pg_proc WHERE oid = tgfoid) = ANY ($5::text[])
		AND tgargs = convert_to($3, 'UTF8') || decode('00', 'hex') || convert_to($4, 'UTF8') || decode('00', 'hex'))
WHERE ` + dbguard.Primary

// InstallWakeUp puts a trigger on the events table that notifies idle workers of appends. Workers then handle an event
// within milliseconds of its commit, and hardly ever poll while there are none. A worker looks for the trigger when it
// starts, and about once a minute. InstallWakeUp may be repeated, and several processes may call it at once. It replaces
// a trigger of an earlier version.
//
// The role must own the events table or have TRIGGER on it. It also needs CREATE on the table's schema for the trigger's
// function. If a right is missing, the error names it and its GRANT. Event stores in one schema share the function. Once
// it exists, another install needs only EXECUTE on it.
//
// InstallWakeUp needs a lock on the table. It waits for open appends, and other appends wait for it. Each attempt waits
// at most 100 ms, so it does not stall appends for longer. It retries until ctx ends, so give ctx a deadline if
// transactions may stay open. If db is a pgx.Tx, it tries five times, and the transaction keeps the lock until it ends.
//
// The trigger has these effects:
//
//   - A transaction that has notified cannot be prepared, so applications that append with PREPARE TRANSACTION cannot
//     use the trigger.
//   - A commit that notifies waits for other such commits, so a role's lock_timeout can end it.
//   - The server's queue of notifications fills up if a session that listens stays in a transaction. While the queue is
//     half full, appends do not notify, and workers find events by polling every few seconds.
//   - Roles that append need EXECUTE on the built-in functions for advisory locks and notifications. Every role has it
//     by default. It is an error if one of them lacks it.
func (s *Store) InstallWakeUp(ctx context.Context, db Execer) error {
	if err := s.usable("installing the wake-up trigger", db); err != nil {
		return err
	}
	s, err := s.Resolve(ctx, db)
	if err != nil {
		return fmt.Errorf("installing the wake-up trigger: %w", err)
	}
	has, err := s.hasTrigger(ctx, db, triggerBody)
	if err == nil && !has {
		err = s.changeTriggers(ctx, db, s.installTrigger)
	}
	if err != nil {
		return fmt.Errorf("installing the wake-up trigger on %s: %w", s.EventsTable().Sanitize(), s.nameMissingRights(ctx, db, err, rightsOfTrigger))
	}
	return nil
}

// installTrigger makes the function and the trigger, unless they are there by now.
func (s *Store) installTrigger(ctx context.Context, tx pgx.Tx) error {
	has, err := s.hasTrigger(ctx, tx, triggerBody)
	if err != nil || has {
		return err
	}
	if err := s.rolesCanNotify(ctx, tx); err != nil {
		return err
	}
	if err := tx.QueryRow(ctx, hasFunctionSQL, s.EventsTable()[0], triggerName, triggerBody).Scan(&has); err != nil {
		return fmt.Errorf("looking for the trigger's function: %w", err)
	}
	fill := s.triggerNames()
	if !has {
		if _, err := tx.Exec(ctx, fill.Replace(triggerFunctionSQL)); err != nil {
			return fmt.Errorf("making the trigger's function: %w", err)
		}
	}
	// Where only the function was of an earlier form, no lock on the table is needed.
	if has, err = s.hasTrigger(ctx, tx, triggerBody); err != nil || has {
		return err
	}
	_, err = tx.Exec(ctx, fill.Replace(triggerSQL))
	return err
}

// rolesCanNotify returns an error that names the roles whose appends would fail with the trigger.
func (s *Store) rolesCanNotify(ctx context.Context, db DB) error {
	var roles, functions string
	if err := db.QueryRow(ctx, cannotNotifySQL, s.EventsTable().Sanitize()).Scan(&roles, &functions); err != nil {
		return fmt.Errorf("looking for roles that could not append with the trigger: %w", err)
	}
	if roles != "" {
		return fmt.Errorf("appends of %s would fail, since the roles lack EXECUTE on %s: GRANT EXECUTE ON FUNCTION %s TO %s",
			roles, functions, functions, roles)
	}
	return nil
}

// RemoveWakeUp removes the trigger of InstallWakeUp from the events table. Workers poll as soon as they notice, which
// takes up to about a minute. Until then an event may wait for some seconds. The role must own the table. The trigger's
// function stays.
//
// To drop a trigger, PostgreSQL needs a lock that waits for appends and reads, and that later appends and reads wait
// for. Each attempt waits at most 100 ms, so it does not stall them for longer. RemoveWakeUp retries as InstallWakeUp
// does.
func (s *Store) RemoveWakeUp(ctx context.Context, db Execer) error {
	if err := s.usable("removing the wake-up trigger", db); err != nil {
		return err
	}
	s, err := s.Resolve(ctx, db)
	if err != nil {
		return fmt.Errorf("removing the wake-up trigger: %w", err)
	}
	var has bool
	err = db.QueryRow(ctx, ownTriggerSQL, s.EventsTable().Sanitize(), triggerName).Scan(&has)
	if err == nil && has {
		err = s.changeTriggers(ctx, db, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, s.triggerNames().Replace(dropTriggerSQL))
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("removing the wake-up trigger from %s: %w", s.EventsTable().Sanitize(), s.nameMissingRights(ctx, db, err, rightsOfRemoval))
	}
	return nil
}

// HasWakeUp reports whether the trigger of InstallWakeUp is on the events table and enabled, and notifies this table's
// channel, in this version's form or the previous one. It is an error if the table does not exist.
func (s *Store) HasWakeUp(ctx context.Context, db DB) (bool, error) {
	if err := s.usable("looking for the wake-up trigger", db); err != nil {
		return false, err
	}
	s, err := s.Resolve(ctx, db)
	if err != nil {
		return false, fmt.Errorf("looking for the wake-up trigger: %w", err)
	}
	has, err := s.hasTrigger(ctx, db, triggerBody, earlierTriggerBody)
	if err != nil {
		return false, fmt.Errorf("looking for the wake-up trigger on %s: %w", s.EventsTable().Sanitize(), err)
	}
	return has, nil
}

// hasTrigger says whether the trigger is there, with one of these bodies. The store is a resolved one.
func (s *Store) hasTrigger(ctx context.Context, db DB, bodies ...string) (has bool, err error) {
	err = db.QueryRow(ctx, hasTriggerSQL, s.EventsTable().Sanitize(), triggerName,
		wakeup.Channel(s.EventsTable()), strconv.FormatInt(wakeup.Key(s.EventsTable()), 10), bodies).Scan(&has)
	return has, err
}

// triggerNames fills in the statements of the trigger. The store is a resolved one.
func (s *Store) triggerNames() *strings.Replacer {
	events := s.EventsTable()
	return strings.NewReplacer(
		"{{function}}", pgx.Identifier{events[0], triggerName}.Sanitize(),
		"{{trigger}}", pgx.Identifier{triggerName}.Sanitize(),
		"{{events}}", events.Sanitize(),
		"{{channel}}", wakeup.Channel(s.EventsTable()),
		"{{key}}", strconv.FormatInt(wakeup.Key(s.EventsTable()), 10),
	)
}

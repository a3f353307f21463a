package actors

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/puddle/v2"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbrights"
)

// What is wrong with the database, or with what the role may do there, is logged here, with a remedy where only a person can end it, and at most once a
// minute. It is no event's failure: those are in eventfailed.go.

// personInterval is how often an error is logged that only a person can end.
const personInterval = time.Minute

// remedyOf is what a person must do to end the database's error; empty if it may pass by itself.
func remedyOf(err error) string {
	if dbguard.HidesRows(err) {
		return "ALTER TABLE … DISABLE ROW LEVEL SECURITY, or ALTER ROLE … BYPASSRLS"
	}
	switch dbfault.Code(err) {
	case "42501": // insufficient_privilege
		return "GRANT SELECT, INSERT, UPDATE, DELETE ON the table that the error names (SELECT on the events table), and USAGE ON its SCHEMA, to the worker's role; " +
			"a restart names every right that is missing"
	case "42P01", "42703", "3F000": // undefined table, column, schema
		return "give the table back its name or restore it; a restart names what is missing, and RunMigrations makes tables that are not there"
	case "23503", "42P10": // a foreign key, or ON CONFLICT without its constraint: another table has the name of one of the orchestrator's
		return "give the orchestrator's tables back their names and constraints; a restart names what is not as the migrations made it"
	}
	return ""
}

// rightsTimeout bounds looking up which rights are missing. The actor that looks waits for it, once a minute at most.
const rightsTimeout = time.Second

// remedyFor is remedyOf, with the GRANT that is missing where the role lacks a right.
func (w *worker) remedyFor(err error) string {
	remedy := remedyOf(err)
	if !dbrights.IsRefusal(err) {
		return remedy
	}
	ctx, cancel := context.WithTimeout(context.Background(), rightsTimeout)
	defer cancel()
	missing, lookErr := w.Store.MissingGrants(ctx, w.db, w.EventStore.EventsTable())
	if lookErr != nil || len(missing) == 0 {
		return remedy
	}
	return strings.Join(missing, "; ")
}

// databaseFailed logs a failure of an operation that is tried again. One that only a person can end is an error, which is counted, and
// logged once a minute.
func (w *worker) databaseFailed(log *slog.Logger, operation string, err error, attrs ...any) {
	if errors.Is(err, puddle.ErrClosedPool) && w.PoolClosed != nil {
		w.PoolClosed()
	}
	attrs = append(attrs, "operation", operation, "error", err)
	remedy := remedyOf(err)
	if remedy == "" {
		log.Warn("the database failed, trying again", attrs...)
		return
	}
	w.Metrics.DatabaseError("configuration")
	if w.notices.due("person "+operation+" "+dbfault.Code(err), personInterval) {
		log.Error("the database refuses what the worker needs, and a person must act; the worker keeps trying", append(attrs, "remedy", w.remedyFor(err))...)
	}
}

// recordFailed logs that the record of failed events could not be read or written, once a minute, and counts it. Handling goes on.
func (w *worker) recordFailed(log *slog.Logger, err error) {
	remedy := remedyOf(err)
	w.Metrics.DatabaseError("record")
	if remedy != "" {
		w.Metrics.DatabaseError("configuration")
	}
	if !w.notices.due("record "+dbfault.Code(err), personInterval) {
		return
	}
	const says = "the record of failed events (orchestrator_dead_letters) cannot be read or written; handling goes on, and the worker keeps trying"
	if remedy != "" {
		log.Error(says, "error", err, "remedy", w.remedyFor(err))
		return
	}
	log.Warn(says, "error", err)
}

// abandonedFailed logs that the abandoned handlers, or the drains, could not be read or written, once a minute, and counts it. Everything else goes on.
func (w *worker) abandonedFailed(log *slog.Logger, err error) {
	w.aidFailed(log, "the abandoned handlers or the drains (orchestrator_abandoned_handlers, orchestrator_drains) cannot be read or written, so a worker "+
		"may get partitions of a projection although its handlers hang there, and drains have no effect; everything else goes on, and the worker keeps trying", "abandoned", err)
}

// aidFailed logs that an aid cannot be used, once a minute, and counts it.
func (w *worker) aidFailed(log *slog.Logger, says, aid string, err error) {
	w.Metrics.DatabaseError("aid")
	remedy := remedyOf(err)
	if remedy != "" {
		w.Metrics.DatabaseError("configuration")
	}
	if !w.notices.due(aid+" "+dbfault.Code(err), personInterval) {
		return
	}
	if remedy != "" {
		log.Error(says, "error", err, "remedy", w.remedyFor(err)) //nolint:sloglint // each caller's is a constant
		return
	}
	if dbfault.Code(err) == "55P03" { // lock_not_available
		remedy = "pg_locks shows which session has locked the table: have it end its transaction, or end it with pg_terminate_backend"
	}
	log.Warn(says, "error", err, "remedy", remedy) //nolint:sloglint // as above
}

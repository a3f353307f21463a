package horizon

import (
	"context"
	"fmt"
	"time"
)

// server is what tells one run of a PostgreSQL server from another.
type server struct {
	// started is when the postmaster started. A crash of a backend makes it
	// start all of them afresh without changing this.
	started time.Time
	// now is the server's clock.
	now time.Time
	// session is when the backend that answered started; nil if that was not asked for, or the role may
	// not see it, as after SET ROLE.
	session *time.Time
	// statistics is when the server's statistics were last reset, which the recovery after a crash does;
	// nil if that was not asked for, as where session is known.
	statistics *time.Time
}

// follows says whether s is surely of the same run as earlier: the same
// postmaster, and a session that existed then, since none outlives a crash, or statistics that have not been
// reset since then.
func (s server) follows(earlier server) bool {
	if !s.started.Equal(earlier.started) {
		return false
	}
	if s.session != nil && !s.session.After(earlier.now) {
		return true
	}
	return s.statistics != nil && earlier.statistics != nil && s.statistics.Equal(*earlier.statistics)
}

// after is s with what an earlier look at the same run has shown and s does not.
func (s server) after(earlier server) server {
	if s.statistics == nil {
		s.statistics = earlier.statistics
	}
	return s
}

// Run says when a prober last knew that its server had not crashed. See [Checkpoints].
type Run struct {
	// Started is when the postmaster started.
	Started time.Time
	// At is a time, on the server's clock, after which no crash is ruled out yet.
	At time.Time
	// Statistics is when the server's statistics were last reset; nil if that is not known.
	Statistics *time.Time
}

// SQLSameRun is a condition that holds if the server has surely not crashed since [Run].At. Its parameters $1 to $3 are the fields of Run.
//
// To ask when the session began is expensive, so it is asked only where the statistics do not say enough.
const SQLSameRun = `(pg_catalog.pg_postmaster_start_time() = $1::pg_catalog.timestamptz AND
    CASE WHEN CASE WHEN $3::pg_catalog.timestamptz IS NULL THEN false ELSE pg_catalog.pg_stat_get_bgwriter_stat_reset_time() = $3 END THEN true
    ELSE coalesce((SELECT backend_start FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid())) <= $2::pg_catalog.timestamptz, false) END)`

// run is the server as others are told of it.
func (s server) run() Run {
	return Run{Started: s.started, At: s.now, Statistics: s.statistics}
}

// sameRun says whether a step is surely of the same run of the server as the one before. A connection that has
// been opened in between proves nothing by itself; any other session that is old enough does, if it is asked for
// after the step, and the step was at the same server. So do the statistics.
func (p *Prober) sameRun(ctx context.Context, now server) (bool, error) {
	if now.follows(p.server) {
		return true, nil
	}
	if !now.started.Equal(p.server.started) {
		return false, nil
	}
	var oldest server
	if err := p.db.QueryRow(ctx, sqlOldestSession).Scan(&oldest.started, &oldest.session, &oldest.statistics); err != nil {
		return false, fmt.Errorf("reading when the server's oldest session began: %w", err)
	}
	return oldest.follows(p.server), nil
}

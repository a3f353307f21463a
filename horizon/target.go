package horizon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
)

// target is the table and the sequence that a prober looks at, by oid and by
// qualified name.
type target struct {
	table       uint32
	tableName   pgx.Identifier
	kind        string // pg_class.relkind
	isPartition bool

	hasPosition  bool
	sequences    int64 // how many sequences the position's default draws from
	sequence     uint32
	sequenceName pgx.Identifier
}

// server is what tells one run of a PostgreSQL server from another.
type server struct {
	// started is when the postmaster started. A crash of a backend makes it
	// start all of them afresh without changing this.
	started time.Time
	// now is the server's clock.
	now time.Time
	// session is when the backend that answered started; nil if the role may
	// not see that.
	session *time.Time
}

// follows says whether s is surely of the same run as earlier: the same
// postmaster, and a session that existed then, since none outlives a crash.
func (s server) follows(earlier server) bool {
	return s.started.Equal(earlier.started) && s.session != nil && !s.session.After(earlier.now)
}

// locate looks the events table and its sequence up.
func locate(ctx context.Context, db Querier, events pgx.Identifier) (target, server, error) {
	var (
		t               target
		s               server
		schema, table   string
		seqSchema, name string
	)
	err := db.QueryRow(ctx, sqlLocate, events.Sanitize()).Scan(&t.table, &schema, &table, &t.kind, &t.isPartition,
		&t.hasPosition, &t.sequences, &t.sequence, &seqSchema, &name, &s.started, &s.now, &s.session)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return target{}, server{}, dbfault.Configuration(missing(events))
	case err != nil:
		return target{}, server{}, fmt.Errorf("looking up the events table %s: %w", events.Sanitize(), err)
	}
	t.tableName, t.sequenceName = pgx.Identifier{schema, table}, pgx.Identifier{seqSchema, name}
	if err := t.usable(); err != nil {
		return target{}, server{}, dbfault.Configuration(err)
	}
	return t, s, nil
}

// missing is the error for a table that the connection does not find.
func missing(events pgx.Identifier) error {
	if len(events) > 1 {
		return fmt.Errorf("the events table %s does not exist: create it, or name another schema", events.Sanitize())
	}
	return fmt.Errorf("the events table %s does not exist, or is in a schema outside the search_path: "+
		"create it, or name its schema", events.Sanitize())
}

// usable says why the horizon cannot be found for the table, if it cannot.
func (t target) usable() error {
	table := t.tableName.Sanitize()
	switch {
	case t.kind != "r" && t.kind != "p":
		return fmt.Errorf("the events table %s is not a table (relkind %q): name the table that the events are inserted into", table, t.kind)
	case t.isPartition:
		return fmt.Errorf("the events table %s is a partition: name the partitioned table, "+
			"since an insert into that one draws its position before it locks the partition", table)
	case !t.hasPosition:
		return fmt.Errorf("the events table %s has no column global_position: add one that a sequence feeds (bigserial)", table)
	case t.sequences == 0:
		return fmt.Errorf("no sequence feeds %s.global_position: its default must be nextval of a sequence, or the column an identity", table)
	case t.sequences > 1:
		return fmt.Errorf("%d sequences feed %s.global_position: its default must draw from one", t.sequences, table)
	}
	return nil
}

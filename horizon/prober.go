package horizon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Querier is what probing needs. *pgxpool.Pool and *pgx.Conn satisfy it, and so
// does pgx.Tx, which is of use only if the transaction itself appends nothing
// (the prober's own session is not counted as a holder) and is READ COMMITTED.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// Options change a Prober. The zero value has the defaults.
type Options struct {
	// BlockerAfter is how long the horizon must have stood still below the last
	// value before the transaction that holds it back is looked up, and how old
	// that finding may become. Defaults to 1s.
	BlockerAfter time.Duration
	// RewindsEvery is how often at most a probe that finds the sequence moved, or
	// waits for open transactions, asks whether others have noticed a rewind. Defaults to 1s.
	RewindsEvery time.Duration
}

const (
	defaultBlockerAfter = time.Second
	defaultRewindsEvery = time.Second

	// countLimit is the most events that a first probe counts to find out
	// whether all are visible. It takes some 10 ms for as many.
	countLimit = 100_000

	// startAttempts is how often a probe starts afresh because the server or the
	// table changed under it.
	startAttempts = 5
)

// ErrUnstable is returned by [Prober.Probe] when every attempt met another
// server, table or new session than the step before: connections that do not
// outlive a few statements.
var ErrUnstable = errors.New("the server, its sessions or the events table kept changing while the horizon was probed")

// Reading is the result of one probe.
type Reading struct {
	// Position is the horizon: no event at or below it can still appear to
	// snapshots taken from now on. Within an epoch it never decreases.
	Position int64
	// LastValue is the highest position drawn so far. Position equals it when
	// nothing holds the horizon back.
	LastValue int64
	// Holders is the number of transactions that have appended or may: while
	// there are any, new events can become visible without another sign. It is not
	// counted, and 0, while no number has been drawn since all were settled.
	Holders int
	// Epoch counts how often the prober started afresh: 1 at its first probe,
	// then more after an error, or where it could not rule out that the server
	// crashed or was replaced by another one. Events that were read under an
	// earlier epoch and not handled yet may be gone: read them again.
	Epoch uint64
	// Blocker is the oldest transaction that has been holding the horizon back
	// for longer than Options.BlockerAfter; nil if there is none.
	Blocker *Blocker
}

// Blocker is a transaction that holds the horizon back.
type Blocker struct {
	// PID is its session's process on the server; 0 for a prepared transaction.
	PID int32
	// Application is the session's application_name. It is empty for a
	// prepared transaction and where the role may not see other roles' sessions
	// (grant it pg_read_all_stats).
	Application string
	// Age is how long ago the transaction began or was prepared; 0 if that may
	// not be seen.
	Age time.Duration
	// PreparedGID names a prepared transaction; it ends by COMMIT PREPARED or
	// ROLLBACK PREPARED. It is empty for others.
	PreparedGID string
}

// Prober finds the horizon of one events table by successive probes. It is not
// safe for concurrent use. One in a process is enough.
type Prober struct {
	db          Querier
	events      pgx.Identifier
	checkpoints Checkpoints
	opts        Options

	tracker *Tracker // nil: the next probe starts afresh
	target  target
	server  server // at the latest step
	first   bool   // no probe was made since the start
	floorAt int64
	epoch   uint64
	stuck   stuck

	latest     Rewind    // as it was last read
	checkpoint int64     // the highest, at the start
	asked      time.Time // when the latest rewind was last read
	noticed    *int64    // how low the sequence stood, until that is taken down
}

// stuck remembers since when the horizon stands still.
type stuck struct {
	at      int64
	since   time.Time
	looked  time.Time
	blocker *Blocker
}

// NewProber returns a prober of the events table (one part, or schema and name).
//
// checkpoints are read before the first probe and whenever the prober starts afresh.
func NewProber(db Querier, events pgx.Identifier, checkpoints Checkpoints, opts Options) *Prober {
	if opts.BlockerAfter <= 0 {
		opts.BlockerAfter = defaultBlockerAfter
	}
	if opts.RewindsEvery <= 0 {
		opts.RewindsEvery = defaultRewindsEvery
	}
	return &Prober{db: db, events: events, checkpoints: checkpoints, opts: opts}
}

// Probe finds the horizon. Events up to it must be read by a statement that is
// sent after Probe returned.
//
// It returns a [*RewoundError] if positions went back; [ErrUnstable]; or what the
// database or the checkpoints returned. After any error the next Probe starts afresh, so
// calling it again is always right; but a RewoundError with Floor set will come back until
// a person acts. It comes back too when the sequence has passed the checkpoint again and
// events are stored at positions that the checkpoint had passed before, for every Prober
// with these checkpoints, if one of them saw the sequence below.
func (p *Prober) Probe(ctx context.Context) (Reading, error) {
	for range startAttempts {
		reading, steady, err := p.attempt(ctx)
		if err != nil {
			p.tracker = nil
			return Reading{}, fmt.Errorf("probing the horizon of %s: %w", p.events.Sanitize(), err)
		}
		if steady {
			return reading, nil
		}
		p.tracker = nil
	}
	return Reading{}, fmt.Errorf("probing the horizon of %s: %w", p.events.Sanitize(), ErrUnstable)
}

// attempt makes one probe. It is not steady if the step before was of another
// run of the server or another table, so that nothing follows from the two.
func (p *Prober) attempt(ctx context.Context) (reading Reading, steady bool, err error) {
	if p.tracker == nil {
		if err := p.start(ctx); err != nil {
			return Reading{}, false, err
		}
	}
	if p.tracker.Settled() {
		quiet, err := p.quiet(ctx)
		if err != nil || quiet {
			position := p.tracker.Horizon()
			return Reading{Position: position, LastValue: position, Epoch: p.epoch}, quiet, err
		}
	}
	if outdated, err := p.outdated(ctx); err != nil || outdated {
		return Reading{}, false, err
	}
	seen, err := p.look(ctx)
	if err != nil {
		return Reading{}, false, err
	}
	if seen.table != p.target.table {
		return Reading{}, false, nil
	}
	if same, err := p.sameRun(ctx, seen.server); err != nil || !same {
		return Reading{}, false, err
	}
	p.server = seen.server
	position, err := p.tracker.Observe(seen.lastValue, seen.holders())
	if err != nil {
		return Reading{}, false, p.rewound(ctx, err)
	}
	if p.first && len(seen.names) > 0 {
		if position, err = p.settle(ctx, seen.lastValue); err != nil {
			return Reading{}, false, err
		}
	}
	p.first = false
	if position, steady, err = p.afterRewind(ctx, seen.lastValue, position); err != nil || !steady {
		return Reading{}, false, err
	}
	reading = Reading{Position: position, LastValue: seen.lastValue, Holders: len(seen.names), Epoch: p.epoch}
	reading.Blocker, err = p.blocker(ctx, reading, seen)
	return reading, err == nil, err
}

// quiet says whether no number was drawn since a probe that left nothing open.
// That is one cheap statement in place of a look at all locks. If not, what it saw
// is forgotten: the look that follows finds out.
func (p *Prober) quiet(ctx context.Context) (bool, error) {
	var seen sight
	err := p.db.QueryRow(ctx, sqlQuiet, p.target.sequenceName.Sanitize(), p.target.tableName.Sanitize()).
		Scan(&seen.lastValue, &seen.table, &seen.server.started, &seen.server.now, &seen.server.session)
	if err != nil {
		return false, fmt.Errorf("reading the sequence %s: %w", p.target.sequenceName.Sanitize(), err)
	}
	if seen.table != p.target.table || !seen.server.follows(p.server) || seen.lastValue != p.tracker.Horizon() {
		return false, nil
	}
	p.server = seen.server
	p.stuck = stuck{at: seen.lastValue, since: time.Now()}
	return true, nil
}

// sameRun says whether a step is surely of the same run of the server as the one before. A connection that has
// been opened in between proves nothing by itself; any other session that is old enough does, if it is asked for
// after the step, and the step was at the same server.
func (p *Prober) sameRun(ctx context.Context, now server) (bool, error) {
	if now.follows(p.server) {
		return true, nil
	}
	if !now.started.Equal(p.server.started) {
		return false, nil
	}
	var oldest server
	if err := p.db.QueryRow(ctx, sqlOldestSession).Scan(&oldest.started, &oldest.session); err != nil {
		return false, fmt.Errorf("reading when the server's oldest session began: %w", err)
	}
	return oldest.follows(p.server), nil
}

// start looks everything up and forgets what earlier probes saw. The server's
// identity is read before the floor, so that a floor which another run of the server
// gave is noticed at the probe.
func (p *Prober) start(ctx context.Context) error {
	t, s, err := locate(ctx, p.db, p.events)
	if err != nil {
		return err
	}
	floor, err := p.settledFloor(ctx)
	if err != nil {
		return err
	}
	p.target, p.server, p.floorAt = t, s, floor
	p.tracker, p.first, p.stuck = NewTracker(p.floorAt), true, stuck{}
	p.epoch++
	return nil
}

// sight is what one probe reads.
type sight struct {
	lastValue int64
	table     uint32
	server    server
	names     []string
	pids      []int32
}

// holders are the transactions seen, as the tracker takes them.
func (s sight) holders() []Holder {
	holders := make([]Holder, len(s.names))
	for i, name := range s.names {
		holders[i] = Holder{Name: name, Prepared: s.pids[i] == 0}
	}
	return holders
}

// look reads the last value and then the holders, in one round trip.
//
// The order is kept: a server works through the messages of a connection one by
// one, so the second statement of a pipeline (in the simple protocol, of a query
// text) starts executing after the first has run to its end. That both run in one
// implicit transaction does not matter, because neither answer comes from
// a snapshot: both functions read what is in shared memory at that moment.
func (p *Prober) look(ctx context.Context) (sight, error) {
	var (
		seen  sight
		batch pgx.Batch
	)
	batch.Queue(sqlLastValue, p.target.sequenceName.Sanitize()).QueryRow(func(row pgx.Row) error {
		return row.Scan(&seen.lastValue)
	})
	batch.Queue(sqlHolders, p.target.tableName.Sanitize()).QueryRow(func(row pgx.Row) error {
		return row.Scan(&seen.table, &seen.server.started, &seen.server.now, &seen.server.session, &seen.names, &seen.pids)
	})
	if err := p.db.SendBatch(ctx, &batch).Close(); err != nil {
		return sight{}, fmt.Errorf("reading the sequence %s and the holders of locks: %w", p.target.sequenceName.Sanitize(), err)
	}
	return seen, nil
}

// settle finds out whether all numbers from the floor to lastValue are visible,
// and returns the horizon then.
func (p *Prober) settle(ctx context.Context, lastValue int64) (int64, error) {
	drawn := lastValue - p.floorAt
	if drawn == 0 || drawn > countLimit {
		return p.tracker.Horizon(), nil
	}
	visible, err := p.countVisible(ctx, p.floorAt, lastValue)
	if err != nil {
		return 0, err
	}
	if visible < drawn {
		return p.tracker.Horizon(), nil
	}
	return p.tracker.Settle(lastValue), nil
}

// countVisible is how many events are visible above one position, up to and
// including another.
func (p *Prober) countVisible(ctx context.Context, after, upTo int64) (visible int64, err error) {
	sql := fmt.Sprintf(sqlCountVisible, p.target.tableName.Sanitize())
	if err := p.db.QueryRow(ctx, sql, after, upTo).Scan(&visible); err != nil {
		return 0, fmt.Errorf("counting the events above position %d: %w", after, err)
	}
	return visible, nil
}

// blocker looks up who holds the horizon back, if it has stood still for long.
func (p *Prober) blocker(ctx context.Context, r Reading, seen sight) (*Blocker, error) {
	blocking := p.tracker.Blocking()
	now := time.Now()
	if len(blocking) == 0 || r.Position != p.stuck.at || p.stuck.since.IsZero() {
		p.stuck = stuck{at: r.Position, since: now}
	}
	if len(blocking) == 0 || now.Sub(p.stuck.since) < p.opts.BlockerAfter {
		return nil, nil
	}
	if now.Sub(p.stuck.looked) < p.opts.BlockerAfter {
		return p.stuck.blocker, nil
	}
	found, err := findBlocker(ctx, p.db, blocking, seen)
	if err != nil {
		return nil, err
	}
	p.stuck.looked, p.stuck.blocker = now, found
	return found, nil
}

// findBlocker describes the oldest of the blocking transactions; nil if all
// have ended meanwhile.
func findBlocker(ctx context.Context, db Querier, blocking []string, seen sight) (*Blocker, error) {
	pidOf := make(map[string]int32, len(seen.names))
	for i, name := range seen.names {
		pidOf[name] = seen.pids[i]
	}
	pids := make([]int32, 0, len(blocking))
	for _, name := range blocking {
		if pid := pidOf[name]; pid != 0 {
			pids = append(pids, pid)
		}
	}
	var (
		b   Blocker
		age float64
	)
	err := db.QueryRow(ctx, sqlBlocker, blocking, pids).Scan(&b.PID, &b.Application, &age, &b.PreparedGID)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("looking up the transaction that holds the horizon back: %w", err)
	}
	b.Age = time.Duration(age * float64(time.Second))
	return &b, nil
}

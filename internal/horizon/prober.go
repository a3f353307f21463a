package horizon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/announcement"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
)

// Querier is what probing needs. A [dbguard.Pool] is best, since it closes a connection that leads to a standby;
// *pgxpool.Pool and *pgx.Conn satisfy it, and so
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
	// HoleAfter is how long a position may be missing before the locks are looked at, since most transactions end soon. It is up to four times
	// as long where the server answers slowly. Defaults to 10ms.
	HoleAfter time.Duration
	// RegressionsEvery is how often at most a probe that finds the sequence moved, or
	// waits for open transactions, asks whether others have noticed a regression, stores the horizon, and
	// counts again what it met a hole in. Defaults to 1s.
	RegressionsEvery time.Duration
	// ExtentEvery is how often the sequence is compared with the highest stored event, and the key of the table looked up, besides at each start.
	// Defaults to 10s.
	ExtentEvery time.Duration
	// Slot is the expression of an event's slot, in the events table's columns. If it is empty, no news are known.
	Slot string
}

const (
	defaultHoleAfter        = 10 * time.Millisecond
	defaultBlockerAfter     = time.Second
	defaultRegressionsEvery = time.Second
	defaultExtentEvery      = 10 * time.Second

	// startAttempts is how often a probe starts afresh because the server or the
	// table changed under it, or asks again because a connection led to a standby.
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
	// Table is the oid of the events table. Read up to Position from that one only.
	Table uint32
	// News are the events between the horizon before and Position.
	News announcement.News
	// Epoch counts how often the prober started afresh: 1 at its first probe,
	// then more after an error, or where it could not rule out that the server
	// crashed or was replaced by another one. Events that were read under an
	// earlier epoch and not handled yet may be gone: read them again.
	Epoch uint64
	// Blocker is the oldest transaction that has been holding the horizon back
	// for longer than Options.BlockerAfter; nil if there is none.
	Blocker *Blocker
	// NotStored is why the horizon could not be stored for others, which makes a later start among open transactions
	// slower; nil if it was stored, or did not have to be.
	NotStored error
}

// Prober finds the horizon of one events table by successive probes. It is not
// safe for concurrent use. One in a process is enough.
type Prober struct {
	db          Querier
	events      pgx.Identifier // as it was given; with its schema once it was found
	checkpoints Checkpoints
	opts        Options

	tracker   *Tracker // nil: the next probe starts afresh
	target    target
	facts     facts  // at the start
	server    server // at the latest step
	epoch     uint64
	stuck     stuck
	count     counting
	extent    extent
	holeSince time.Time
	hole      int64         // the horizon above which a glance found one; noHole if none did
	locked    time.Time     // when a lock on the events table excluded a glance
	glanced   time.Duration // how long the latest glance took
	quiet     int           // glances in a row that found nothing new

	known   Known     // as it was last read
	asked   time.Time // when that was
	noticed *int64    // how low the sequence stood, until that is taken down
	mine    mine
	last    Stored // what was to be stored last, with its event
	store   storing
	follows bool // see Follow
}

// extent is how high the stored events reach.
type extent struct {
	highest int64
	read    time.Time
}

// NewProber returns a prober of the events table (one part, or schema and name). One part is looked for along the search_path of
// the connection that makes the first probe, and keeps the schema in which it was found then.
//
// checkpoints are read before the first probe and whenever the prober starts afresh.
func NewProber(db Querier, events pgx.Identifier, checkpoints Checkpoints, opts Options) *Prober {
	if opts.HoleAfter <= 0 {
		opts.HoleAfter = defaultHoleAfter
	}
	if opts.BlockerAfter <= 0 {
		opts.BlockerAfter = defaultBlockerAfter
	}
	if opts.RegressionsEvery <= 0 {
		opts.RegressionsEvery = defaultRegressionsEvery
	}
	if opts.ExtentEvery <= 0 {
		opts.ExtentEvery = defaultExtentEvery
	}
	return &Prober{db: db, events: events, checkpoints: checkpoints, opts: opts}
}

// followsTimes is how many times longer the intervals of a Prober that follows are.
const followsTimes = 6

// Follow says whether this Prober hears what another one announces, which has the same checkpoints. The other one then stores the horizon for both, and
// finds out first if the stored events or the table's key are not as they must be. So this one does these things less often. It does them as often as
// before when it does not follow any more.
func (p *Prober) Follow(another bool) { p.follows = another }

// every is the interval between two of those things, where alone is that of a Prober that follows no other.
func (p *Prober) every(alone time.Duration) time.Duration {
	if p.follows {
		return followsTimes * alone
	}
	return alone
}

// Probe finds the horizon. Events up to it must be read by a statement that is
// sent after Probe returned.
//
// It returns an [*UnfitError] or a [*BehindError] if a person must act first; a [*RegressionError] if positions went back; [ErrUnstable];
// or what the
// database or the checkpoints returned. After any error the next Probe starts afresh, so
// calling it again is always right; but a RegressionError with Floor set will come back until
// a person acts. It comes back too when the sequence has passed the checkpoint again and
// events are stored at positions that the checkpoint had passed before, for every Prober
// with these checkpoints, if one of them saw the sequence below.
func (p *Prober) Probe(ctx context.Context) (Reading, error) {
	last, now := ErrUnstable, time.Now()
	another := true // on another connection
	for range startAttempts {
		began := p.tracker != nil
		reading, steady, err := p.attempt(ctx)
		switch {
		case err == nil && steady:
			reading.NotStored = p.storeHorizon(ctx, reading.Position, now)
			return reading, nil
		case dbguard.IsStandby(err): // it has answered nothing, so what is known holds
			last = err
			continue
		case err != nil && began && explained(err): // a start says what is wrong
			last = err
		case err != nil && another && isOfRole(err):
			last, another = err, false
		case err != nil:
			p.tracker = nil
			return Reading{}, p.failed(err)
		}
		p.tracker = nil
	}
	p.tracker = nil
	return Reading{}, p.failed(last)
}

func (p *Prober) failed(err error) error {
	return fmt.Errorf("probing the horizon of %s: %w", p.events.Sanitize(), err)
}

// explained says whether the database's error may come from a table, a sequence or a right that is gone.
func explained(err error) bool { return dbfault.HasClass(err, "42", "XX") }

// attempt makes one probe. It is not steady if the step before was of another
// run of the server or another table, so that nothing follows from the two.
func (p *Prober) attempt(ctx context.Context) (reading Reading, steady bool, err error) {
	if p.tracker == nil {
		if steady, err := p.start(ctx); err != nil || !steady {
			return Reading{}, false, err
		}
	}
	if err := p.readExtent(ctx); err != nil {
		return Reading{}, false, err
	}
	if reading, found, err := p.glance(ctx); err != nil || found {
		return reading, found, err
	}
	if outdated, err := p.outdated(ctx); err != nil || outdated {
		return Reading{}, false, err
	}
	seen, steady, err := p.look(ctx)
	if err != nil || !steady {
		return Reading{}, false, err
	}
	if steady, err := p.unchanged(ctx, seen); err != nil || !steady {
		return Reading{}, false, err
	}
	position, err := p.observe(ctx, seen)
	if err != nil {
		return Reading{}, false, err
	}
	if position, steady, err = p.afterRegression(ctx, seen.lastValue(), position); err != nil || !steady {
		return Reading{}, false, err
	}
	reading = Reading{Position: position, LastValue: seen.lastValue(), Holders: len(seen.names), Table: p.target.table, Epoch: p.epoch}
	reading.Blocker, err = p.blocker(ctx, reading, seen)
	return reading, err == nil, err
}

// look reads the last value and the holders. It is not steady if it does not know how far the sequence is.
//
// A sequence has no last value after setval(…, n, false), ALTER SEQUENCE … RESTART WITH n or TRUNCATE … RESTART IDENTITY, until a number is drawn. The
// last one is then the one before n. To take it for 0 would be a regression that nobody has made. n is read as a row, without the lock that
// draws take. So the look is repeated after it: if the sequence has no last value even then, no draw was in progress.
func (p *Prober) look(ctx context.Context) (seen sight, steady bool, err error) {
	seen, err = p.target.lookAtHolders(ctx, p.db)
	if err != nil || seen.value != nil || p.tracker.reached == 0 && p.known.Checkpoint == 0 && p.extent.highest == 0 {
		return seen, err == nil, err
	}
	var next int64
	var called bool
	if err = p.db.QueryRow(ctx, fmt.Sprintf(sqlNext, p.target.sequenceName.Sanitize())).Scan(&next, &called); err != nil {
		return seen, false, fmt.Errorf("reading the next number of the sequence %s: %w", p.target.sequenceName.Sanitize(), err)
	}
	if seen, err = p.target.lookAtHolders(ctx, p.db); err != nil || seen.value != nil {
		return seen, err == nil, err
	}
	last := max(0, next-p.facts.increment)
	seen.value = &last
	return seen, !called && seen.mayRead, nil // the role might not read the last value for a moment
}

// unchanged says whether a look is of the same run of the server as the step before, with everything as it was at the start.
func (p *Prober) unchanged(ctx context.Context, seen sight) (bool, error) {
	if seen.facts != p.facts {
		return false, nil
	}
	if same, err := p.sameRun(ctx, seen.server); err != nil || !same {
		return false, err
	}
	p.server = seen.server.after(p.server)
	return true, nil
}

// observe takes a look in, and returns the horizon.
func (p *Prober) observe(ctx context.Context, seen sight) (int64, error) {
	lastValue := seen.lastValue()
	if !p.tracker.started && lastValue < p.known.Checkpoint {
		return 0, p.regressed(ctx, &RegressionError{Reached: p.known.Checkpoint, LastValue: lastValue, Floor: true, Highest: p.above(p.known.Checkpoint)})
	}
	first := !p.tracker.started
	position, err := p.tracker.Observe(lastValue, seen.holders())
	if err != nil {
		return 0, p.regressed(ctx, err)
	}
	if lastValue < p.extent.highest {
		return 0, p.behind(lastValue)
	}
	if first {
		p.count.on = len(seen.names) > 0
	}
	return p.countOn(ctx, lastValue, position)
}

// start looks everything up and forgets what earlier probes saw. The server's
// identity is read before the floor, so that a floor which another run of the server
// gave is noticed at the probe.
func (p *Prober) start(ctx context.Context) (steady bool, err error) {
	t, err := locate(ctx, p.db, p.events, p.opts.Slot)
	if err != nil {
		return false, err
	}
	if err := t.readable(ctx, p.db); err != nil {
		return false, t.giveUp(ctx, p.db, err)
	}
	seen, err := t.look(ctx, p.db)
	if err != nil {
		return false, err
	}
	if err := t.fit(seen.facts); err != nil {
		return false, t.giveUp(ctx, p.db, err)
	}
	if seen.facts.table != t.table || seen.facts.sequence != t.sequence || seen.facts.columnFill != t.columnFill {
		return false, nil // it changed just now
	}
	if err := p.rememberMine(ctx, seen); err != nil {
		return false, err
	}
	p.events, p.target, p.facts, p.server = t.tableName, t, seen.facts, seen.server
	floor, err := p.floor(ctx)
	if err != nil {
		return false, err
	}
	p.tracker, p.stuck, p.extent, p.hole = NewTracker(floor), stuck{}, extent{}, noHole
	p.count = counting{from: floor, span: countSpan}
	p.epoch++
	return true, nil
}

// readExtent reads how high the stored events reach and looks up the table's key, at each start and then every ExtentEvery, or less often: see Follow.
// The positions that it finds were drawn before the sequence is read.
func (p *Prober) readExtent(ctx context.Context) error {
	if !p.extent.read.IsZero() && time.Since(p.extent.read) < p.every(p.opts.ExtentEvery) {
		return nil
	}
	highest, err := p.target.extent(ctx, p.db)
	if err != nil {
		return err
	}
	p.extent = extent{highest: highest, read: time.Now()}
	return nil
}

func (p *Prober) behind(lastValue int64) error {
	return &BehindError{
		Table: p.target.tableName.Sanitize(), Sequence: p.target.sequenceName.Sanitize(),
		LastValue: lastValue, Highest: p.extent.highest,
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/wire"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

// worker is a worker's process and its way to the database.
type worker struct {
	*workload.Process
	wire *wire.Proxy
	set  string // its replica set

	began, ended time.Time
	doomed       bool // it was killed, or asked to leave
	killed       bool
	frozen       int // how many freezes hold it
}

// fleet is all workers of a run. Its methods may be called by several goroutines.
type fleet struct {
	dsn       string // the database's, without a wire
	dir       string // logs and journals
	pollOnly  bool
	variety   *rand.Rand // of the workers' settings
	unplanned chan struct{}

	mu      sync.Mutex
	all     []*worker
	reapers sync.WaitGroup
	oddities
}

// oddities are ends of processes that should not be.
type oddities struct {
	exited []string // without being asked
	failed []string // a graceful departure that was not one
	late   int      // departures that the library gave up, which it may where handlers hang
}

// The projections: events one by one, batches of some, one that is not divided, and one whose error policy skips.
const (
	single    = "single"
	skipping  = "skips"
	poolSize  = 6
	batchSize = 60
)

var projections = []workload.ProjectionSpec{
	{Name: "all"},
	{Name: "batches", AggregateTypes: []string{"order", "shipment"}, Batch: true},
	{Name: single, AggregateTypes: []string{"account"}},
	{Name: skipping, AggregateTypes: []string{"shipment", "account"}},
}

const replicaSet = "chaos"

// spawn starts a worker.
func (f *fleet) spawn(ctx context.Context) (*worker, error) {
	return f.start(ctx, replicaSet, projections)
}

// start starts a worker of a replica set.
func (f *fleet) start(ctx context.Context, set string, list []workload.ProjectionSpec) (*worker, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	dsn, err := url.Parse(f.dsn)
	if err != nil {
		return nil, fmt.Errorf("reading the server's address: %w", err)
	}
	way, err := wire.Listen(ctx, dsn.Host)
	if err != nil {
		return nil, err
	}
	dsn.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(way.Port()))
	dsn.User = url.User(workerRole)
	p, err := workload.Spawn(workload.WorkerSpec{
		Target: workload.Target{DSN: dsn.String()}, ReplicaSet: set, Name: fmt.Sprintf("w%03d", len(f.all)+1),
		Projections: list, HeartbeatInterval: heartbeatInterval, StaleWorkerTimeout: staleTimeout,
		CoordinationTimeout: coordinationTimeout, ShutdownTimeout: shutdownTimeout, BatchSize: batchSize,
		Partitions: 1 + f.variety.IntN(2), PollOnly: f.pollOnly, PoolSize: poolSize,
	}, f.dir)
	if err != nil {
		return nil, errors.Join(err, way.Close())
	}
	w := &worker{Process: p, wire: way, set: set, began: time.Now()}
	f.all = append(f.all, w)
	f.reapers.Go(func() { f.reap(w) })
	return w, nil
}

// reap waits for the process's end and judges it.
func (f *fleet) reap(w *worker) {
	err := w.Outcome()
	_ = w.wire.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	w.ended = time.Now()
	switch {
	case w.killed || (w.doomed && (err == nil || unborn(w.LogFile))):
	case !w.doomed && refused(w.LogFile):
	case w.set != replicaSet && claimed(w.LogFile):
	case !w.doomed:
		f.exited = append(f.exited, fmt.Sprintf("%s (process %d): %v", w.Name, w.PID, err))
		f.warn()
	case gaveUp(w.LogFile):
		f.late++
	default:
		f.failed = append(f.failed, fmt.Sprintf("%s (process %d): %v", w.Name, w.PID, err))
		f.warn()
	}
}

// warn tells the user that the chaos has failed already.
func (f *fleet) warn() {
	select {
	case f.unplanned <- struct{}{}:
	default:
	}
}

// unborn says whether the process was told to go before it had begun, when SIGTERM ends it at once.
func unborn(log string) bool {
	info, err := os.Stat(log)
	return err == nil && info.Size() == 0
}

// refused says whether Run returned at once, since the role could not read the events at that moment.
func refused(log string) bool {
	return endsWith(log, "the role lacks rights") || endsWith(log, "row-level security")
}

// gaveUp says whether the worker's log ends with the library's report that handlers, or the goodbye, took too long.
func gaveUp(log string) bool {
	return endsWith(log, "did not stop in time")
}

// endsWith says whether a text is near the end of a log.
func endsWith(log, text string) bool {
	content, err := os.ReadFile(log)
	return err == nil && strings.Contains(string(content[max(0, len(content)-4096):]), text)
}

// staying are the workers of the main replica set that are there and have not been told to go, oldest first.
func (f *fleet) staying() []*worker {
	return slices.DeleteFunc(f.there(), func(w *worker) bool { return w.set != replicaSet })
}

// there are the workers of all replica sets that are there and have not been told to go, oldest first.
func (f *fleet) there() []*worker {
	f.mu.Lock()
	defer f.mu.Unlock()
	var live []*worker
	for _, w := range f.all {
		if !w.doomed && w.ended.IsZero() {
			live = append(live, w)
		}
	}
	return live
}

// pick is one of those of the main replica set that stay and are not frozen; nil if none does.
func (f *fleet) pick(lot uint64) *worker { return f.pickOf(f.staying(), lot) }

// pickOf is one of some workers that is not frozen; nil if none is.
func (f *fleet) pickOf(workers []*worker, lot uint64) *worker {
	live := slices.DeleteFunc(workers, func(w *worker) bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return w.frozen > 0
	})
	if len(live) == 0 {
		return nil
	}
	return live[lot%uint64(len(live))]
}

// named is the worker of that name; nil if there is none.
func (f *fleet) named(name string) *worker {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.all {
		if w.Name == name {
			return w
		}
	}
	return nil
}

// kill ends a worker without a word.
func (f *fleet) kill(w *worker) error {
	f.mu.Lock()
	w.doomed, w.killed = true, true
	f.mu.Unlock()
	return gone(w.Kill())
}

// leave asks a worker to leave, unless it has been asked: a second SIGTERM may meet a process that is ending, and kill it.
func (f *fleet) leave(w *worker) error {
	f.mu.Lock()
	asked := w.doomed
	w.doomed = true
	f.mu.Unlock()
	if asked {
		return nil
	}
	return gone(w.Terminate())
}

// freeze stops a worker's process; several may do so, and the last who thaws it lets it go on.
func (f *fleet) freeze(w *worker) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	w.frozen++
	return gone(w.Freeze())
}

// freezeInBatch has a worker stop itself at the next event within freezeWithin.
func (f *fleet) freezeInBatch(w *worker) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	w.frozen++
	return gone(syscall.Kill(w.PID, freezeInBatch))
}

func (f *fleet) thaw(w *worker) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if w.frozen--; w.frozen > 0 {
		return nil
	}
	return gone(w.Thaw())
}

// gone forgives that a process has ended.
func gone(err error) error {
	if errors.Is(err, os.ErrProcessDone) || errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// processes are those of all workers that ever were.
func (f *fleet) processes() []*workload.Process {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]*workload.Process, len(f.all))
	for i, w := range f.all {
		list[i] = w.Process
	}
	return list
}

// close ends all workers that are left.
func (f *fleet) close() error {
	f.mu.Lock()
	for _, w := range f.all {
		w.doomed, w.killed = true, true
	}
	f.mu.Unlock()
	err := workload.KillAll(f.processes(), killPatience)
	f.reapers.Wait()
	return err
}

const killPatience = 5 * time.Second

package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// fault is a kind of trouble.
type fault string

// What is done to workers.
const (
	faultJoin   fault = "join"   // a worker more
	faultBurst  fault = "burst"  // ten at once, which go a while later
	faultLeave  fault = "leave"  // SIGTERM
	faultKill   fault = "kill"   // SIGKILL
	faultFreeze fault = "freeze" // SIGSTOP and SIGCONT, for shorter or longer than the stale timeout, some inside a batch
	faultLeader fault = "leader" // the leader is killed or frozen in a phase of a generation change
)

// What is done to the database and to the way there.
const (
	faultRestart   fault = "restart"   // fast, immediate, or after SIGKILL of all of it
	faultTerminate fault = "terminate" // backends ended with pg_terminate_backend
	faultCut       fault = "cut"       // connections reset, new ones refused for a while
	faultDelay     fault = "delay"     // latency
	faultHalfOpen  fault = "halfopen"  // connections stand, but nothing comes through, or no answers
)

// What handlers do.
const (
	faultSlow  fault = "slow"
	faultHang  fault = "hang" // looking at the context, and not
	faultPanic fault = "panic"
	faultFail  fault = "fail"

	faultPath     fault = "path"     // a search_path that leads to other tables of the same names is left behind in the session
	faultLocal    fault = "local"    // SET LOCAL of a role that may do nothing, and of a timeout that nothing meets
	faultRollback fault = "rollback" // ROLLBACK and BEGIN by SQL
)

// What an operator does, and handlers that give one something to do.
const (
	faultPoison fault = "poison" // fails for longer than the error policy bears: the aggregate is parked
	faultRetry  fault = "retry"  // what is parked is retried, tried, and cancelled
	faultPause  fault = "pause"  // a projection is held back
	faultReset  fault = "reset"  // a projection begins again
	faultDrain  fault = "drain"  // a worker's partitions go to the others

	faultCutOver fault = "cutover" // the next version of a projection takes over
	faultMove    fault = "move"    // a projection goes to another replica set and back
)

// What happens around the library.
const (
	faultStandby  fault = "standby"  // some connections lead to a standby that is seconds behind
	faultSettings fault = "settings" // a setting of the workers' role changes
	faultRevoke   fault = "revoke"   // the role may not read the events for a while
	faultHide     fault = "hide"     // row-level security hides the events for a while
	faultStranger fault = "stranger" // a session that is no worker's holds the leader's lock
)

// What writers do.
const (
	faultHoles    fault = "holes"    // numbers drawn and not used
	faultPrepared fault = "prepared" // a prepared transaction that is left for a while
)

// allFaults is every fault, in the order of the list that people see.
var allFaults = []fault{
	faultJoin, faultBurst, faultLeave, faultKill, faultFreeze, faultLeader, faultRestart, faultTerminate, faultCut, faultDelay,
	faultHalfOpen, faultSlow, faultHang, faultPanic, faultFail, faultPath, faultLocal, faultRollback, faultHoles, faultPrepared,
	faultStandby, faultSettings, faultRevoke, faultHide, faultStranger, faultPoison, faultRetry, faultPause, faultReset, faultDrain, faultCutOver, faultMove,
}

func has(faults []fault, f fault) bool { return slices.Contains(faults, f) }

// options says what a run is.
type options struct {
	Seed     uint64
	Duration time.Duration // of the faults; the end takes about 20 s more
	Workers  int           // about so many at a time
	Faults   []fault
	Interval time.Duration // between two faults, on average
	Pooler   bool          // workers reach the database through PgBouncer in transaction mode
	Verbose  bool          // tell of each fault
	Keep     bool          // keep the evidence of a run without violations too
}

const (
	defaultDuration = time.Minute
	defaultWorkers  = 6
	defaultInterval = 800 * time.Millisecond
	leastWorkers    = 2
)

// parseOptions reads the arguments; what is not among them comes from the environment, where make puts its variables.
func parseOptions(arguments []string, getenv func(string) string, output io.Writer) (options, error) {
	var o options
	set := flag.NewFlagSet("chaos", flag.ContinueOnError)
	set.SetOutput(output)
	seed := set.String("seed", getenv("SEED"), "seed of the schedule and of the failures; drawn if empty")
	duration := set.String("duration", cmp.Or(getenv("DURATION"), defaultDuration.String()), "how long faults happen")
	workers := set.String("workers", cmp.Or(getenv("WORKERS"), strconv.Itoa(defaultWorkers)), "how many workers there are, about")
	faults := set.String("faults", getenv("FAULTS"), "faults, with commas between them; all if empty: "+joined(allFaults))
	interval := set.String("interval", cmp.Or(getenv("INTERVAL"), defaultInterval.String()), "average time between two faults")
	set.BoolVar(&o.Pooler, "pooler", getenv("POOLER") != "", "let the workers reach the database through PgBouncer, poll-only")
	set.BoolVar(&o.Verbose, "verbose", getenv("VERBOSE") != "", "tell of each fault")
	set.BoolVar(&o.Keep, "keep", getenv("KEEP") != "", "keep logs and tables in any case")
	if err := set.Parse(arguments); err != nil {
		return o, err
	}
	if set.NArg() > 0 {
		return o, fmt.Errorf("chaos takes no arguments, got %q", set.Args())
	}
	var errs [5]error
	if o.Seed = rand.Uint64N(1 << 32); *seed != "" {
		o.Seed, errs[0] = strconv.ParseUint(*seed, 10, 64)
	}
	o.Duration, errs[1] = time.ParseDuration(*duration)
	o.Workers, errs[2] = strconv.Atoi(*workers)
	o.Faults, errs[3] = parseFaults(*faults)
	o.Interval, errs[4] = time.ParseDuration(*interval)
	if err := errors.Join(errs[:]...); err != nil {
		return o, err
	}
	switch {
	case o.Duration < time.Second:
		return o, fmt.Errorf("the duration must be at least 1s, got %s", o.Duration)
	case o.Workers < leastWorkers:
		return o, fmt.Errorf("there must be at least %d workers, got %d", leastWorkers, o.Workers)
	case o.Interval < 10*time.Millisecond:
		return o, fmt.Errorf("the interval must be at least 10ms, got %s", o.Interval)
	}
	return o, nil
}

// parseFaults reads a list with commas; an empty one is all.
func parseFaults(list string) ([]fault, error) {
	if strings.TrimSpace(list) == "" {
		return allFaults, nil
	}
	var faults []fault
	for name := range strings.SplitSeq(list, ",") {
		f := fault(strings.TrimSpace(name))
		if !has(allFaults, f) {
			return nil, fmt.Errorf("there is no fault %q; there are %s", f, joined(allFaults))
		}
		faults = append(faults, f)
	}
	return faults, nil
}

// joined is the list as people write it.
func joined(faults []fault) string {
	names := make([]string, len(faults))
	for i, f := range faults {
		names[i] = string(f)
	}
	return strings.Join(names, ",")
}

// environment is the process's.
func environment(name string) string { return os.Getenv(name) }

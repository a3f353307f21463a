package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"runtime/pprof"
	"sync"
	"syscall"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/child"
)

// job is what a process does.
type job struct {
	Kind        string // a key of jobs
	DSN         string
	Name        string
	Projections int    // how many
	Handler     string // a key of handlers
	Want        int64  // events that each projection handles; then the job is done. 0: it is never done
	Partitions  int    // of the worker; 0 means the default
	Workers     int    // in this process; 0 means 1
	Shared      int    // connections of the one pool that all of them share; 0: each has its own pool
	Spin        int    // iterations of a handler that computes
	OnlyLast    bool   // only the last projection counts
	Quiet       bool   // its warnings are expected
	NoMetrics   bool   // none are collected
	Poisoned    bool   // the events of one aggregate cannot be handled, and the policy parks it
	Traced      bool   // it has a tracer provider, which does nothing
	Rate        int    // events a second; 0 means as many as possible
	Seconds     int    // how long
	Opened      bool   // the connections append before it begins
	Events      int    // in the table
	Profile     string // the path that profiles' names begin with; empty for none
}

// jobs are what processes do; each returns when it is done or ctx has ended.
var jobs = map[string]func(context.Context, job, *progress) error{
	"raw":    runRaw,
	"parts":  runParts,
	"row":    runByHand,
	"batch":  runByHand,
	"sql":    runBySQL,
	"worker": runWorker,
	"append": runAppend,
}

// The parent's words to a process. Each is answered with an outcome; a process ends after stop, or when its parent does.
const (
	wordHowFar = "how far"
	wordStop   = "stop"
)

// serveIfAsked does the job, and exits, in a process that has one.
func serveIfAsked() {
	if j, asked := child.Asked[job](); asked {
		child.Exit(serve(j))
	}
}

// serve runs the job and answers the parent until it says stop.
func serve(j job) error {
	endProfile, err := profile(j.Profile)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p := &progress{}
	var running sync.WaitGroup
	running.Go(func() {
		if err := jobs[j.Kind](ctx, j, p); err != nil && ctx.Err() == nil {
			p.fail(err)
		}
	})
	words, err := pollable(os.Stdin)
	if err != nil {
		return err
	}
	in, out := bufio.NewScanner(words), json.NewEncoder(os.Stdout)
	for in.Scan() {
		last := in.Text() == wordStop
		if last {
			cancel()
			running.Wait()
		}
		if err := out.Encode(p.outcome(last)); err != nil || last {
			return endAll(err, endProfile)
		}
	}
	return in.Err()
}

// pollable is a file whose reads wait in Go's poller. A read that waits in the system keeps one of the process's processors, in the
// sense of GOMAXPROCS, until the runtime takes it away, which it does after up to 10 ms: of two, half of one would be lost to being asked
// every 20 ms.
func pollable(file *os.File) (*os.File, error) {
	if err := syscall.SetNonblock(int(file.Fd()), true); err != nil {
		return nil, fmt.Errorf("preparing to listen: %w", err)
	}
	return os.NewFile(file.Fd(), file.Name()), nil
}

func endAll(err error, end func() error) error {
	if endErr := end(); err == nil {
		err = endErr
	}
	return err
}

// profile begins to write a profile of the processor's time, and writes one of all allocations at its end.
func profile(path string) (end func() error, err error) {
	if path == "" {
		return func() error { return nil }, nil
	}
	file, err := os.Create(path + ".cpu.prof")
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, err
	}
	return func() error {
		pprof.StopCPUProfile()
		if err := file.Close(); err != nil {
			return err
		}
		file, err := os.Create(path + ".allocs.prof")
		if err != nil {
			return err
		}
		defer file.Close()
		return pprof.Lookup("allocs").WriteTo(file, 0)
	}, nil
}

// logger logs warnings and worse, which a measurement should not see.
func logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

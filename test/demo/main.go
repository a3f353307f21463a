// Command demo shows the orchestrator's main job: workers in processes of their own come, leave, die and freeze while they share
// a stream of events that several connections keep appending to. Everything shown is read from the tables. In the end SQL
// proves that each event was handled once, and in order; with SQL=1 in the environment the statements are shown.
//
// It serves the status page meanwhile; with KEEP=1 it goes on after the script, until Ctrl-C.
//
// It uses a throw-away PostgreSQL server, or a database of its own on the server that DATABASE_URL names.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

// limit bounds the demonstration, its teardown aside.
const limit = 80 * time.Second

// errLimit says that the limit was reached.
var errLimit = fmt.Errorf("not done within %s", limit)

// errInterrupted says that a person ended the demonstration.
var errInterrupted = errors.New("interrupted")

func main() {
	workload.ServeIfAsked()
	os.Exit(run())
}

func run() int {
	started := time.Now()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	goOn := os.Getenv("KEEP") != ""
	if !goOn {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, errLimit)
		defer cancel()
	}
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once

	d := newDemo(newScreen(os.Stdout, refreshable(os.Stdout)), started)
	d.showSQL, d.goOn = os.Getenv("SQL") != "", goOn
	figures, err := d.run(ctx)
	cause := context.Cause(ctx)
	interrupted := err != nil && cause != nil && !errors.Is(cause, errLimit)
	switch {
	case interrupted:
		err = errInterrupted // whatever else went wrong follows from it
	case err != nil && cause != nil && !errors.Is(err, cause):
		err = errors.Join(cause, err)
	}
	kept, closeErr := d.close(err != nil && !interrupted)
	if closeErr != nil {
		err = errors.Join(err, closeErr)
	}
	if err != nil {
		d.screen.say("")
		fmt.Println(verdict(figures, kept, time.Since(started), err))
		return 1
	}
	fmt.Println(verdict(figures, kept, time.Since(started), nil))
	return 0
}

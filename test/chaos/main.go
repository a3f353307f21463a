// Command chaos shows that the orchestrator keeps its promises under fire: `make chaos`.
//
// It runs worker processes, this program started again, against a durable PostgreSQL server of its own, has several writers append
// events in overlapping transactions, and does to all of them what happens in production, in an order that a seed decides. In the
// end it lets the world become quiet, waits until everything is handled, and looks for violations in SQL. For each check it prints
//
//	check NAME count=… allowed=0
//
// and as its last line `chaos: OK …` or `chaos: FAILED …`. The exit code is 1 after a violation; then logs, journals, tables and
// the server's log are kept in a directory that the last line names.
//
// Settings come from flags or from the environment, where make puts its variables:
//
//	make chaos SEED=7 DURATION=60s WORKERS=6 FAULTS=kill,freeze,restart INTERVAL=800ms VERBOSE=1 POOLER=1
//
// The schedule of faults and the handlers' failures are functions of the seed. What they meet with is not: processes and the database
// keep their own time. So the same seed is likely, not sure, to find the same trouble again.
//
// # What is checked
//
// Handlers write into workload_log within their transaction, and into a file (the journal) outside of it: a line when a call
// begins and one when it ends. lost, duplicated, disordered, read-model, shared, went-back and strangers look at the table.
// overlapped looks at the journals: two calls for one slot of a projection may overlap only if the older one's session had
// ended, as the server's log has it; and each batch tries to lock its slots with advisory locks, which live as long as its
// transaction, so that another live batch in the same slot is noticed also where clocks would not tell. repeated-outside looks for
// calls that were repeated though nothing had happened to the call before: no failure in its batch, no end of its session, process or
// server, no break of its connection.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

func main() {
	workload.ServeCustomIfAsked(runWorker)
	o, err := parseOptions(os.Args[1:], environment, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(2)
	}
	os.Exit(start(o))
}

func start(o options) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	r, err := run(ctx, o, os.Stdout)
	r.print(os.Stdout, o.Seed, err)
	if err != nil || !r.ok() {
		return 1
	}
	return 0
}

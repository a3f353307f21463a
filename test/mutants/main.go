package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"
	"time"
)

func main() {
	list := flag.Bool("l", false, "list the guards and end")
	markdown := flag.Bool("t", false, "print the table for README.md and end")
	flag.Parse()
	chosen, err := selected(os.Getenv("ONLY"), os.Getenv("PART"))
	if err == nil && *markdown {
		fmt.Print(table(chosen))
		return
	}
	if err == nil && *list {
		for _, g := range chosen {
			fmt.Printf("%-34s %-26s %s\n", g.Name, g.File, g.Test)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	began := time.Now()
	var results []result
	if err == nil {
		results, err = examine(ctx, chosen, tell)
	}
	stop()
	missed := show(results)
	seconds := time.Since(began).Seconds()
	switch {
	case err != nil:
		fmt.Printf("mutants: FAILED: %v\n", err)
	case missed > 0:
		fmt.Printf("mutants: FAILED: %d of %d guards are not missed by the test that is to, %.0f seconds\n", missed, len(results), seconds)
	default:
		fmt.Printf("mutants: OK: %d guards, each missed by a test, %.0f seconds\n", len(results), seconds)
		return
	}
	os.Exit(1)
}

// tell prints what came of one guard as soon as it is known: all of them take hours.
func tell(r result) {
	if r.fault == "" {
		fmt.Printf("%s: caught by %s, %.1f s\n", r.guard.Name, r.guard.Test, r.took.Seconds())
		return
	}
	fmt.Printf("%s: NOT CAUGHT: %s, %.1f s\n", r.guard.Name, r.fault, r.took.Seconds())
}

// show prints the table of results, after the output of those that are not as demanded, and returns how many these are.
func show(results []result) (missed int) {
	for _, r := range results {
		if r.fault != "" {
			missed++
			fmt.Printf("--- without %s (%s):\n%s\n", r.guard.Name, r.fault, r.output)
		}
	}
	if len(results) == 0 {
		return missed
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "guard\tfile\tcaught by\tseconds")
	for _, r := range results {
		caught := r.guard.Test
		if r.fault != "" {
			caught = "NOT CAUGHT: " + r.fault
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%.1f\n", r.guard.Name, r.guard.File, caught, r.took.Seconds())
	}
	_ = w.Flush()
	return missed
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	urfave "github.com/urfave/cli/v3"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
)

// deadLetters is the commands for events that could not be handled.
func (a *app) deadLetters() *urfave.Command {
	return &urfave.Command{
		Name:  "dead-letters",
		Usage: "look at events that could not be handled, and decide about them",
		Description: `A projection's error policy may park the aggregate of an event that could not be
handled: the event and those that follow it are put aside as letters. When the handler
has been repaired, 'try' says whether they would be handled now, 'retry' handles them in
order, and 'discard' gives them up. These act on whole aggregates.`,
		Commands: []*urfave.Command{
			{
				Name: "list", Usage: "list the events", Action: a.listLetters,
				Flags: filtering(&urfave.IntFlag{Name: "limit", Value: 100, Usage: "`most` events to list; 0 for all"}, stateFlag("retrying, stopped, parked, skipped or handled; default: all but handled")),
			},
			{Name: "groups", Usage: "list the failures that are alike, those of most events first", Flags: filtering(stateFlag("as for list")), Action: a.listGroups},
			{Name: "show", Usage: "show one event, and what it failed with", ArgsUsage: "POSITION", Flags: filtering(), Action: a.showLetter},
			{
				Name: "try", Usage: "say whether parked events would be handled now; nothing is kept", Flags: filtering(), Action: a.tryLetters,
				Description: "The workers call their handlers, and roll back. The exit code is 3 if one fails.",
			},
			{
				Name: "retry", Usage: "handle parked events again, in order", Action: a.retryLetters,
				Flags:       changing(filtering()...),
				Description: "Aggregates without letters left are parked no more. If one fails, what succeeded before\nit stays. The exit code is 3 if one fails. Without a worker that runs the projection the\nrequest waits; an interrupt leaves it to the workers.",
			},
			{
				Name: "discard", Usage: "delete the letters of parked aggregates: no handler handles them", Action: a.discardLetters,
				Flags: losing(filtering(&urfave.BoolFlag{Name: "all", Usage: "all of the replica set"}, stateFlag("parked, which is the default, or skipped: delete the records of events that were skipped"))...),
			},
			{
				Name: "cancel", Usage: "end what still waits of a retry or a trial", ArgsUsage: "OPERATION", Action: a.cancelOperation,
				Flags: changing(),
			},
		},
	}
}

var letterColumns = []column[admin.DeadLetter]{
	{"position", func(d admin.DeadLetter) string { return strconv.FormatInt(d.Position, 10) }},
	{"projection", func(d admin.DeadLetter) string { return d.Projection }},
	{"state", func(d admin.DeadLetter) string { return d.State }},
	{"type", func(d admin.DeadLetter) string { return d.EventType }},
	{"aggregate", func(d admin.DeadLetter) string { return named(d.Aggregate) }},
	{"attempts", func(d admin.DeadLetter) string { return strconv.Itoa(d.Attempts) }},
	{"failed last", lastFailed},
	{"group", func(d admin.DeadLetter) string { return orDash(d.Group) }},
	{"error", func(d admin.DeadLetter) string { return orDash(shortened(d.Error, 80)) }},
}

// lastFailed is when the event failed last. One that waits behind another has not failed.
func lastFailed(d admin.DeadLetter) string {
	if d.Attempts == 0 {
		return "-"
	}
	return moment(d.LastFailedAt)
}

// named is an aggregate in a column.
func named(of admin.Aggregate) string { return of.BoundedContext + "/" + of.Type + "/" + of.ID }

func (a *app) listLetters(ctx context.Context, c *urfave.Command) error {
	most := c.Int("limit")
	if most < 0 {
		return usage(c, fmt.Errorf("--limit must not be negative, got %d", most))
	}
	if err := checkFilter(c, letterStates...); err != nil {
		return err
	}
	adm, err := a.withoutArguments(ctx, c)
	if err != nil {
		return err
	}
	var letters []admin.DeadLetter
	more := false
	for letter, err := range adm.DeadLetters(ctx, filter(c)) {
		if err != nil {
			return err
		}
		if more = most > 0 && len(letters) == most; more {
			break
		}
		letters = append(letters, letter)
	}
	if err := a.found(ctx, c, adm, len(letters)); err != nil {
		return err
	}
	if err := printList(a, c, letters, letterColumns...); err != nil {
		return err
	}
	if more {
		a.say("There are more than %d; see --limit.", most)
	}
	return nil
}

// withoutArguments is the replica set's admin, for a command that takes no argument.
func (a *app) withoutArguments(ctx context.Context, c *urfave.Command, options ...admin.Option) (*admin.Admin, error) {
	if err := noArguments(c); err != nil {
		return nil, err
	}
	if _, err := form(c); err != nil {
		return nil, err
	}
	return a.admin(ctx, c, options...)
}

func (a *app) listGroups(ctx context.Context, c *urfave.Command) error {
	if err := checkFilter(c, letterStates...); err != nil {
		return err
	}
	adm, err := a.withoutArguments(ctx, c)
	if err != nil {
		return err
	}
	groups, err := adm.FailureGroups(ctx, filter(c))
	if err == nil {
		err = a.found(ctx, c, adm, len(groups))
	}
	if err != nil {
		return err
	}
	return printList(a, c, groups,
		column[admin.FailureGroup]{"group", func(g admin.FailureGroup) string { return orDash(g.Group) }},
		column[admin.FailureGroup]{"projection", func(g admin.FailureGroup) string { return g.Projection }},
		column[admin.FailureGroup]{"events", func(g admin.FailureGroup) string { return strconv.Itoa(g.Events) }},
		column[admin.FailureGroup]{"aggregates", func(g admin.FailureGroup) string { return strconv.Itoa(g.Aggregates) }},
		column[admin.FailureGroup]{"waiting", func(g admin.FailureGroup) string { return strconv.Itoa(g.Waiting) }},
		column[admin.FailureGroup]{"last", func(g admin.FailureGroup) string { return moment(g.Last) }},
		column[admin.FailureGroup]{"kind", func(g admin.FailureGroup) string { return orDash(g.Kind) }},
		column[admin.FailureGroup]{"from", func(g admin.FailureGroup) string { return orDash(g.Frame) }},
		column[admin.FailureGroup]{"example", func(g admin.FailureGroup) string { return shortened(g.Example, 60) }})
}

// argument is the only one: a number.
func argument(c *urfave.Command, what string) (int64, error) {
	if c.Args().Len() != 1 {
		return 0, usage(c, fmt.Errorf("%s takes one argument, the %s, got %d", c.Name, what, c.Args().Len()))
	}
	n, err := strconv.ParseInt(c.Args().First(), 10, 64)
	if err != nil || n < 1 {
		return 0, usage(c, fmt.Errorf("the %s must be a number above 0, got %q", what, c.Args().First()))
	}
	return n, nil
}

func (a *app) showLetter(ctx context.Context, c *urfave.Command) error {
	position, err := argument(c, "position")
	if err != nil {
		return err
	}
	adm, err := a.admin(ctx, c)
	if err != nil {
		return err
	}
	var found []admin.DeadLetter
	for _, state := range []string{"", "handled"} {
		f := filter(c)
		f.State = state
		for letter, err := range adm.DeadLetters(ctx, f) {
			if err != nil {
				return err
			}
			if letter.Position == position {
				found = append(found, letter)
			}
		}
	}
	switch len(found) {
	case 0:
		return fmt.Errorf("no projection has failed on the event at position %d", position)
	case 1:
	default:
		var names []string
		for _, d := range found {
			names = append(names, d.Projection)
		}
		slices.Sort(names)
		return usage(c, fmt.Errorf("several projections have failed on the event at position %d (%v): name one with --projection", position, names))
	}
	d := found[0]
	return printOne(a, c, d,
		[2]string{"position", strconv.FormatInt(d.Position, 10)}, [2]string{"projection", d.Projection}, [2]string{"state", d.State},
		[2]string{"event id", d.EventID.String()}, [2]string{"event type", d.EventType}, [2]string{"aggregate", named(d.Aggregate)},
		[2]string{"attempts", strconv.Itoa(d.Attempts)}, [2]string{"failed first", moment(d.FirstFailedAt)}, [2]string{"failed last", moment(d.LastFailedAt)},
		[2]string{"worker", d.Worker.String()}, [2]string{"generation", strconv.FormatInt(d.Generation, 10)},
		[2]string{"group", orDash(d.Group)}, [2]string{"error", orDash(d.Error)})
}

func (a *app) tryLetters(ctx context.Context, c *urfave.Command) error {
	if err := checkFilter(c); err != nil {
		return err
	}
	adm, err := a.withoutArguments(ctx, c, a.showingProgress())
	if err != nil {
		return err
	}
	if err := absent(ctx, adm, c.String("projection")); err != nil {
		return err // before anything is asked for: a trial leaves an operation
	}
	trials, err := adm.Try(ctx, filter(c))
	if err != nil {
		return err
	}
	if err := printList(a, c, trials,
		column[admin.Trial]{"projection", func(t admin.Trial) string { return t.Projection }},
		column[admin.Trial]{"aggregate", func(t admin.Trial) string { return named(t.Aggregate) }},
		column[admin.Trial]{"letters", func(t admin.Trial) string { return strconv.Itoa(t.Letters) }},
		column[admin.Trial]{"handled", func(t admin.Trial) string { return strconv.Itoa(t.Handled) }},
		column[admin.Trial]{"failed at", func(t admin.Trial) string {
			if t.FailedAt == 0 {
				return "-"
			}
			return strconv.FormatInt(t.FailedAt, 10)
		}},
		column[admin.Trial]{"error", func(t admin.Trial) string { return orDash(shortened(t.Error, 80)) }}); err != nil {
		return err
	}
	if slices.ContainsFunc(trials, func(t admin.Trial) bool { return t.FailedAt != 0 }) {
		return errFalse
	}
	return nil
}

func (a *app) retryLetters(ctx context.Context, c *urfave.Command) error {
	if err := checkFilter(c); err != nil {
		return err
	}
	adm, err := a.withoutArguments(ctx, c, a.showingProgress())
	if err != nil {
		return err
	}
	letters, aggregates, err := a.waiting(ctx, c, adm)
	if err != nil {
		return err
	}
	if aggregates == 0 {
		return a.nothingToRetry(c)
	}
	what := fmt.Sprintf("retry %s of %s", counted(letters, "letter", "letters"), counted(aggregates, "parked aggregate", "parked aggregates"))
	if ahead, err := a.goAhead(c, outcome{Projection: c.String("projection")}, what); !ahead {
		return err
	}
	result, err := adm.Retry(ctx, filter(c), c.String("reason"))
	if err != nil {
		return err
	}
	if err := a.printResult(c, result); err != nil {
		return err
	}
	if result.Failed > 0 {
		return errFalse
	}
	return nil
}

// nothingToRetry says that no letter is selected. As JSON it is the result of a retry of nothing.
func (a *app) nothingToRetry(c *urfave.Command) error {
	const says = "There is nothing to retry: no parked aggregate matches."
	if c.Bool("dry-run") {
		return a.done(c, outcome{Action: c.Name, Projection: c.String("projection"), DryRun: true}, says)
	}
	a.say(says)
	if asked, err := form(c); err != nil || asked != "json" {
		return err
	}
	return a.printJSON(admin.Result{})
}

// found is an error if nothing was found because the replica set has no projection of the name that was given.
func (a *app) found(ctx context.Context, c *urfave.Command, adm *admin.Admin, n int) error {
	if n > 0 {
		return nil
	}
	return absent(ctx, adm, c.String("projection"))
}

// waiting counts the letters that the flags select, with the others of their aggregates, and the aggregates.
func (a *app) waiting(ctx context.Context, c *urfave.Command, adm *admin.Admin) (letters, aggregates int, err error) {
	f := filter(c)
	type key struct {
		projection string
		of         admin.Aggregate
	}
	selected := map[key]int{}
	f.State = "parked"
	for d, err := range adm.DeadLetters(ctx, f) {
		if err != nil {
			return 0, 0, err
		}
		selected[key{d.Projection, d.Aggregate}]++
	}
	if len(selected) == 0 {
		return 0, 0, a.found(ctx, c, adm, 0)
	}
	for d, err := range adm.DeadLetters(ctx, admin.Filter{Projection: f.Projection, State: "parked"}) {
		if err != nil {
			return 0, 0, err
		}
		if selected[key{d.Projection, d.Aggregate}] > 0 {
			letters++
		}
	}
	return letters, len(selected), nil
}

func (a *app) discardLetters(ctx context.Context, c *urfave.Command) error {
	if f := filter(c); f == (admin.Filter{State: f.State}) && !c.Bool("all") {
		return usage(c, errors.New("say which with --projection, --group or another of the flags, or give --all"))
	}
	if err := checkFilter(c, "parked", "skipped"); err != nil {
		return err
	}
	adm, err := a.withoutArguments(ctx, c)
	if err != nil {
		return err
	}
	what, letters, err := a.toDiscard(ctx, c, adm)
	if err != nil {
		return err
	}
	if yes, err := a.confirmed(ctx, c, outcome{Projection: c.String("projection")}, what); !yes {
		return err
	}
	result, err := a.discardConfirmed(ctx, c, adm, letters)
	if err != nil {
		return err
	}
	return a.printResult(c, result)
}

// toDiscard says what a discard would lose, and how many letters that is.
func (a *app) toDiscard(ctx context.Context, c *urfave.Command, adm *admin.Admin) (what string, letters int, err error) {
	f := filter(c)
	if f.State != "skipped" {
		letters, aggregates, err := a.waiting(ctx, c, adm)
		return fmt.Sprintf("delete %s of %s, whose events no handler handles then",
			counted(letters, "letter", "letters"), counted(aggregates, "parked aggregate", "parked aggregates")), letters, err
	}
	for _, err := range adm.DeadLetters(ctx, f) {
		if err != nil {
			return "", 0, err
		}
		letters++
	}
	return "delete the records of " + counted(letters, "event that was skipped", "events that were skipped"), letters, a.found(ctx, c, adm, letters)
}

// discardConfirmed discards no more letters than somebody has confirmed. With --yes nobody was asked, so all are meant.
func (a *app) discardConfirmed(ctx context.Context, c *urfave.Command, adm *admin.Admin, letters int) (admin.Result, error) {
	if c.Bool("yes") {
		return adm.Discard(ctx, filter(c), c.String("reason"))
	}
	return adm.DiscardAtMost(ctx, filter(c), c.String("reason"), int64(letters))
}

func (a *app) printResult(c *urfave.Command, r admin.Result) error {
	fields := [][2]string{
		{"operation", strconv.FormatInt(r.Operation, 10)},
		{"aggregates", strconv.Itoa(r.Aggregates)},
		{"succeeded", strconv.Itoa(r.Succeeded)},
		{"failed", strconv.Itoa(r.Failed)},
		{"waiting", strconv.Itoa(r.Waiting)},
		{"events", strconv.FormatInt(r.Events, 10)},
	}
	for _, f := range r.Failures {
		fields = append(fields, [2]string{"failure", fmt.Sprintf("%s at %d, %s: %s", f.Projection, f.Position, named(f.Aggregate), shortened(f.Error, 200))})
	}
	return printOne(a, c, r, fields...)
}

func (a *app) cancelOperation(ctx context.Context, c *urfave.Command) error {
	operation, err := argument(c, "operation")
	if err != nil {
		return err
	}
	adm, err := a.admin(ctx, c)
	if err != nil {
		return err
	}
	if ahead, err := a.goAhead(c, outcome{Operation: operation}, fmt.Sprintf("cancel operation %d", operation)); !ahead {
		return err
	}
	if err := adm.Cancel(ctx, operation, c.String("reason")); err != nil {
		return err
	}
	return a.changed(c, outcome{Action: "cancel", Operation: operation}, "Cancelled operation %d.", operation)
}

// showingProgress has long work say how far it is, where somebody reads it.
func (a *app) showingProgress() admin.Option {
	const every = 5 * time.Second
	began, said := time.Now(), time.Now()
	return admin.WithProgress(func(r admin.Result) {
		if r.Waiting == 0 || time.Since(said) < every {
			return
		}
		said = time.Now()
		a.say("Operation %d after %s: %d of %s done, %s handled.", r.Operation, time.Since(began).Round(time.Second), r.Aggregates-r.Waiting,
			counted(r.Aggregates, "aggregate", "aggregates"), counted(r.Events, "event", "events"))
	})
}

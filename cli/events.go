package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	urfave "github.com/urfave/cli/v3"

	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
)

// aid is a trigger or an index of the events table that workers use if it is there.
type aid struct {
	name, brings    string
	has             func(*eventstore.Store, context.Context, eventstore.DB) (bool, error)
	install, remove func(*eventstore.Store, context.Context, eventstore.Execer) error
	unfinished      func(*eventstore.Store, context.Context, eventstore.DB) (bool, error)
}

// aids are those that there are.
var aids = []aid{
	{
		"wake-up", "a trigger that tells workers of appends",
		(*eventstore.Store).HasWakeUp, (*eventstore.Store).InstallWakeUp, (*eventstore.Store).RemoveWakeUp,
		func(*eventstore.Store, context.Context, eventstore.DB) (bool, error) { return false, nil }, // it comes and goes in one transaction
	},
	{
		"scope-index", "an index for projections that want few types of aggregates",
		(*eventstore.Store).HasScopeIndex, (*eventstore.Store).InstallScopeIndex, (*eventstore.Store).RemoveScopeIndex,
		(*eventstore.Store).HasUnfinishedScopeIndex,
	},
	{
		"slot-index", "an index for four workers or more that catch up over many events",
		(*eventstore.Store).HasSlotIndex, (*eventstore.Store).InstallSlotIndex, (*eventstore.Store).RemoveSlotIndex,
		(*eventstore.Store).HasUnfinishedSlotIndex,
	},
}

// events is the commands for what may be added to the events table.
func (a *app) events() *urfave.Command {
	flags := func() []urfave.Flag {
		return []urfave.Flag{
			&urfave.DurationFlag{Name: "patience", Usage: "give up after this `duration`; default: wait as long as it takes", HideDefault: true},
			&urfave.BoolFlag{Name: "dry-run", Usage: "say what would be done, and do nothing"},
		}
	}
	var names, lines []string
	for _, one := range aids {
		names = append(names, one.name)
		lines = append(lines, fmt.Sprintf("  %-12s %s", one.name, one.brings))
	}
	description := "NAME is one of these:\n\n" + strings.Join(lines, "\n") + "\n\nNone of them changes what is handled, only how soon, and at what cost: docs/latency.md says when\neach pays. Open transactions may hold this up."
	arguments := strings.Join(names, "|")
	return &urfave.Command{
		Name:  "events",
		Usage: "look at the optional trigger and indexes of the events table, and install or remove them",
		Commands: []*urfave.Command{
			{Name: "status", Usage: "say which of them are installed", Action: a.eventsStatus},
			{Name: "install", Usage: "install one of them", ArgsUsage: arguments, Description: description, Flags: flags(), Action: a.eventsInstall},
			{Name: "remove", Usage: "remove one of them", ArgsUsage: arguments, Description: description, Flags: flags(), Action: a.eventsRemove},
		},
	}
}

// aidStatus is whether one of them is installed, as JSON has it.
type aidStatus struct {
	Name      string `json:"name"`
	Installed bool   `json:"installed"`
	// Unfinished is that there is one which workers do not use, though appends maintain it.
	Unfinished bool `json:"unfinished"`
}

// text is the status for a person.
func (s aidStatus) text() string {
	text := map[bool]string{true: "yes", false: "no"}[s.Installed]
	if s.Unfinished {
		text += "; one is being built or removed, or was left behind: install or remove it again"
	}
	return text
}

// aidStatus is how one of them is.
func (a *app) aidStatus(ctx context.Context, store *eventstore.Store, db eventstore.DB, one aid) (s aidStatus, err error) {
	s.Name = one.name
	if s.Installed, err = one.has(store, ctx, db); err != nil {
		return s, err
	}
	s.Unfinished, err = one.unfinished(store, ctx, db)
	return s, err
}

func (a *app) eventsStatus(ctx context.Context, c *urfave.Command) error {
	if err := noArguments(c); err != nil {
		return err
	}
	db, err := a.database(ctx, c)
	if err != nil {
		return err
	}
	list := make([]aidStatus, len(aids))
	for i, one := range aids {
		if list[i], err = a.aidStatus(ctx, a.eventStore(c), db, one); err != nil {
			return err
		}
	}
	return printList(a, c, list,
		column[aidStatus]{"name", func(s aidStatus) string { return s.Name }},
		column[aidStatus]{"installed", aidStatus.text})
}

func (a *app) eventsInstall(ctx context.Context, c *urfave.Command) error {
	return a.changeAid(ctx, c, true)
}

func (a *app) eventsRemove(ctx context.Context, c *urfave.Command) error {
	return a.changeAid(ctx, c, false)
}

// changeAid installs or removes the one that the argument names, unless it is as wanted.
func (a *app) changeAid(ctx context.Context, c *urfave.Command, install bool) error {
	i := slices.IndexFunc(aids, func(one aid) bool { return one.name == c.Args().First() })
	if c.Args().Len() != 1 || i < 0 {
		return usage(c, fmt.Errorf("%s takes one argument, %s, got %q", c.Name, c.ArgsUsage, strings.Join(c.Args().Slice(), " ")))
	}
	if patience := c.Duration("patience"); patience < 0 || c.IsSet("patience") && patience == 0 {
		return usage(c, fmt.Errorf("--patience must be above 0, got %s", patience))
	} else if patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	db, err := a.database(ctx, c)
	if err != nil {
		return err
	}
	one, store := aids[i], a.eventStore(c)
	is, err := a.aidStatus(ctx, store, db, one)
	if err != nil {
		return err
	}
	do, already, become := one.remove, "not installed", "removed"
	if install {
		do, already, become = one.install, "installed already", "installed"
	}
	if is.Installed == install && (install || !is.Unfinished) {
		return a.done(c, outcome{Action: c.Name, DryRun: c.Bool("dry-run")}, "The %s is %s: there is nothing to do.", one.name, already)
	}
	if ahead, err := a.goAhead(c, outcome{}, fmt.Sprintf("%s the %s", c.Name, one.name)); !ahead {
		return err
	}
	began := time.Now()
	if err := do(store, ctx, db); err != nil {
		if c.Duration("patience") > 0 && errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("gave up after --patience %s: %w", c.Duration("patience"), err)
		}
		return err
	}
	return a.changed(c, outcome{Action: c.Name}, "The %s is %s, after %s.", one.name, become, time.Since(began).Round(time.Millisecond))
}

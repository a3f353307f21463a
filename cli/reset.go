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

// reset is the command that rebuilds a projection.
func (a *app) reset() *urfave.Command {
	return &urfave.Command{
		Name: "reset", Usage: "have a projection begin again at an earlier point", ArgsUsage: "PROJECTION",
		Description: "A worker empties the read model, with the projection's own Reset, and sets the checkpoints\nback, in one transaction. Then the workers rebuild it. Without --wait the command ends\nwhen that has begun; 'projections rebuild' says how far it is. With --wait the exit code is 3 if the\nrebuild waits for a person: the projection is paused or stopped, or no worker runs it.\n\nA projection without a Reset needs --checkpoints-only: its handler sees the events again and\nmust bear that.",
		Flags: losing(
			&urfave.StringFlag{Name: "to", Value: "start", Usage: "`point` to begin at: start or, with --checkpoints-only, a position or a time such as 2026-05-01T06:00:00Z"},
			&urfave.BoolFlag{Name: "checkpoints-only", Usage: "leave the read model as it is"},
			&urfave.BoolFlag{Name: "wait", Usage: "wait until the projection is where it was, and show how far it is"}),
		Action: a.resetProjection, ShellComplete: a.completeProjections,
	}
}

// point is what --to says.
func point(c *urfave.Command) (admin.Point, error) {
	text := c.String("to")
	if text == "start" {
		return admin.Start(), nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		if n < 0 {
			return admin.Point{}, usage(c, fmt.Errorf("--to must not be a negative position, got %d", n))
		}
		return admin.Position(n), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return admin.Point{}, usage(c, fmt.Errorf("--to must be start, a position, or a time such as 2026-05-01T06:00:00Z, got %q", text))
	}
	return admin.Time(at), nil
}

// projection is the only argument.
func projectionArgument(c *urfave.Command) (string, error) {
	if c.Args().Len() != 1 || c.Args().First() == "" {
		return "", usage(c, fmt.Errorf("%s takes one argument, the projection, got %d", c.Name, c.Args().Len()))
	}
	return c.Args().First(), nil
}

func (a *app) resetProjection(ctx context.Context, c *urfave.Command) error {
	name, err := projectionArgument(c)
	if err != nil {
		return err
	}
	to, err := point(c)
	if err != nil {
		return err
	}
	if to != admin.Start() && !c.Bool("checkpoints-only") {
		return usage(c, fmt.Errorf("--to must be start unless --checkpoints-only is given, got %q: the projection's Reset empties all of its read model, so what is from before that would be missing for ever", c.String("to")))
	}
	adm, err := a.admin(ctx, c)
	if err != nil {
		return err
	}
	what, do, refused := fmt.Sprintf("empty the read model of projection %q and have it begin again at %s", name, to), adm.Reset, adm.PreviewReset
	if c.Bool("checkpoints-only") {
		what, do, refused = fmt.Sprintf("have projection %q begin again at %s, with its read model as it is", name, to), adm.ResetCheckpoints, adm.PreviewResetCheckpoints
	}
	if what, err = a.previewed(ctx, c, adm, what, func() error { return refused(ctx, name, to) }, name); err != nil {
		return err
	}
	if yes, err := a.confirmed(ctx, c, outcome{Projection: name, To: to.String()}, what); !yes {
		return err
	}
	if err := do(ctx, name, to, c.String("reason")); err != nil {
		return known(ctx, adm, name, err)
	}
	did := outcome{Action: "reset", Projection: name, To: to.String()}
	if !c.Bool("wait") {
		return a.changed(c, did, "Projection %q begins again at %s.", name, to)
	}
	a.say("Projection %q begins again at %s.", name, to)
	r, err := a.awaitRebuild(ctx, adm, name)
	if why, stands := errors.AsType[standstillError](err); stands {
		return errors.Join(a.changed(c, did, "The rebuild of projection %q does not go on: %s.", name, why), errFalse)
	}
	if err != nil {
		return err
	}
	if did.PutAside, err = putAside(ctx, adm, name, r.From); err != nil {
		return fmt.Errorf("projection %q has been rebuilt; counting the events that it has put aside: %w", name, err)
	}
	if did.PutAside > 0 {
		return a.changed(c, did, "Projection %q has been rebuilt, but %s put aside: see 'dead-letters list --projection'.",
			name, counted(did.PutAside, "event was", "events were"))
	}
	return a.changed(c, did, "Projection %q has been rebuilt.", name)
}

// putAside counts the letters of parked aggregates beyond a position. A reset has discarded those that there were.
func putAside(ctx context.Context, adm *admin.Admin, name string, beyond int64) (n int, err error) {
	for d, err := range adm.DeadLetters(ctx, admin.Filter{Projection: name, State: "parked"}) {
		if err != nil {
			return 0, err
		}
		if d.Position > beyond {
			n++
		}
	}
	return n, nil
}

// rebuildSays is how often the command tells how far a rebuild is, and how often it looks whether the rebuild stands still.
const rebuildSays = 2 * time.Second

// awaitRebuild waits until a projection is where it was before its reset. If a person must act first, it returns a standstillError.
func (a *app) awaitRebuild(ctx context.Context, adm *admin.Admin, name string) (admin.Rebuild, error) {
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	said, watch := time.Now(), standstill{admin: adm, projection: name}
	for {
		r, err := adm.Rebuild(ctx, name)
		switch {
		case err != nil && ctx.Err() != nil:
			return r, fmt.Errorf("the rebuild goes on: %w", ctx.Err())
		case err != nil:
			return r, err
		case r.Complete:
			return r, nil
		case time.Since(said) >= rebuildSays:
			said = time.Now()
			a.say("%s", rebuildText(r))
		}
		if err := watch.look(ctx); err != nil {
			return r, err
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// standstillError is why a rebuild waits for a person, or for a worker.
type standstillError string

// Error is the reason.
func (e standstillError) Error() string { return string(e) }

// standstill notices that a projection stands still.
type standstill struct {
	admin      *admin.Admin
	projection string
	looked     time.Time
	nobody     int // looks in a row at which no worker ran it
}

// look returns a standstillError if the projection stands still until somebody acts. It looks once every rebuildSays.
func (s *standstill) look(ctx context.Context) error {
	if time.Since(s.looked) < rebuildSays {
		return nil
	}
	s.looked = time.Now()
	snapshot, err := s.admin.Snapshot(ctx)
	i := slices.IndexFunc(snapshot.Projections, func(p admin.Projection) bool { return p.Name == s.projection })
	if err != nil || i < 0 {
		return nil //nolint:nilerr // the wait for the rebuild meets the same error
	}
	p := snapshot.Projections[i]
	if s.nobody++; p.Workers > 0 {
		s.nobody = 0
	}
	paused := slices.ContainsFunc(snapshot.Holds, func(h admin.Hold) bool { return h.Projection == s.projection && h.Until == nil })
	switch {
	case p.Stopped:
		return standstillError("the projection is stopped at an event that could not be handled")
	case p.Paused && paused:
		return standstillError("the projection is paused until it is resumed")
	case s.nobody > 1: // workers may be about to restart
		return standstillError("no worker runs the projection")
	}
	return nil
}

// rebuildCommand is the command that says how far a rebuild is.
func (a *app) rebuildCommand() *urfave.Command {
	return &urfave.Command{
		Name: "rebuild", Usage: "say how far the rebuild after the latest reset is; the exit code is 3 while it is not done", ArgsUsage: "PROJECTION",
		Action: a.rebuild, ShellComplete: a.completeProjections,
	}
}

func (a *app) rebuild(ctx context.Context, c *urfave.Command) error {
	name, err := projectionArgument(c)
	if err != nil {
		return err
	}
	if _, err := form(c); err != nil {
		return err
	}
	adm, err := a.admin(ctx, c)
	if err != nil {
		return err
	}
	r, err := adm.Rebuild(ctx, name)
	if err != nil {
		return known(ctx, adm, name, err)
	}
	json := progress{
		Operation: r.Operation, Began: r.Began, From: r.From, Until: r.Until, Position: r.Position, Complete: r.Complete, Handled: r.Handled,
		Rate: r.Rate, Left: r.Left.Seconds(),
	}
	if err := printOne(a, c, json, rebuildFields(r)...); err != nil {
		return err
	}
	if !r.Complete {
		return errFalse
	}
	return nil
}

// progress is a rebuild, as JSON has it.
type progress struct {
	Operation int64     `json:"operation"`
	Began     time.Time `json:"began"`
	From      int64     `json:"from"`
	Until     int64     `json:"until"`
	Position  int64     `json:"position"`
	Complete  bool      `json:"complete"`
	Handled   int64     `json:"handled"`
	Rate      float64   `json:"positions_per_second"`
	Left      float64   `json:"seconds_left"`
}

func rebuildFields(r admin.Rebuild) [][2]string {
	fields := [][2]string{
		{"operation", strconv.FormatInt(r.Operation, 10)},
		{"began", moment(r.Began)},
		{"position", fmt.Sprintf("%d of %d", reached(r), r.Until)},
		{"complete", strconv.FormatBool(r.Complete)},
	}
	if r.Left > 0 {
		fields = append(fields, [2]string{"left", fmt.Sprintf("%s at %.0f positions a second", r.Left.Round(time.Second), r.Rate)})
	}
	return fields
}

// reached is the position, without what the projection has handled after its rebuild.
func reached(r admin.Rebuild) int64 { return min(r.Position, r.Until) }

// rebuildText is a rebuild in a line.
func rebuildText(r admin.Rebuild) string {
	text := fmt.Sprintf("At position %d of %d", reached(r), r.Until)
	if r.Left > 0 {
		text += fmt.Sprintf(", %s left at %.0f positions a second", r.Left.Round(time.Second), r.Rate)
	}
	return text + "."
}

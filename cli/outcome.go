package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	urfave "github.com/urfave/cli/v3"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
)

// outcome is what a command did that prints no result, or would do, as JSON has it.
type outcome struct {
	Action     string     `json:"action"`
	Projection string     `json:"projection,omitempty"` // empty for all
	Worker     string     `json:"worker,omitempty"`
	ReplicaSet string     `json:"replica_set,omitempty"` // that got the projection
	Until      *time.Time `json:"until,omitempty"`
	Position   *int64     `json:"position,omitempty"`
	To         string     `json:"to,omitempty"`
	Operation  int64      `json:"operation,omitempty"`
	PutAside   int        `json:"put_aside,omitempty"` // events that a rebuild has
	Changed    bool       `json:"changed"`
	DryRun     bool       `json:"dry_run,omitempty"`
	Detail     string     `json:"detail"`
}

// done says what was done, and prints it as JSON if that is the form.
func (a *app) done(c *urfave.Command, o outcome, says string, args ...any) error {
	o.Detail = fmt.Sprintf(says, args...)
	a.say("%s", o.Detail)
	if asked, err := form(c); err != nil || asked != "json" {
		return err
	}
	return a.printJSON(o)
}

// changed is done for something that has changed.
func (a *app) changed(c *urfave.Command, o outcome, says string, args ...any) error {
	o.Changed = true
	return a.done(c, o, says, args...)
}

// looked is the projections of a target as they are. It is an error if there are none.
func looked(ctx context.Context, adm *admin.Admin, t admin.Target) ([]admin.Projection, error) {
	s, err := adm.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return targeted(s, t)
}

// targeted is the projections of a target in a snapshot.
func targeted(s admin.Snapshot, t admin.Target) ([]admin.Projection, error) {
	list := s.Projections
	if t.Projection != "" {
		list = slices.DeleteFunc(slices.Clone(list), func(p admin.Projection) bool { return p.Name != t.Projection })
	}
	switch {
	case len(list) > 0:
		return list, nil
	case t.Projection == "":
		return nil, fmt.Errorf("replica set %q has no projections: no worker has run in it", s.ReplicaSet)
	}
	return nil, fmt.Errorf("replica set %q has no projection %q%s", s.ReplicaSet, t.Projection, others(s.Projections))
}

// known is the error of an act on a projection. If the replica set has no such projection, the error says so, and which it has.
func known(ctx context.Context, adm *admin.Admin, name string, err error) error {
	if err == nil || errors.Is(err, admin.ErrInvalid) {
		return err
	}
	if none := absent(ctx, adm, name); none != nil {
		return none
	}
	return err
}

// absent returns an error if the replica set has no projection of that name. It returns nil without a name, and if the lookup fails.
func absent(ctx context.Context, adm *admin.Admin, name string) error {
	if name == "" {
		return nil
	}
	if s, err := adm.Snapshot(ctx); err == nil {
		_, none := targeted(s, admin.Target{Projection: name})
		return none
	}
	return nil
}

// others names the projections that there are.
func others(list []admin.Projection) string {
	const most = 10
	names := make([]string, 0, most)
	for _, p := range list {
		if len(names) == most {
			names = append(names, "…")
			break
		}
		names = append(names, fmt.Sprintf("%q", p.Name))
	}
	if len(names) == 0 {
		return ""
	}
	return "; it has " + strings.Join(names, ", ")
}

// standing is how projections are, in a few words.
func standing(list []admin.Projection) string {
	parts := make([]string, len(list))
	for i, p := range list {
		parts[i] = fmt.Sprintf("%s at position %d, %s behind", projectionState(p), p.Position, lagText(p.Lag, p.LagExact))
		if len(list) > 1 {
			parts[i] = fmt.Sprintf("%q %s", p.Name, parts[i])
		}
	}
	return strings.Join(parts, "; ")
}

// preview is what a dry run, or a question, adds to what is to be done: how the target is. Nothing is looked at otherwise, since that may need more rights.
func (a *app) preview(ctx context.Context, c *urfave.Command, adm *admin.Admin, t admin.Target, what string) (string, error) {
	if !c.Bool("dry-run") && (c.Bool("yes") || !asks(c)) {
		return what, nil
	}
	list, err := looked(ctx, adm, t)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s (%s)", what, standing(list)), nil
}

// previewed is preview for an act on projections that may be refused. A dry run ends with the act's own error then.
func (a *app) previewed(ctx context.Context, c *urfave.Command, adm *admin.Admin, what string, refused func() error, projections ...string) (string, error) {
	if c.Bool("dry-run") {
		if err := refused(); err != nil {
			for _, name := range projections {
				err = known(ctx, adm, name, err)
			}
			return "", err
		}
	}
	for _, name := range projections {
		var err error
		if what, err = a.preview(ctx, c, adm, admin.Target{Projection: name}, what); err != nil {
			return "", err
		}
	}
	return what, nil
}

// asks says whether the command is one that asks.
func asks(c *urfave.Command) bool {
	return slices.ContainsFunc(c.Flags, func(f urfave.Flag) bool { return slices.Contains(f.Names(), "yes") })
}

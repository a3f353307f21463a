package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	urfave "github.com/urfave/cli/v3"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
)

// inspecting are the commands that look into the rows.
func (a *app) inspecting() []*urfave.Command {
	return []*urfave.Command{
		{
			Name: "explain", Usage: "say what each projection did or will do with an event, and why", ArgsUsage: "POSITION",
			Description: "Only what a handler is known to have done is called handled. An event that lies behind the\ncheckpoint is passed: it was handled if it is in the projection's scope.",
			Action:      a.explain,
		},
		{
			Name: "timeline", Usage: "list what happened: generations, workers, failures, operations",
			Flags:  []urfave.Flag{&urfave.StringFlag{Name: "since", Value: "1h", Usage: "`how far` back: a time such as 90m or 24h, or a moment such as 2026-05-01T06:00:00Z"}},
			Action: a.timeline,
		},
		{
			Name: "verify", Usage: "look for what should not be in the rows; the exit code is 3 if there is something",
			Description: "Notes are worth knowing and no reason for the exit code.",
			Action:      a.verify,
		},
	}
}

func (a *app) explain(ctx context.Context, c *urfave.Command) error {
	position, err := argument(c, "position")
	if err != nil {
		return err
	}
	adm, err := a.admin(ctx, c)
	if err != nil {
		return err
	}
	list, err := adm.Explain(ctx, position)
	if err != nil {
		return err
	}
	return printList(a, c, list,
		column[admin.Explanation]{"projection", func(e admin.Explanation) string { return e.Projection }},
		column[admin.Explanation]{"outcome", func(e admin.Explanation) string { return string(e.Outcome) }},
		column[admin.Explanation]{"partition", func(e admin.Explanation) string { return orDash(e.Partition) }},
		column[admin.Explanation]{"worker", func(e admin.Explanation) string { return orDash(e.WorkerName) }},
		column[admin.Explanation]{"checkpoint", func(e admin.Explanation) string {
			if e.Outcome == admin.Uncovered {
				return "-"
			}
			return strconv.FormatInt(e.Checkpoint, 10)
		}},
		column[admin.Explanation]{"reason", func(e admin.Explanation) string { return orDash(e.Reason) }})
}

// since is the moment that a flag says.
func since(c *urfave.Command) (time.Time, error) {
	text := c.String("since")
	if back, err := time.ParseDuration(text); err == nil && back > 0 {
		return time.Now().Add(-back), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, usage(c, fmt.Errorf("--since must be a time above 0 such as 90m, or a moment such as 2026-05-01T06:00:00Z, got %q", text))
	}
	return at, nil
}

func (a *app) timeline(ctx context.Context, c *urfave.Command) error {
	from, err := since(c)
	if err != nil {
		return err
	}
	adm, err := a.withoutArguments(ctx, c)
	if err != nil {
		return err
	}
	entries, err := adm.Timeline(ctx, from)
	if err != nil {
		return err
	}
	return printList(a, c, entries,
		column[admin.Entry]{"at", func(e admin.Entry) string { return moment(e.At) }},
		column[admin.Entry]{"kind", func(e admin.Entry) string { return string(e.Kind) }},
		column[admin.Entry]{"what", func(e admin.Entry) string { return e.Text }})
}

func (a *app) verify(ctx context.Context, c *urfave.Command) error {
	adm, err := a.withoutArguments(ctx, c)
	if err != nil {
		return err
	}
	findings, err := adm.Verify(ctx)
	if err != nil {
		return err
	}
	if err := printList(a, c, findings,
		column[admin.Finding]{"severity", func(f admin.Finding) string { return string(f.Severity) }},
		column[admin.Finding]{"kind", func(f admin.Finding) string { return f.Kind }},
		column[admin.Finding]{"projection", func(f admin.Finding) string { return orDash(f.Projection) }},
		column[admin.Finding]{"rows", func(f admin.Finding) string { return strconv.FormatInt(f.Count, 10) }},
		column[admin.Finding]{"what", func(f admin.Finding) string { return f.Text }},
		column[admin.Finding]{"remedy", func(f admin.Finding) string { return orDash(f.Remedy) }}); err != nil {
		return err
	}
	if len(findings) == 0 {
		a.say("Nothing was found.")
	}
	if slices.ContainsFunc(findings, func(f admin.Finding) bool { return f.Severity != admin.Note }) {
		return errFalse
	}
	return nil
}

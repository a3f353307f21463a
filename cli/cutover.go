package cli

import (
	"context"
	"fmt"
	"strconv"
	"time"

	urfave "github.com/urfave/cli/v3"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
)

// cutOver is the command that has one projection take over from another.
func (a *app) cutOver() *urfave.Command {
	return &urfave.Command{
		Name: "cut-over", Usage: "have the new version of a projection take over from the old one", ArgsUsage: "FROM TO",
		Description: "TO must be a projection.Successor that replaces FROM, and have been built beside it. Both are held at one\nposition until both have reached it. Then, in one transaction, FROM ends and TO goes on.\nIf that is refused or takes too long, both go on as before. If the command is killed, they do so after\n--max-pause, or when you run 'projections resume'.",
		Flags: losing(
			&urfave.Int64Flag{Name: "max-apart", Value: 10_000, Usage: "refuse if parts of the projections are more than this `number` of positions apart"},
			&urfave.DurationFlag{Name: "max-pause", Value: 30 * time.Second, Usage: "the longest `duration` for which the projections are held"}),
		Action: a.cutOverProjection, ShellComplete: a.completeProjections,
	}
}

// longestPause is the most that admin.WithCutOverLimits takes.
const longestPause = 10 * time.Minute

// cutOverResult is what came of a cut-over, as JSON has it.
type cutOverResult struct {
	Operation int64   `json:"operation"`
	Position  int64   `json:"position"`
	Paused    float64 `json:"seconds_paused"`
}

func (a *app) cutOverProjection(ctx context.Context, c *urfave.Command) error {
	if c.Args().Len() != 2 {
		return usage(c, fmt.Errorf("%s takes two arguments, the old projection and the new one, got %d", c.Name, c.Args().Len()))
	}
	from, to := c.Args().Get(0), c.Args().Get(1)
	switch apart, pause := c.Int64("max-apart"), c.Duration("max-pause"); {
	case apart < 0:
		return usage(c, fmt.Errorf("--max-apart must not be negative, got %d", apart))
	case pause <= 0 || pause > longestPause:
		return usage(c, fmt.Errorf("--max-pause must be above 0 and at most %s, got %s", longestPause, pause))
	}
	adm, err := a.admin(ctx, c, admin.WithCutOverLimits(c.Int64("max-apart"), c.Duration("max-pause")))
	if err != nil {
		return err
	}
	what := fmt.Sprintf("end projection %q, and have %q take over from it", from, to)
	if what, err = a.previewed(ctx, c, adm, what, func() error { return adm.PreviewCutOver(ctx, from, to) }, from, to); err != nil {
		return err
	}
	if yes, err := a.confirmed(ctx, c, outcome{Projection: to}, what); !yes {
		return err
	}
	r, err := adm.CutOver(ctx, from, to, c.String("reason"))
	if err != nil {
		return known(ctx, adm, to, known(ctx, adm, from, err))
	}
	a.say("Projection %q has taken over from %q.", to, from)
	return printOne(a, c, cutOverResult{Operation: r.Operation, Position: r.Position, Paused: r.Paused.Seconds()},
		[2]string{"operation", strconv.FormatInt(r.Operation, 10)},
		[2]string{"position", strconv.FormatInt(r.Position, 10)},
		[2]string{"paused", r.Paused.Round(time.Millisecond).String()})
}

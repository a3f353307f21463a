package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	urfave "github.com/urfave/cli/v3"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
)

// letterStates are those of events that could not be handled.
var letterStates = []string{"retrying", "stopped", "parked", "skipped", "handled"}

func stateFlag(states string) urfave.Flag {
	return &urfave.StringFlag{Name: "state", Usage: "only events in this `state`: " + states}
}

// filtering are the flags of a filter, and more.
func filtering(more ...urfave.Flag) []urfave.Flag {
	at := urfave.TimestampConfig{Layouts: []string{time.RFC3339, time.DateOnly}}
	return append([]urfave.Flag{
		&urfave.StringFlag{Name: "projection", Aliases: []string{"p"}, Usage: "only this `projection`"},
		&urfave.StringFlag{Name: "bounded-context", Usage: "only aggregates of this `context`"},
		&urfave.StringFlag{Name: "aggregate-type", Usage: "only aggregates of this `type`"},
		&urfave.StringFlag{Name: "aggregate-id", Usage: "only the aggregates with this `id`"},
		&urfave.StringFlag{Name: "group", Usage: "only failures of this `group`, see groups"},
		&urfave.TimestampFlag{Name: "since", Usage: "only what failed last at this `time` or later, such as 2026-05-01T06:00:00Z", Config: at},
		&urfave.TimestampFlag{Name: "before", Usage: "only what failed last before this `time`", Config: at},
	}, more...)
}

// checkFilter says what is wrong with the flags of a filter. It may have these states.
func checkFilter(c *urfave.Command, states ...string) error {
	since, before := c.Timestamp("since"), c.Timestamp("before")
	switch state := c.String("state"); {
	case state != "" && !slices.Contains(states, state):
		return usage(c, fmt.Errorf("--state must be one of %s, got %q", strings.Join(states, ", "), state))
	case !since.IsZero() && !before.IsZero() && !since.Before(before):
		return usage(c, fmt.Errorf("--since (%s) must be before --before (%s)", moment(since), moment(before)))
	}
	return nil
}

func filter(c *urfave.Command) admin.Filter {
	return admin.Filter{
		Projection: c.String("projection"), BoundedContext: c.String("bounded-context"), AggregateType: c.String("aggregate-type"),
		AggregateID: c.String("aggregate-id"), Group: c.String("group"), State: c.String("state"),
		FailedSince: c.Timestamp("since"), FailedBefore: c.Timestamp("before"),
	}
}

package orchestrator

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// A projection may have several policies: from an option that names it, from the projection itself, from an option for
// all projections, and the default. This file chooses the one that applies, before the worker starts.
// projection/errorpolicy.go defines policies, and internal/handling applies them.

// policySource is where a projection's policy comes from, for logs and errors.
type policySource string

const (
	byOptionFor  policySource = "WithErrorPolicyFor"
	byProjection policySource = "its method ErrorPolicy"
	byOption     policySource = "WithErrorPolicy"
	byDefault    policySource = "the default"
)

// isOption says whether the policy was given as an option.
func (s policySource) isOption() bool { return s == byOptionFor || s == byOption }

// setPolicies gives each projection its error policy.
func (c *config) setPolicies(d *described) error {
	for _, name := range slices.Sorted(maps.Keys(c.errorPolicies)) {
		if !slices.Contains(d.names, name) {
			return fmt.Errorf("%w: WithErrorPolicyFor names the projection %q, which is not run: the projections are %q", ErrInvalidOption, abridged(name), d.names)
		}
	}
	for i := range d.projections {
		p := &d.projections[i]
		policy, source, err := c.policyOf(*p)
		if err != nil {
			return fmt.Errorf("%w: projection %q: %w", ErrInvalidProjections, p.Name, err)
		}
		invalid := ErrInvalidProjections
		if source.isOption() {
			invalid = ErrInvalidOption
		}
		p.Policy, err = handling.ErrorPolicy[projection.Outcome, projection.Class](policy).Policy(dbfault.Backoff{First: c.retryFirst, Max: c.retryMax})
		if err != nil {
			return fmt.Errorf("%w: the error policy of projection %q, by %s: %w", invalid, p.Name, source, err)
		}
		if p.Unpartitioned && p.Policy.Then == handling.Park {
			return fmt.Errorf("%w: the error policy of projection %q, by %s: Then must not be Park, since the projection is unpartitioned: "+
				"it promises one order across aggregates, and parking would change it; use Stop or Skip", invalid, p.Name, source)
		}
		d.sources = append(d.sources, source)
	}
	return nil
}

// policyOf is the policy that applies to a projection, and where it comes from.
func (c *config) policyOf(d handling.Description) (projection.ErrorPolicy, policySource, error) {
	if p, ok := c.errorPolicies[d.Name]; ok {
		return p, byOptionFor, nil
	}
	own, ok, err := handling.PolicyOf[projection.ErrorPolicied](d.Projection)
	switch {
	case err != nil || ok:
		return own, byProjection, err
	case c.errorPolicy != nil:
		return *c.errorPolicy, byOption, nil
	}
	return projection.ErrorPolicy{}, byDefault, nil
}

// logPolicies logs the policy of each projection.
func (d described) logPolicies(ctx context.Context, log *slog.Logger) {
	for i, p := range d.projections {
		attrs := []any{"projection", p.Name, "set_by", string(d.sources[i])}
		switch policy := p.Policy; {
		case policy.Then == handling.Retry:
			attrs = append(attrs, "then", "retry for ever")
		case policy.Attempts == 0:
			attrs = append(attrs, "attempts", "for ever", "then_if_permanent", policy.Then.String())
		default:
			attrs = append(attrs, "attempts", policy.Attempts, "then", policy.Then.String())
		}
		attrs = append(attrs, "first_delay", p.Policy.Backoff.First, "max_delay", p.Policy.Backoff.Max)
		if p.Policy.Timeout > 0 {
			attrs = append(attrs, "timeout", p.Policy.Timeout)
		}
		if p.Policy.Then == handling.Park {
			attrs = append(attrs, "max_parked", p.Policy.MaxParked, "max_parked_events", p.Policy.MaxParkedEvents)
		}
		if p.Policy.Classify != nil {
			attrs = append(attrs, "classify", "its own")
		}
		log.InfoContext(ctx, "the projection's error policy", attrs...)
	}
}

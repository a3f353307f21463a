package metrics

import "github.com/getpup/pupsourcing-orchestrator/v2/internal/measure"

// Prefix begins the name of every metric.
const Prefix = measure.Prefix

// Names returns the full names of all metrics, in the order of the table in the package comment.
func Names() []string { return measure.Names() }

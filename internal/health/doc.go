// Package health records whether the loops of a worker make progress, and whether the worker is ready. It makes no
// queries: the worker reports what it does.
package health

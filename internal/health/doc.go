// Package health knows whether the loops of a worker make progress, and whether the worker is ready. It asks nobody: the worker says what it does.
package health

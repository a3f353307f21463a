// Package cli is the command line of the orchestrator. The program cmd/pupsourcing-orchestrator is nothing but a call of [Run]. A program of your own can mount
// it too, beside its projections.
//
// The exit code is 0 if what was asked for was done, or is so; 1 if it failed; 2 if the command line is wrong; 3 if a condition that was asked for does not
// hold; and 4 if something was not confirmed.
package cli

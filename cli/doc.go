// Package cli is the command line of the orchestrator. The program cmd/pupsourcing-orchestrator only calls Run. You can
// also mount the command line in your own program, beside its projections.
//
// The exit codes are:
//
//	0  done, or the condition holds
//	1  failed
//	2  the command line is wrong
//	3  the condition does not hold
//	4  not confirmed
package cli

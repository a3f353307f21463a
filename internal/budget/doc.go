// Package budget shares the connections of a pool among the batches of a process. A batch waits for a place, so that those of all workers and manual runners
// on one pool leave connections for reading, for the horizon and for handlers, and no projection takes all of them.
package budget

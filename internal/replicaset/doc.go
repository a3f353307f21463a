// Package replicaset holds what is known and decided about a replica set, as values and pure functions. It does no I/O: package pgcoord
// stores its values, and package actors does what it decides.
package replicaset

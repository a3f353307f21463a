// Package measure records what package metrics documents and serves: the collectors,
// and a recorder for each replica set.
//
// Several orchestrators of one process may share a Registerer: every series carries the
// label replica_set. Each records through its own ReplicaSet, and deletes its series with
// Forget when it ends. A nil ReplicaSet records nothing.
package measure

// Package measure records the metrics that package metrics documents and serves. It has the collectors, and a recorder
// for each replica set.
//
// Several orchestrators in one process may share a Registerer, since every series has the label replica_set. Each
// records through its own ReplicaSet, and deletes its series with Forget when it ends. A nil ReplicaSet records nothing.
package measure

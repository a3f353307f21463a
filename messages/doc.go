// Package messages holds the messages that a worker's actors exchange. They are plain values, with one file per
// conversation. The comment of each message names its sender and its receiver, and says what it promises.
//
// A marker interface seals the set of messages that an actor accepts, so the compiler knows its whole protocol:
//
//	ToSupervisor   from its children and from the orchestrator
//	ToCoordinator  from the supervisor
//	ToHeartbeat    from the supervisor
//	ToHorizon      from the supervisor
//	ToReader       from the supervisor and from processors
//	ToPartition    from the supervisor and from its processors
//	ToProcessor    from its partition and from the reader
//
// Messages between siblings go through the supervisor, which knows which actors are alive. Only questions to the reader
// and its answers go directly. Messages that an actor sends to itself (ticks, results of its own work) are private and
// not in this package.
//
// The package is outside the module's compatibility promise.
package messages

// ToSupervisor is a message that the supervisor accepts.
type ToSupervisor interface{ toSupervisor() }

// ToCoordinator is a message that the coordinator accepts.
type ToCoordinator interface{ toCoordinator() }

// ToHeartbeat is a message that the heartbeat accepts.
type ToHeartbeat interface{ toHeartbeat() }

// ToHorizon is a message that the horizon accepts.
type ToHorizon interface{ toHorizon() }

// ToReader is a message that the reader accepts.
type ToReader interface{ toReader() }

// ToPartition is a message that a partition accepts.
type ToPartition interface{ toPartition() }

// ToProcessor is a message that a processor accepts.
type ToProcessor interface{ toProcessor() }

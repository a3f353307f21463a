// Package packed holds events in little memory that the garbage collector need not look into.
//
// An [es.PersistedEvent] is 264 bytes with nine pointers. A worker that catches up reads a million of them a second and
// hands each to a handler once; as lists of them, making, zeroing and collecting these would cost it a third of its time. Here an
// event is a record of about 100 bytes without pointers, and its values lie in pieces of up to 64 KiB. [Events.At] makes
// the event when a handler is to have it, by some 20 assignments and without an allocation.
package packed

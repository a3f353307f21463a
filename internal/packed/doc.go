// Package packed holds events in a small amount of memory that the garbage collector need not scan.
//
// An [es.PersistedEvent] is 264 bytes with nine pointers. A worker that catches up reads a million of them a second and
// passes each to a handler once. If they were kept as slices, allocating, zeroing and collecting them would take a third
// of its time. Here an event is a record of about 100 bytes without pointers, and its values are in pieces of up to 64
// KiB. [Events.At] builds the event for the handler, with some 20 assignments and no allocation.
package packed

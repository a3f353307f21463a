// Package eventread reads events for workers: of some slots, types and bounded contexts, up to the horizon.
//
// Positions become visible out of order when transactions overlap. A reader that follows the stream must not read past
// the horizon, which is Query.UpTo.
//
// # Statements
//
// A statement reads the events table in the order of positions and stops at a limit. Slots, types and contexts are filtered by the
// database, so unwanted events are never sent. Each slot has its own position after which its events are wanted (Query.Pieces).
// There is one text for each combination of filters, made once, so that pgx prepares it once per connection.
//
// By default a statement walks the primary key (filter.go). A read of a few types can walk the scope index instead, if there is one
// (indexed.go). Both are written such that the planner chooses this walk whatever the statistics say: a plan that sorts would read the
// whole backlog for each page.
//
// A read of few of the slots can use the slot index (slotted.go), which has each block of positions ordered by slots.
//
// A statement fails on a standby, and where row-level security hides rows: an empty answer could be a lie there.
//
// # Steps
//
// The primary key's scan passes over unwanted events in about 0.2 µs each. Over many of them a statement would take longer than the
// server allows, and would be repeated forever. So a statement goes over a bounded number of positions (span.go). [Reader] reduces the
// number after a timeout, and increases it after quick statements. It also measures how many of the events are wanted (density.go), and
// reads by the scope index where that is quicker.
//
// Rows come in parts ([Part]), each handed on as soon as it has arrived, in little memory (package packed).
package eventread

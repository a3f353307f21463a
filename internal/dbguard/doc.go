// Package dbguard makes sure that the answer of a statement can be trusted.
//
// A pool's connections are not alike. A fallback host or a load balancer may lead some of them to a standby, which answers with
// old rows. A role or a policy may hide rows. Such an answer looks like "there is nothing new", and events are lost.
//
// [Primary] is a condition for a statement's WHERE clause. It makes the statement fail, instead of answering, on a server that
// is a standby. [LimitAllRows] and [SelectAllRows] do so where row-level security hides rows. They are evaluated once per execution,
// before the first row is looked for, so a statement that finds nothing fails too. They cost no round trip and some microseconds.
//
// [Pool] is an application's pool, as the library uses it. It closes a connection whose server turned out to be a standby, so
// that the pool opens another.
package dbguard

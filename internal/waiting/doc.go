// Package waiting has applications wait until a projection has handled an event.
//
// All waits of a process at one database share a [Hub], which has one goroutine, the poller, while anybody waits. It looks at the tables with one
// statement for all of them. A worker of the same process tells the hub what it has committed, so its waits end without a look.
// Where workers get no notifications, the hub also looks who waits in other processes, while a checkpoint of theirs stays behind.
// [Decide] says what a look means for a wait. It is a function of values. The statement is that of package pgcoord.
package waiting

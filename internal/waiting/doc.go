// Package waiting lets applications wait until a projection has handled an event.
//
// All waits of a process on one database share a [Hub]. While there are waits, the hub has one goroutine, the poller,
// which reads the tables with one statement for all of them. A worker of the same process tells the hub what it has
// committed, so these waits end without a look. If the process's workers get no notifications, the hub also looks for
// waits of other processes, while a checkpoint of those workers lags behind. [Decide] says what a look means for a wait.
// It is a pure function. Package pgcoord has the statement.
package waiting

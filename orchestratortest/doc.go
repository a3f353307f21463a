// Package orchestratortest helps to test projections.
//
// [Handle] gives events to a handler within a transaction of the test, without workers. [CatchUp] has a worker handle what was appended, as in production.
// [CheckLaws] checks that the read model does not depend on how workers handle the events. [Failing] makes a projection fail where the test says so.
package orchestratortest

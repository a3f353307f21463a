// Package handling calls handlers safely, and knows what a projection says about itself.
//
// [Handle] turns whatever a handler may do (panic, Goexit, hide a failed statement, end the transaction) into errors that name it.
// [Describe] asks a projection for its name, scope and division, and refuses one that would lose what somebody meant to give it.
//
// It declares the interfaces that it needs, so that package projection, which documents them for users, can import it.
package handling

// Package eventrow reads rows of the events table: which columns a statement selects ([Columns]), and how its rows are packed into
// little memory ([Scanner]).
package eventrow

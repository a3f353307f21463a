// Package es holds the values of event sourcing: events before and after they
// are stored, expected versions, and an aggregate's stream. They have no
// behaviour beyond describing themselves and no dependency on a database.
//
// The fields carry the names that the pupsourcing library gives them, so that
// code written against it changes its imports and nothing else.
package es

// Package es holds the values of event sourcing: events before and after they are stored, expected versions, and an
// aggregate's stream. The values only describe themselves, and do not depend on a database.
//
// The fields have the same names as in the pupsourcing library, so code written for that library only changes its
// imports.
package es

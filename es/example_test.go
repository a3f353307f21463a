package es_test

import (
	"fmt"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

// An expected version says in which version an aggregate must be for an append to succeed.
func ExampleExpectedVersion() {
	const current = 3 // the aggregate has three events
	for _, expected := range []es.ExpectedVersion{es.Any(), es.NoStream(), es.Exact(3)} {
		fmt.Printf("%s: %t\n", expected, expected.Allows(current))
	}
	// Output:
	// any version: true
	// no stream: false
	// version 3: true
}

// The result of an append says which version the aggregate had before, and which it has now.
func ExampleAppendResult() {
	result := es.AppendResult{Events: []es.PersistedEvent{{AggregateVersion: 4}, {AggregateVersion: 5}}, GlobalPositions: []int64{17, 18}}
	fmt.Printf("from version %d to %d, positions %v\n", result.FromVersion(), result.ToVersion(), result.GlobalPositions)
	// Output: from version 3 to 5, positions [17 18]
}

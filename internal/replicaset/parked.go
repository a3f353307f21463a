package replicaset

// Aggregate names an aggregate.
type Aggregate struct{ BoundedContext, Type, ID string }

// Parked is an aggregate that is parked for a projection.
type Parked struct {
	Projection string
	Aggregate
	// Slot is the aggregate's, and Letters how many of its events are put aside.
	Slot    int
	Letters int
}

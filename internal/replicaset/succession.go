package replicaset

// CutOver is the kind of an operation in which one projection takes over from another.
const CutOver = "cut-over"

// Succession is that a projection has replaced another one at a cut-over.
type Succession struct {
	Projection, Replaced string
}

// Replaced is the projection that has replaced this one; empty if none has.
func Replaced(projection string, all []Succession) (by string) {
	for _, s := range all {
		if s.Replaced == projection {
			return s.Projection
		}
	}
	return ""
}

// Replays says whether a projection that says it replaces another has yet to take over.
func Replays(projection, replaces string, all []Succession) bool {
	if replaces == "" {
		return false
	}
	for _, s := range all {
		if s.Projection == projection {
			return false
		}
	}
	return true
}

package handling

// successor is projection.Successor.
type successor interface{ Replaces() string }

// replacedBy is the name of the projection that p, or what it wraps, is to replace; empty if it is to replace none.
func replacedBy(p Projection) string {
	s, ok := outermost[successor](layersOf(p))
	if !ok {
		return ""
	}
	return s.Replaces()
}

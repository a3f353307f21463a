package measure

// Kinds are the types that the documentation gives to the metrics, by full name.
func Kinds() map[string]string {
	kinds := make(map[string]string)
	for _, d := range newFamilies().described {
		kinds[Prefix+d.name] = d.kind
	}
	return kinds
}

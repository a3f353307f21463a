package packed

import "slices"

// compact is the events, in as much memory as they need.
func (l Events) compact() Events {
	small := 0
	for i := range l.records {
		if size := l.records[i].size(); size <= largeEvent {
			small += size
		}
	}
	records, memory := slices.Clone(l.records), exact{left: small}
	for i := range records {
		r := &records[i]
		r.piece, r.offset = memory.put(l.pieces[r.piece][r.offset:][:r.size()])
	}
	return Events{records: slices.Clip(records), pieces: slices.Clip(memory.pieces), names: compactNames(records, l.names)}
}

// compactNames is the names of the records, which refer to them from then on. They stay what they are if the records may need all.
func compactNames(records []record, names []string) []string {
	if len(names) <= 3*len(records) {
		return names
	}
	var used []string
	known := make(map[uint32]uint32)
	for i := range records {
		r := &records[i]
		for _, name := range []*uint32{&r.boundedContext, &r.aggregateType, &r.eventType} {
			at, ok := known[*name]
			if !ok {
				at = uint32(len(used))
				used = append(used, names[*name])
				known[*name] = at
			}
			*name = at
		}
	}
	return slices.Clip(used)
}

// exact is pieces that are made as large as what is put into them, and no larger than those of an arena.
type exact struct {
	pieces  [][]byte
	filling bool
	current int // the piece that is being filled, if one is
	used    int // of it
	left    int // bytes of the events to come that have no piece of their own
}

// put copies an event's values, and says where they are.
func (m *exact) put(values []byte) (piece, offset uint32) {
	size := len(values)
	if size > largeEvent {
		m.pieces = append(m.pieces, slices.Clone(values))
		return uint32(len(m.pieces) - 1), 0
	}
	if !m.filling || size > len(m.pieces[m.current])-m.used {
		m.pieces = append(m.pieces, make([]byte, min(m.left, maxPiece)))
		m.filling, m.current, m.used = true, len(m.pieces)-1, 0
	}
	from := m.used
	m.used += copy(m.pieces[m.current][from:], values)
	m.left -= size
	return uint32(m.current), uint32(from)
}

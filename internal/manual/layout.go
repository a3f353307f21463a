package manual

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// The names of a projection's rows. The row of all slots has the projection's name. That of partition k of N has name[k/N], and
// that of a part of a partition, from one slot up to another, has name[k/N:from-to].
var rowSuffix = regexp.MustCompile(`\[([0-9]{1,5})/([0-9]{1,5})(?::([0-9]{1,5})-([0-9]{1,5}))?\]$`)

// IsRow says whether a projection's name would be taken for that of a row of another projection's partition.
func IsRow(name string) bool { return rowSuffix.MatchString(name) }

// Row is a row of the checkpoints table.
type Row struct {
	Name     string
	Position int64
}

// Piece is a row of the checkpoints table and the slots that it covers.
type Piece struct {
	slot.Piece
	Name      string
	Partition slot.Partition
}

// Parse says which slots a row of the projection covers. ok is false for the row of another projection.
func Parse(projection string, row Row) (piece Piece, ok bool, err error) {
	piece = Piece{Name: row.Name, Piece: slot.Piece{Range: slot.All(), Position: row.Position}, Partition: slot.Partition{Total: 1}}
	if row.Name != projection {
		suffix, found := strings.CutPrefix(row.Name, projection)
		m := rowSuffix.FindStringSubmatch(suffix)
		if !found || m == nil || m[0] != suffix {
			return Piece{}, false, nil
		}
		if piece.Partition, piece.Range, err = parseSuffix(row.Name, m); err != nil {
			return Piece{}, false, err
		}
	}
	if row.Position < 0 {
		return Piece{}, false, fmt.Errorf("the checkpoint %q is at %d: positions begin at 0", row.Name, row.Position)
	}
	return piece, true, nil
}

// parseSuffix reads the partition and the slots from a row's name. m holds the matches of rowSuffix.
func parseSuffix(name string, m []string) (partition slot.Partition, slots slot.Range, err error) {
	partition = slot.Partition{Key: number(m[1]), Total: number(m[2])}
	if !partition.Valid() {
		return partition, slots, fmt.Errorf("the checkpoint %q is of a partition that cannot exist: delete it", name)
	}
	slots = partition.Range()
	if m[3] == "" {
		return partition, slots, nil
	}
	part := slot.Range{From: number(m[3]), To: number(m[4])}
	if both, _ := part.Intersect(slots); both != part || !part.Valid() {
		return partition, slots, fmt.Errorf("the checkpoint %q is of slots that partition %v does not have: delete it", name, partition)
	}
	return partition, part, nil
}

// number is a number of at most five digits.
func number(digits string) int {
	n, _ := strconv.Atoi(digits)
	return n
}

// Name is the name of a row.
func Name(projection string, partition slot.Partition, r slot.Range) string {
	switch {
	case r == slot.All():
		return projection
	case r == partition.Range():
		return fmt.Sprintf("%s[%v]", projection, partition)
	default:
		return fmt.Sprintf("%s[%v:%d-%d]", projection, partition, r.From, r.To)
	}
}

// ErrContradict says that rows of different numbers of partitions give the same aggregate different positions. The text names two of them.
var ErrContradict = errors.New("checkpoints of different numbers of partitions contradict each other")

// Layout says how the rows of a projection are to be changed before a partition is run.
type Layout struct {
	Own    []Piece  // the partition's rows afterwards, in order of their names
	Drop   []string // rows to be deleted
	Put    []Piece  // rows to be inserted after that
	Change bool     // of the number of partitions: every row of the projection is changed
}

// Plan makes the Layout for a partition out of the projection's rows. Every slot keeps its position, whatever the number of
// partitions was before: see settle.
func Plan(projection string, partition slot.Partition, rows []Row) (Layout, error) {
	var all, own []Piece
	l := Layout{}
	for _, row := range rows {
		piece, ok, err := Parse(projection, row)
		switch {
		case err != nil:
			return Layout{}, dbfault.Configuration(err)
		case !ok:
			continue
		}
		all = append(all, piece)
		if piece.Partition == partition {
			own = append(own, piece)
		}
		l.Change = l.Change || piece.Partition.Total != partition.Total
	}
	before, slots := own, partition.Range()
	if l.Change {
		before, slots = all, slot.All()
	}
	pieces, err := settle(before, projection, partition.Total, slots)
	if err != nil {
		return Layout{}, dbfault.Configuration(err)
	}
	after := appendNamed(nil, projection, partition, pieces)
	if l.Change {
		cut, err := slot.Recut(pieces, partition.Total)
		if err != nil {
			return Layout{}, err
		}
		after = nil
		for k, pieces := range cut {
			after = appendNamed(after, projection, slot.Partition{Key: k, Total: partition.Total}, pieces)
		}
	}
	l.compare(before, after)
	for _, p := range after {
		if p.Partition == partition {
			l.Own = append(l.Own, p)
		}
	}
	sortByName(l.Own)
	return l, nil
}

// compare finds out which rows must be deleted and which inserted.
func (l *Layout) compare(before, after []Piece) {
	was, is := map[Piece]bool{}, map[Piece]bool{}
	for _, p := range after {
		is[p] = true
	}
	for _, p := range before {
		if was[p] = true; !is[p] {
			l.Drop = append(l.Drop, p.Name)
		}
	}
	for _, p := range after {
		if !was[p] {
			l.Put = append(l.Put, p)
		}
	}
}

// Changed says whether any row is to be changed.
func (l *Layout) Changed() bool { return len(l.Drop)+len(l.Put) > 0 }

// Complete returns the partition's rows among those of the projection, and says whether they cover its slots exactly once.
func Complete(projection string, partition slot.Partition, rows []Row) (own []Piece, ok bool, err error) {
	for _, row := range rows {
		piece, mine, err := Parse(projection, row)
		if mine && piece.Partition == partition {
			own = append(own, piece)
		}
		if err != nil {
			return nil, false, dbfault.Configuration(err)
		}
	}
	covered := 0
	for i, p := range own {
		covered += p.Len()
		for _, other := range own[:i] {
			if _, both := p.Intersect(other.Range); both {
				return nil, false, nil
			}
		}
	}
	sortByName(own)
	return own, covered == partition.Range().Len(), nil
}

// settle returns pieces that cover the slots exactly once, where the projection is run with total partitions from now on. Neighbours have
// different positions. A slot's position is that of its row. One that has no row is at 0. One that has several is at the lowest of those of the
// same number of partitions, and where there are rows of several numbers:
//
//   - Rows of total partitions count, those of other numbers were left behind. But if one of them is above, it is not clear which are
//     the latest.
//   - Without rows of total partitions, those of the other numbers must agree.
//   - The row with the projection's name may have been entered by a person. If it is below all other rows, the slots begin there, unless there is a row of
//     total partitions: then it was left behind. If it is as low as the lowest, it says nothing that the others do not. It must not be above another row.
func settle(rows []Piece, projection string, total int, slots slot.Range) ([]slot.Piece, error) {
	byHand, columns, lowest := sorted(rows, projection, total)
	var found []slot.Piece
	for s := slots.From; s < slots.To; s++ {
		latest, err := latestRow(columns, total, s)
		if err != nil {
			return nil, err
		}
		position := int64(0)
		switch {
		case latest == nil && byHand != nil:
			position = byHand.Position
		case latest == nil:
		case byHand != nil && byHand.Position > latest.Position:
			return nil, contradiction(*latest, *byHand)
		case byHand == nil || total != 1 && latest.Partition.Total == total, byHand.Position == latest.Position, byHand.Position == lowest.Position:
			position = latest.Position
		case byHand.Position > lowest.Position: // which is of other slots, or was left behind
			return nil, contradiction(*lowest, *byHand)
		default:
			position = byHand.Position
		}
		if n := len(found); n > 0 && found[n-1].Position == position {
			found[n-1].To = s + 1
			continue
		}
		found = append(found, slot.Piece{Range: slot.Range{From: s, To: s + 1}, Position: position})
	}
	return found, nil
}

// sorted is the row with the projection's name, and the others by their numbers of partitions, total first: for each slot the lowest. lowest is the lowest
// of all others.
func sorted(rows []Piece, projection string, total int) (byHand *Piece, columns [][]*Piece, lowest *Piece) {
	numbers := []int{total}
	byNumber := map[int][]*Piece{} // by number of partitions, for each slot the lowest row
	for i := range rows {
		row := &rows[i]
		if row.Name == projection {
			byHand = row
			continue
		}
		of := byNumber[row.Partition.Total]
		if of == nil {
			of = make([]*Piece, slot.Count)
			byNumber[row.Partition.Total] = of
			numbers = append(numbers, row.Partition.Total)
		}
		for s := row.From; s < row.To; s++ {
			if of[s] == nil || row.Position < of[s].Position {
				of[s] = row
			}
		}
		if lowest == nil || row.Position < lowest.Position {
			lowest = row
		}
	}
	slices.Sort(numbers[1:])
	for _, number := range slices.Compact(numbers) {
		if of := byNumber[number]; of != nil {
			columns = append(columns, of)
		}
		delete(byNumber, number)
	}
	return byHand, columns, lowest
}

// latestRow finds the partition's row that counts for the slot. It returns nil if there is none.
func latestRow(columns [][]*Piece, total, s int) (*Piece, error) {
	var latest *Piece
	for _, column := range columns {
		row := column[s]
		switch {
		case row == nil:
		case latest == nil:
			latest = row
		case row.Position > latest.Position || latest.Partition.Total != total && row.Position != latest.Position:
			return nil, contradiction(*latest, *row)
		}
	}
	return latest, nil
}

func contradiction(p, q Piece) error {
	return fmt.Errorf("%w: %q is at %d and %q at %d: delete the rows of the number that was not the last", ErrContradict, p.Name, p.Position, q.Name, q.Position)
}

func appendNamed(named []Piece, projection string, partition slot.Partition, pieces []slot.Piece) []Piece {
	for _, p := range pieces {
		named = append(named, Piece{Piece: p, Name: Name(projection, partition, p.Range), Partition: partition})
	}
	return named
}

// sortByName puts rows in the order in which every transaction locks them.
func sortByName(pieces []Piece) {
	slices.SortFunc(pieces, func(p, q Piece) int { return strings.Compare(p.Name, q.Name) })
}

// Slots is the rows as the event store takes them.
func Slots(named []Piece) []slot.Piece {
	pieces := make([]slot.Piece, len(named))
	for i, p := range named {
		pieces[i] = p.Piece
	}
	return pieces
}

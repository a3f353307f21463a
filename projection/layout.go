package projection

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

// storedRow is a row of the checkpoints table.
type storedRow struct {
	name     string
	position int64
}

// namedPiece is a row of the checkpoints table and the slots that it covers.
type namedPiece struct {
	slot.Piece
	name      string
	partition slot.Partition
}

// parsePiece says which slots a row of the projection covers. ok is false for the row of another projection.
func parsePiece(projection string, row storedRow) (piece namedPiece, ok bool, err error) {
	piece = namedPiece{name: row.name, Piece: slot.Piece{Range: slot.All(), Position: row.position}, partition: slot.Partition{Total: 1}}
	if row.name != projection {
		suffix, found := strings.CutPrefix(row.name, projection)
		m := rowSuffix.FindStringSubmatch(suffix)
		if !found || m == nil || m[0] != suffix {
			return namedPiece{}, false, nil
		}
		if piece.partition, piece.Range, err = parseSuffix(row.name, m); err != nil {
			return namedPiece{}, false, err
		}
	}
	if row.position < 0 {
		return namedPiece{}, false, fmt.Errorf("the checkpoint %q is at %d: positions begin at 0", row.name, row.position)
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

// pieceName is the name of a row.
func pieceName(projection string, partition slot.Partition, r slot.Range) string {
	switch {
	case r == slot.All():
		return projection
	case r == partition.Range():
		return fmt.Sprintf("%s[%v]", projection, partition)
	default:
		return fmt.Sprintf("%s[%v:%d-%d]", projection, partition, r.From, r.To)
	}
}

// ErrCheckpointsContradict is what [PostgresProcessor.Run] returns, wrapped, where rows of different numbers of partitions
// give the same aggregate different positions. The text names two of them.
var ErrCheckpointsContradict = errors.New("checkpoints of different numbers of partitions contradict each other")

// ErrCheckpointGone is what [PostgresProcessor.Run] returns, wrapped, where the partition's checkpoint is not there any more: it was
// deleted, or a processor with another TotalPartitions has started.
var ErrCheckpointGone = errors.New("the partition's checkpoint is not there any more: somebody deleted it, or a processor with another TotalPartitions has started")

// layout says how the rows of a projection are to be changed before a partition is run.
type layout struct {
	own    []namedPiece // the partition's rows afterwards, in order of their names
	drop   []string     // rows to be deleted
	put    []namedPiece // rows to be inserted after that
	change bool         // of the number of partitions: every row of the projection is changed
}

// plan makes the layout for a partition out of the projection's rows. Every slot keeps its position, whatever the number of
// partitions was before: see settle.
func plan(projection string, partition slot.Partition, rows []storedRow) (layout, error) {
	var all, own []namedPiece
	l := layout{}
	for _, row := range rows {
		piece, ok, err := parsePiece(projection, row)
		switch {
		case err != nil:
			return layout{}, dbfault.Configuration(err)
		case !ok:
			continue
		}
		all = append(all, piece)
		if piece.partition == partition {
			own = append(own, piece)
		}
		l.change = l.change || piece.partition.Total != partition.Total
	}
	before, slots := own, partition.Range()
	if l.change {
		before, slots = all, slot.All()
	}
	pieces, err := settle(before, projection, partition.Total, slots)
	if err != nil {
		return layout{}, dbfault.Configuration(err)
	}
	after := appendNamed(nil, projection, partition, pieces)
	if l.change {
		cut, err := slot.Recut(pieces, partition.Total)
		if err != nil {
			return layout{}, err
		}
		after = nil
		for k, pieces := range cut {
			after = appendNamed(after, projection, slot.Partition{Key: k, Total: partition.Total}, pieces)
		}
	}
	l.compare(before, after)
	for _, p := range after {
		if p.partition == partition {
			l.own = append(l.own, p)
		}
	}
	sortByName(l.own)
	return l, nil
}

// compare finds out which rows must be deleted and which inserted.
func (l *layout) compare(before, after []namedPiece) {
	was, is := map[namedPiece]bool{}, map[namedPiece]bool{}
	for _, p := range after {
		is[p] = true
	}
	for _, p := range before {
		if was[p] = true; !is[p] {
			l.drop = append(l.drop, p.name)
		}
	}
	for _, p := range after {
		if !was[p] {
			l.put = append(l.put, p)
		}
	}
}

// changed says whether any row is to be changed.
func (l *layout) changed() bool { return len(l.drop)+len(l.put) > 0 }

// complete returns the partition's rows among those of the projection, and says whether they cover its slots exactly once.
func complete(projection string, partition slot.Partition, rows []storedRow) (own []namedPiece, ok bool, err error) {
	for _, row := range rows {
		piece, mine, err := parsePiece(projection, row)
		if mine && piece.partition == partition {
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
func settle(rows []namedPiece, projection string, total int, slots slot.Range) ([]slot.Piece, error) {
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
		case byHand == nil || total != 1 && latest.partition.Total == total, byHand.Position == latest.Position, byHand.Position == lowest.Position:
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
func sorted(rows []namedPiece, projection string, total int) (byHand *namedPiece, columns [][]*namedPiece, lowest *namedPiece) {
	numbers := []int{total}
	byNumber := map[int][]*namedPiece{} // by number of partitions, for each slot the lowest row
	for i := range rows {
		row := &rows[i]
		if row.name == projection {
			byHand = row
			continue
		}
		of := byNumber[row.partition.Total]
		if of == nil {
			of = make([]*namedPiece, slot.Count)
			byNumber[row.partition.Total] = of
			numbers = append(numbers, row.partition.Total)
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
func latestRow(columns [][]*namedPiece, total, s int) (*namedPiece, error) {
	var latest *namedPiece
	for _, column := range columns {
		row := column[s]
		switch {
		case row == nil:
		case latest == nil:
			latest = row
		case row.Position > latest.Position || latest.partition.Total != total && row.Position != latest.Position:
			return nil, contradiction(*latest, *row)
		}
	}
	return latest, nil
}

func contradiction(p, q namedPiece) error {
	return fmt.Errorf("%w: %q is at %d and %q at %d: delete the rows of the number that was not the last", ErrCheckpointsContradict, p.name, p.Position, q.name, q.Position)
}

func appendNamed(named []namedPiece, projection string, partition slot.Partition, pieces []slot.Piece) []namedPiece {
	for _, p := range pieces {
		named = append(named, namedPiece{Piece: p, name: pieceName(projection, partition, p.Range), partition: partition})
	}
	return named
}

// sortByName puts rows in the order in which every transaction locks them.
func sortByName(pieces []namedPiece) {
	slices.SortFunc(pieces, func(p, q namedPiece) int { return strings.Compare(p.name, q.name) })
}

// piecesOf is the rows as the event store takes them.
func piecesOf(named []namedPiece) []slot.Piece {
	pieces := make([]slot.Piece, len(named))
	for i, p := range named {
		pieces[i] = p.Piece
	}
	return pieces
}

package statuspage

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// The size of a plot, in its own units.
const (
	plotWidth  = 240
	plotHeight = 40
	plotMargin = 3
	plotGap    = 30 * time.Second // without samples: the line is broken

	plotShortest = 30 * time.Second // that a plot is wide
)

// plot is a line of values over the last minutes.
type plot struct {
	Lines  []string // of points
	Label  string   // the same in words
	Width  int
	Height int
}

// plotOf is the plot of a value of a projection; nil before there are two samples.
func plotOf(h history, projection, what string, value func(progress) int64) *plot {
	type point struct {
		at    time.Time
		value int64
	}
	var points []point
	for _, s := range h {
		if p, has := s.projections[projection]; has {
			points = append(points, point{s.at, value(p)})
		}
	}
	if len(points) < 2 {
		return nil
	}
	first, last := points[0], points[len(points)-1]
	lowest, highest := first.value, first.value
	for _, p := range points {
		lowest, highest = min(lowest, p.value), max(highest, p.value)
	}
	if what == "lag" {
		lowest = 0
	}
	result := &plot{Width: plotWidth, Height: plotHeight}
	result.Label = fmt.Sprintf("%s over the last %s: from %s to %s, between %s and %s", what, span(last.at.Sub(first.at)), number(first.value), number(last.value), number(lowest), number(highest))
	width := max(last.at.Sub(first.at), plotShortest)
	var line strings.Builder
	for i, p := range points {
		if i > 0 && p.at.Sub(points[i-1].at) > plotGap {
			result.Lines = append(result.Lines, line.String())
			line.Reset()
		}
		x := plotWidth * (1 - float64(last.at.Sub(p.at))/float64(width))
		y := float64(plotHeight - plotMargin)
		if highest > lowest {
			y -= float64(p.value-lowest) / float64(highest-lowest) * (plotHeight - 2*plotMargin)
		}
		fmt.Fprintf(&line, "%.1f,%.1f ", x, y)
	}
	result.Lines = append(result.Lines, line.String())
	return result
}

// rateOf is by how much the position of a projection grew in a second, over the samples of the last half minute; empty before there are two.
func rateOf(h history, projection string) string {
	if len(h) < 2 {
		return ""
	}
	last := h[len(h)-1]
	for _, s := range h {
		p, has := s.projections[projection]
		if took := last.at.Sub(s.at); has && took <= plotGap && took >= time.Second {
			rate := float64(last.projections[projection].position-p.position) / took.Seconds()
			return strconv.FormatFloat(max(0, rate), 'f', 0, 64)
		}
	}
	return ""
}

// segment is a range of slots in a bar.
type segment struct {
	X, Width int
	Class    string
	Title    string
}

// bar is the slots of a projection, coloured by worker.
type bar struct {
	Segments []segment
	Label    string // the same in words
	Slots    int
}

// labelMost is how many partitions the words for a bar name.
const labelMost = 12

func barOf(p admin.Projection, owner func(*uuid.UUID) (name, class string)) bar {
	b := bar{Slots: slot.Count}
	var words []string
	for _, part := range p.Partitions {
		name, class := owner(part.Worker)
		if name == "" {
			name = part.WorkerName
		}
		name = orNobody(name)
		partition := orDash(part.Partition)
		for _, r := range part.Ranges {
			held := ""
			switch {
			case r.StoppedAt != nil:
				held = ", stopped"
			case r.HoldAt != nil && r.Position >= *r.HoldAt && p.ReplacedBy == "":
				held = ", paused"
			}
			b.Segments = append(b.Segments, segment{
				r.SlotFrom, r.SlotTo - r.SlotFrom, class,
				fmt.Sprintf("%s: partition %s, slots %d to %d, position %s, lag %s%s", name, partition, r.SlotFrom, r.SlotTo-1, number(r.Position), lagText(r.Lag, r.LagExact), held),
			})
		}
		if len(words) < labelMost {
			words = append(words, fmt.Sprintf("%s has %s", name, partition))
		}
	}
	b.Label = strings.Join(words, ", ")
	if more := len(p.Partitions) - len(words); more > 0 {
		b.Label += fmt.Sprintf(" and %d more", more)
	}
	return b
}

func orNobody(name string) string {
	if name == "" {
		return "nobody"
	}
	return name
}

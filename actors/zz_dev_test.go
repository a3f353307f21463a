package actors

import (
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestDev(t *testing.T) {
	from, _ := strconv.Atoi(os.Getenv("FROM"))
	n, _ := strconv.Atoi(os.Getenv("N"))
	bad := 0
	shortest := ""
	size := 1 << 30
	for s := from; s < from+n; s++ {
		for _, po := range []bool{false, true} {
			w := newWorld(seeded{rand.New(rand.NewPCG(uint64(s), 1))}, po)
			w.history(100 + s%600)
			if w.violation != "" {
				bad++
				if bad < 12 {
					t.Log(s, po, w.violation)
				}
				if len(w.trace) < size {
					size = len(w.trace)
					shortest = strings.Join(w.trace, "\n")
				}
			}
		}
	}
	t.Log("bad", bad)
	t.Log(shortest)
}

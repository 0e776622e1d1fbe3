package shed

import (
	"math"
	"time"

	"github.com/even-keel/evenkeel/exchange"
)

// Numbers of kinds.
const (
	kindsMost  = 128   // kinds that share a place count as one
	kindBytes  = 64    // of a path that are looked at
	kindKnown  = 30.0  // answers of it in calm times make one known
	kindsFirst = 300.0 // of all, before they are told apart: what is known of a few would be off by more than what is looked for
	kindsMore  = 1.2   // times as long as before take answers…
	kindsAlike = 0.1   // …of which each takes what its kind takes in calm times, but for so much of its logarithm
)

// kinds are the requests of a pool by what they most likely ask for, and how long answers to each take in calm times. Where one in ten asks for another thing than before, all answers together take ten
// times as long, and no queue need be anywhere: 300 short requests a second, to which callers of a slow page came by and by, were refused for 15 s, before endpoints that had room for all.
// The zero value knows nothing. It is not safe for concurrent use.
type kinds struct {
	ref    float64 // what the logarithms of answers, each compared with its kind, are counted from; 0: nothing is known
	at     time.Duration
	bases  int // of the knee, as it learned
	places [kindsMost]struct {
		calm  kindSum // of calm times; older ones fade
		batch kindSum // since the last study
	}
}

// kindSum are some answers: how many, and the natural logarithms of their seconds together.
type kindSum struct{ count, logs float64 }

func (s *kindSum) add(o kindSum, keep float64) {
	s.count, s.logs = s.count*keep+o.count, s.logs*keep+o.logs
}

// compare tells win how the answers since the last study compare with their kinds: as half of them do at the most. A queue makes all kinds wait; where only some take longer, that is their
// work: one path in four became twenty times as slow, nobody waited anywhere, and S of before refused nearly everybody once all places were used. Where there is only one kind it is compared
// with nothing: a queue that grows slowly would become what is usual.
func (k *kinds) compare(win *Window) {
	win.Logs, win.Sorted = 0, k.ref != 0 && k.several()
	var known [kindsMost]struct{ count, longer float64 } // answers of each kind, and by how much their logarithms exceed those of calm times; in this order
	n, all, total := 0, 0.0, 0.0
	for i := range k.places {
		calm, b := k.places[i].calm, k.places[i].batch
		if total += b.count; b.count == 0 || !win.Sorted {
			win.Logs += b.logs
			continue
		}
		if calm.count < kindKnown {
			continue
		}
		all += b.count
		longer, at := b.logs/b.count-calm.logs/calm.count, n
		for ; at > 0 && known[at-1].longer > longer; at-- {
			known[at] = known[at-1]
		}
		known[at].count, known[at].longer = b.count, longer
		n++
	}
	if !win.Sorted {
		return
	}
	longer, below := 0.0, 0.0
	for _, one := range known[:n] {
		if longer, below = one.longer, below+one.count; below >= all/2 {
			break
		}
	}
	win.Logs = total * (k.ref + longer)
}

// several reports whether answers of more than one kind came.
func (k *kinds) several() bool {
	n := 0
	for i := range k.places {
		if k.places[i].calm.count+k.places[i].batch.count > 0 {
			n++
		}
	}
	return n > 1
}

// learn ends a study of c, and takes its answers for what answers take in calm times, if they are; of kinds that are known only where S is learned, too. What is known fades as the base of all answers does.
func (k *kinds) learn(now time.Duration, c *Core) {
	keep := math.Exp(-(now - k.at).Seconds() / c.knee.baseLasts())
	if k.at = now; k.bases != c.knee.bases {
		*k = kinds{at: now, bases: c.knee.bases}
		return
	}
	var all kindSum
	for i := range k.places {
		p := &k.places[i]
		b := p.batch
		p.batch = kindSum{}
		if !c.knee.sound || !c.knee.learns && p.calm.count >= kindKnown {
			b = kindSum{}
		}
		p.calm.add(b, keep)
		all.add(p.calm, 1)
	}
	if k.ref == 0 && all.count >= kindsFirst {
		k.ref = all.logs / all.count
	}
}

// kindOf is the number of x's kind: its method, its route and two segments of its path. A segment with a digit in it most likely names one of many, and counts as any of them.
func kindOf(x *exchange.Exchange) int {
	h := uint32(2166136261) // FNV-1a
	mix := func(b byte) { h = (h ^ uint32(b)) * 16777619 }
	if x.Request != nil && len(x.Request.Method) > 0 {
		mix(x.Request.Method[0])
	}
	if x.Route != nil {
		mix(byte(x.Route.Index))
	}
	path := x.Path[:min(len(x.Path), kindBytes)]
	for from, segments := 0, 0; from < len(path) && segments < 2; segments++ {
		to, before := from+1, h
		for ; to < len(path) && path[to] != '/'; to++ {
			if mix(path[to]); '0' <= path[to] && path[to] <= '9' {
				for ; to < len(path) && path[to] != '/'; to++ {
				}
				h = before
				mix('0')
				break
			}
		}
		mix('/')
		from = to
	}
	return int((h ^ h>>16) % kindsMost)
}

// sort takes what answers of each kind showed out of the counters. The lock is held.
func (g *Gate) sort() {
	for i := range g.shards {
		for j := range g.shards[i].kinds {
			one := &g.shards[i].kinds[j]
			if n := float64(one.count.Swap(0)); n > 0 {
				g.kinds.places[j].batch.add(kindSum{n, float64(one.logs.Swap(0))/(1<<logShift)*math.Ln2 - n*math.Log(1e6)}, 1)
			}
		}
	}
	g.kinds.compare(&g.win)
}

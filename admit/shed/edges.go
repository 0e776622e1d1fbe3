package shed

import "math"

// Numbers of the edges.
const (
	regular = 0.5 // variance of answers up to which they come in bursts that last
	sameS   = 0.1 // change of its logarithm up to which what was counted with the old one is of use
)

// edges blurs where a count begins and where it ends, by one S each. Places of a server that always takes the same time become free together, time and again: after a dip 400
// of them gave all their answers within a millisecond, ten times a second, and a count of 560 met one such burst or two. The rate came out as anything from 0.7 to 1.6 of what it
// was, each of these was a surprise and brought a dip, and an eighth of what the server could do was lost for good. The mean of all that are counted over one S from each
// moment is right, wherever in a burst the count begins or ends, as the answers of each place come one S apart.
//
// Where all share a processor it is the answers to all who are inside that come together, as many as the limit each time. Hence a count begins where the last one had as many as it needed, and not where
// it ended after that was blurred: one and a half bursts looked like half as many again.
type edges struct {
	turn  float64 // S, in seconds; 0: not known, and nothing is blurred
	from  float64 // seconds of the count when its end began; 0: it has not
	head  float64 // answers times seconds in the first S of the count…
	tail  float64 // …and in its end
	since gauge   // what was counted since the end began
	left  float64 // clients that left since then
}

// add notes part, which came after so much had been counted.
func (e *edges) add(part, counted gauge, left float64) {
	e.head += counted.count * min(part.time, max(e.turn-counted.time, 0))
	if e.from > 0 {
		e.tail += counted.count * min(part.time, max(e.from+e.turn-counted.time, 0))
		e.since.add(part, 1)
		e.left += left
	}
}

// count adds what came since the last look; fresh: of those let in since a dip began.
func (k *Knee) count(part, fresh gauge, left float64) {
	k.edges.add(part, k.now, left)
	k.now.add(part, 1)
	k.fresh.add(fresh, 1)
	k.left += left
}

// restart begins to count anew.
func (k *Knee) restart() {
	k.now, k.fresh, k.left, k.edges = gauge{}, gauge{}, 0, edges{turn: k.service}
}

// counted reports whether a count is complete. Where answers scatter, bursts do not last; and before a knee is known a count that takes one S less is worth more than one that is right.
func (k *Knee) counted() bool {
	e := &k.edges
	if !k.known || e.turn <= 0 || k.doubt() > regular {
		e.from = 0
		return k.Ready()
	}
	if e.from == 0 && k.Ready() {
		e.from, e.tail, e.since, e.left = k.now.time, 0, gauge{}, 0
	}
	return e.from > 0 && k.now.time >= e.from+e.turn
}

// take ends a count. The next one has begun where the end of this one did.
func (k *Knee) take() (part gauge, left float64) {
	all, left, e := k.now, k.left, k.edges
	k.restart()
	if e.from == 0 {
		return all, left
	}
	if math.Abs(math.Log(e.turn/k.service)) <= sameS {
		k.now, k.left, k.edges = e.since, e.left, edges{turn: e.turn, head: e.tail - (all.count-e.since.count)*e.turn}
	}
	return gauge{max(e.tail-e.head, 0) / e.turn, e.from, all.area - e.since.area}, left - e.left
}

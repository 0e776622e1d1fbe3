package shed

import "math"

// Numbers of the climb.
const (
	climbFew   = 16.0 // answers are its first round…
	climbFirst = 0.5  // …and as many as this part of the limit the second. Each later one has as many as the limit
	climbLate  = 0.5  // of the logarithm by which more are inside: answers that take longer by this wait at the endpoints…
	climbSure  = 0.5  // …and it takes so many standard deviations to say so, or that they do not
)

// climb is a limit that grows by one for each answer before anything is known, as a congestion window does in slow start (RFC 5681, 3.1; RFC 9406 ends that by delays, too): where there is
// room for more it doubles in the time that an answer takes. A search that waits for what each limit shows takes three times as long: evenkeel that was started anew before 1500 places,
// four fifths of them in use, refused a third of all for seven seconds.
//
// It goes in rounds. In each twice as many are inside as in the one before, and if answers do not take longer for it, there is room. Before that is sure the limit does not grow: before
// few places that would cost the rest of the overload.
type climb struct {
	on, over       bool
	grows          bool    // there was room in the last round
	want           float64 // answers of this one
	now, last      gauge
	took, lastTook latency // what the answers themselves took
}

// climbs lets the limit grow, and reports whether it may still do so.
func (k *Knee) climbs(part gauge, f Flow) bool {
	c := &k.climb
	if c.over {
		return false
	}
	if !c.on {
		c.on, c.want = f.Waiting > 0 && k.fill.top > 0, climbFew
		return c.on
	}
	if c.now.count >= c.want && (k.noise() > regular || c.now.time >= c.took.mean()) { // what always takes as long is answered in bursts, that long apart
		if k.climbed(f); c.over {
			return false
		}
	}
	if c.grows && f.Waiting > 0 {
		k.raise(k.limit+part.count, f)
	}
	return true
}

// climbed looks at a round that has its answers. How long they take is by how many were inside for each that came, as of the answers themselves the quick ones come first; but where all
// take as long, the first round has few for all who came in it, and they tell themselves.
func (k *Knee) climbed(f Flow) {
	c := &k.climb
	if c.last.count == 0 {
		c.next(climbFirst * k.Limit())
		return
	}
	inside := math.Log(c.now.inside() / c.last.inside())
	longer := math.Log(c.last.rate()/c.now.rate()) + inside
	if min(c.took.count, c.lastTook.count) >= fillLeast && k.fill.even() {
		longer = math.Log(c.took.mean() / c.lastTook.mean())
	}
	longer -= climbLate * inside
	chance := climbSure * math.Sqrt(k.noise()*(1/c.now.count+1/c.last.count))
	switch c.grows = longer <= -chance; {
	case longer > chance || f.Waiting == 0 && inside < differs:
		c.over = true
	case c.grows:
		k.low.add(hasty*c.last.count, hasty*c.last.area, 0, 0.5)
		k.fewer, k.fewest = c.last, c.last.inside()
		c.next(k.Limit())
	}
}

// next begins a round of so many answers.
func (c *climb) next(want float64) {
	c.last, c.now, c.lastTook, c.took, c.want = c.now, gauge{}, c.took, latency{}, want
}

package shed

import "math"

// strayMost is up to how many times the limit strays take no room. With more, as where endpoints come back again and again only to hang, one for each endpoint in service may be inside beside them: what
// hangs grows slowly then, and the others still answer. To refuse all would not end a single stray, and the limit may fall far below what hung at once.
const strayMost = 4

// room is how many may be inside together with those whose endpoint was taken out of service before it answered. These take nothing of what the others can do, and one
// that hangs does not answer them: with six of them before two good endpoints and a limit of five, everybody was refused until they gave up. The
// bound that the site file sets holds for all. The lock is held.
func (g *Gate) room(strays int64) int64 {
	n := int64(g.core.Limit())
	if strays > strayMost*n {
		n = min(n, int64(max(g.core.knee.endpoints, 1)))
	}
	return min(n+strays, g.most(strays))
}

// most is how many may be inside whatever happens, by the site file or for want of connections: who passes where a limit that was found says no is bound by it as well. The
// lock is held.
func (g *Gate) most(strays int64) int64 {
	switch most := g.set.Load().Max; {
	case most > 0:
		return int64(most)
	case g.core.cfg.Max > 0:
		return int64(g.core.cfg.Max) + strays
	}
	return math.MaxInt64
}

// strayed gives back the place of a stray, whose answer or end says nothing of the endpoints in service.
//
//go:noinline
func (g *Gate) strayed() {
	g.inFlight.Add(-1)
	g.left()
	g.nextLook.Store(0) // the limit was higher by it
	g.look(g.now())
}

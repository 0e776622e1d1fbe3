package shed

import "math"

// pays reports whether the limit's growth brought more answers; until that shows, and when it did not, there is nothing else to conclude. Below their knee endpoints answer as
// many more as there are more inside, above it no more at all, whatever is believed of W and S: a limit that grew on a wrong S grew again and again, and never fell.
func (k *Knee) pays() bool {
	doubt := max(k.doubt(), noiseFirst) // latencies of requests that queue at the endpoints scatter little, however their work does
	more, gain := math.Log(k.limit/k.rungAt), math.Log(k.high.rate()/k.rung.rate())
	spread := math.Sqrt(doubt * (1/k.high.count + 1/k.rung.count))
	over := (gain - more/2) / spread
	if math.Abs(over) < paysSure && k.high.count < paysMost*doubt {
		return false
	}
	rung := k.rung
	k.rung = gauge{}
	if over > 0 {
		k.low, k.verified = latency{count: rung.count, seconds: rung.area}, true
		return true
	}
	if k.low.count < 1 || k.low.mean() > rung.area/rung.count { // S was too long: nobody waits longer where fewer are
		k.low, k.verified = latency{count: rung.count, seconds: rung.area}, true
	}
	k.service = k.low.mean()
	w := k.high.rate() * k.service
	k.workers, k.known = max(w, 1), true
	k.set(min(k.limit, k.roomy(w, k.high.rate(), spread)))
	return false
}

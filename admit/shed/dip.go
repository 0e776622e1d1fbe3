package shed

import (
	"math"
	"time"
)

// startDip lowers the limit for a knee of w until some answers from there have come. While nobody waits, the limit does no harm, and a dip would make some wait.
func (k *Knee) startDip(now time.Duration, w float64, f Flow) {
	if f.Waiting == 0 {
		if k.missed++; !k.crowd || k.missed < missedMost {
			return
		}
	}
	k.missed = 0
	to, depth := dipTo*w, k.depth
	if k.deeper {
		to, depth = to/2, depth/2
	}
	least := k.limit
	if k.known { // else w may be far off
		least = min(least, headroom*max(w, k.workers))
	}
	if k.proves && k.founded() {
		to, depth = min(to, dipTo*k.high.rate()*k.base.mean()), 0
	}
	to = max(math.Floor(min(max(to, least*depth), 0.75*k.limit)), 1, float64(k.endpoints))
	k.nextDip = now + seconds(dipEvery*k.service)
	if to > k.limit-0.5 { // there are as few as there can be: what is seen here is all that can be known of S
		if k.high.count > 0 {
			k.low = latency{count: k.high.count, seconds: k.high.area}
		}
		k.verified, k.deeper = true, false
		return
	}
	k.move(to)
	k.dips++
	k.dipped = sample{}
	// Where nobody is stuck it is not worth to wait for the last ones, and one endpoint has nobody to be slower than.
	k.dip, k.dipFrom, k.reached, k.turned = to, now, false, k.agreed >= agreeing || k.endpoints == 1
	rate := max(k.high.rate(), 1e-9)
	drain := (k.limit - to) / rate
	turn := max(k.service, k.high.area/max(k.high.count, 1)) // S may be far off, or not known; who is inside takes that long
	k.drained = now + seconds(1.5*drain/(1-passShare)+turn) + lookLeast
	k.turnEnd = now + seconds(1.5*drain+oldTurns*turn) + lookLeast
	k.dipEnd = now + seconds(drain+2*(to+k.need())*max(1, least/to)/rate) + lookLeast
}

// endDip learns from a dip.
func (k *Knee) endDip(now time.Duration, f Flow) {
	part, fresh, took, inside, least, crept := k.now, k.fresh, now-k.dipFrom, k.dip, k.dip <= float64(k.endpoints), k.crept
	k.dip = 0
	k.inDips += took
	k.move(k.limit)
	k.nextDip = now + time.Duration(dipSoon*float64(took))
	if !k.reached {
		k.depth = min(1.5*k.depth, 0.75) // those inside take long: to wait for them would starve the endpoints
	}
	if part.count < 2 || part.time <= 0 || k.high.count < 1 {
		if k.vain++; k.vain >= inVain && k.high.count >= 1 {
			k.vain, k.low = 0, latency{count: k.high.count / 4, seconds: k.high.area / 4}
		}
		return
	}
	k.vain, k.crept = 0, false
	k.depth = max(0.9*k.depth, dipLeast)
	s, bound := k.showed(part, fresh)
	before := k.low.mean()
	if k.proves = !least && k.strange(s, inside, part); k.proves || !least && !(crept && k.fewerIn(part)) && k.above(s, part) {
		k.deeper, k.agreed, k.nextDip = k.deeper || !k.proves, 0, now
		k.judge(now, f)
		return
	}
	if before > 0 && s > before {
		s = k.leavers.haunted(s, before)
	}
	// Nobody takes longer where fewer are: a deeper dip that shows more than the one before it has six answers, and is chance.
	calm := k.founded()
	if most := trusts * k.doubt(); calm && !k.verified && k.low.count > most { // something has changed, or there are just more of them. S of calm times counts for so many answers and no more
		k.low = latency{count: most, seconds: most * before}
	}
	anew := s != before && (k.deeper && s < before || !k.verified && !calm) || before > 0 && apart(s, before, k.doubt(), part.count, k.low.count)
	if anew || !least && s > wrong*before && k.idle(fresh) { // of a dip to one place there are six answers: believed, they cost two processors two thirds of what they could do
		k.low = latency{}
		k.rebase()
	}
	k.low.add(part.count, part.count*s, 0, fades)
	k.verified, k.learned = true, k.high.rate()
	bends := bound || part.rate() < clearly*k.high.rate() || least
	if k.deeper = !bends; bends {
		k.alone.join(k.dipped)
	}
	k.recall()
	w, limit := k.high.rate()*k.low.mean(), k.limit
	sure := math.Abs(math.Log(w/k.workers)) < 0.2 && k.doubt()/k.low.count < 0.06
	if k.agreed++; !sure || !bends {
		k.agreed = 0
	}
	k.judge(now, f)
	k.judged = k.limit
	switch {
	case k.dip > 0:
	case k.deeper:
		k.nextDip = now
	case sure || k.limit > 0.9*limit: // a higher one tells more than another dip from before it would
		k.nextDip = now + time.Duration(dipEvery*float64(took))
	}
}

// idle reports whether the limit is below W: even those who came since the dip began, of whom the quick ones are answered first, were inside for as long as all are at the limit. Where work
// became three times as slow, the limit of before was cut to a third, far fewer were answered for it, and the limit followed them down for good: 49 places had ten in use.
func (k *Knee) idle(fresh gauge) bool {
	return fresh.count >= freshLeast && fresh.area/fresh.count >= clearly*k.high.area/k.high.count
}

// showed is the S that a dip's answers show, all of them and those to who was let in since it began; bound: these two bound it. Who is left of those from before are the ones
// that take long: all answers together say too much of S. Of those who came later the quick ones are answered first: they say too little. What is known of S and lies
// between stands. Without this S went from 22 to 187 ms in four dips, and the limit from 11 to 210, before five processors that were asked for one heavy thing in ten. Where as
// much would be answered for each place as at the limit there was no queue there either, and a known S that says so is wrong.
//
// Of a dip that bounds S the rate does not count: leftovers lower it, and quick ones raise it. A deeper one each time that it looked high cost half a hundredth of all answers in random worlds.
func (k *Knee) showed(part, fresh gauge) (s float64, bound bool) {
	known, most, least := k.low.mean(), part.area/part.count, fresh.area/max(fresh.count, 1)
	if limit := k.high.area / k.high.count; fresh.count >= freshLeast && most > limit { // nobody takes longer where fewer are: they are of before
		most = min(most, max(least, limit))
	}
	if known == 0 || fresh.count < freshLeast || least >= most || most >= clearly*k.high.area/k.high.count {
		return most, false
	}
	return max(least, min(known, most)), true
}

// above reports whether a dip that showed a far longer S than is known rather was above the knee than that S is: then as many are answered as at the limit, within chance,
// and what is seen is a queue. S that is known may be of another time, so it speaks against the dip only so much. Of five processors that all share with one heavy request in ten,
// dips to twice as many made S three times as long, and the limit went from 20 to 160.
func (k *Knee) above(s float64, part gauge) bool {
	known := k.low.mean()
	if known == 0 || s <= known {
		return false
	}
	longer, fewer := math.Log(s/known), math.Log(part.rate()/k.high.rate())
	most := aboveMost * k.doubt()
	if rate := k.high.rate(); k.learned > 0 { // S may be another by now, too. Work took 2.5 times as long, S of before spoke against each dip, and 3 of 33 places were used for good
		same := min(rate/k.learned, k.learned/rate)
		most *= same * same
	}
	against := min(longer*longer/(1/k.low.count+1/part.count), most)
	return against > k.doubt() && fewer*fewer/(1/part.count+1/k.high.count) < against
}

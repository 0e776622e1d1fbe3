package shed

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Numbers of the first answers.
const (
	fillMost  = 64                     // first answers that are looked at for a queue behind them
	fillLeast = 8                      // of them tell something
	fillSure  = 14.0                   // what the queue must explain, or no queue, in units of what is left unexplained: F of 1 and n-1 less one for each endpoint, as W is searched for too
	fillPause = 250 * time.Millisecond // from the first answer on, and each further one, twice as many may be inside as it told: before few places 64 would be too many for seconds
	fillEvery = 50 * time.Millisecond  // as long as nothing was answered, twice as many are let in: who works within less is not flooded, and who takes longer is soon full
	fillEven  = 0.05                   // variance of the logarithms above which answers do not tell that there was no queue: the quick ones come first, whatever they found
	fillLasts = 500 * time.Millisecond // what was told while nobody waits; then others are asked, too, as the work may take another time
	fillOdd   = 8                      // one in so many answers may be odd
	fillRates = 4.0                    // times as much as was answered is what endpoints that were never idle cannot answer
	fillExact = 0.02                   // standard deviation of a logarithm below which nothing counts as exact: clocks and networks
)

// First is one of the first answers a gate ever saw.
type First struct {
	Endpoint any // who gave it; anything that can be compared
	Rank     int // how many were in flight there as it was sent, itself among them
	Seconds  float64
}

// fill is what the first answers show of endpoints that were filled from empty: who found n inside waits behind them, so that the answer takes max(1, n/W) times
// as long as the work where requests are worked on in order. W is the same at all endpoints, and the work takes each its own time. Where they share, or where some
// work takes much longer than other, it shows little, and the search has to tell.
type fill struct {
	list    []First
	from    []int         // by answer, which endpoint of those that answered it came from
	ends    []any         // these
	above   int           // only answers of a higher rank tell more
	top     int           // most in flight at one of those answers
	since   time.Duration // the first answer
	seen    int           // answers since then, those that are not in the list among them
	asked   int           // of so many answers it was asked what they tell, which costs some 50 us, and 100 where all show nothing
	thinned time.Duration // when thin last did
}

// add takes answers in.
func (f *fill) add(now time.Duration, list []First) {
	if len(f.list) == 0 {
		f.since = now
	}
	for _, one := range list {
		if len(f.list) < fillMost && one.Seconds > 0 {
			f.keep(one)
		}
	}
}

func (f *fill) keep(one First) {
	who := slices.Index(f.ends, one.Endpoint)
	if who < 0 {
		who, f.ends = len(f.ends), append(f.ends, one.Endpoint)
	}
	f.list, f.from = append(f.list, one), append(f.from, who)
	f.top = max(f.top, one.Rank)
}

// shows is what the first answers show.
type shows uint8

const (
	unclear shows = iota
	queued        // queues of their own explain how long they took
	roomier       // there was none, not even for those who found most inside
)

// tells says whether the answers waited for each other, and what the W of one endpoint and S are then. S is unsure by a logarithm's standard deviation of unsure.
func (f *fill) tells() (v shows, workers, service, unsure float64) {
	n, free := float64(len(f.list)), float64(len(f.list)-len(f.ends)-1)
	if free < fillLeast-2 || f.top < 2 || len(f.list) < f.asked+1+f.asked/16 {
		return unclear, 0, 0, 0
	}
	f.asked = len(f.list)
	exact := n * fillExact * fillExact
	explains := func(with, without float64) bool { return (without-with)/max(with, exact) > fillSure/free }
	flat, best, workers := f.search(0)
	switch {
	case explains(best, flat):
		v = queued
	case flat < fillEven*free && explains(flat, best):
		v, workers, best = roomier, math.Inf(1), flat
	default:
		if flat, best, workers = f.search(len(f.list) / fillOdd); best >= fillEven*free || !explains(best, flat) { // where work scatters by itself, the quickest are not odd
			return unclear, 0, 0, 0
		}
		v = queued
	}
	return v, workers, f.mean(workers), math.Sqrt(max(best, exact) / (free * n))
}

// even reports whether all answers took about as long: then it is not that the quick ones came first.
func (f *fill) even() bool {
	n := len(f.list) - len(f.ends)
	return n >= fillLeast && f.fits(math.Inf(1), 0) < fillEven*float64(n)
}

// search finds the W that leaves least unexplained without the quickest of the answers, odd of them, and how much; flat is what no queue leaves.
func (f *fill) search(odd int) (flat, best, workers float64) {
	flat, best = f.fits(math.Inf(1), odd), math.Inf(1)
	for w := 1.0; w <= float64(f.top)/2; w = max(w+1, math.Floor(w*1.1)) {
		if left := f.fits(w, odd); left < best {
			best, workers = left, w
		}
	}
	return flat, best, workers
}

// mean is S with W: each endpoint's own, which of logarithms would be far too small where some work takes much longer than most, and of all answers that they can give.
func (f *fill) mean(workers float64) float64 {
	sums, counts := make([]float64, len(f.ends)), make([]float64, len(f.ends))
	for i, one := range f.list {
		sums[f.from[i]] += one.Seconds / line(float64(one.Rank), workers)
		counts[f.from[i]]++
	}
	rate := 0.0
	for i := range sums {
		rate += counts[i] / sums[i]
	}
	return float64(len(f.ends)) / rate
}

// fits is what W leaves unexplained of the logarithms, squared, without the quickest, odd of them. Some of those who come later are often worked on before all who wait,
// as locks and pools of threads are not fair: with one in twenty of these the rest did not show the queue that they were in.
func (f *fill) fits(workers float64, odd int) float64 {
	left, order := make([]float64, len(f.list)), make([]int, len(f.list))
	for i, one := range f.list {
		left[i], order[i] = math.Log(one.Seconds/line(float64(one.Rank), workers)), i
	}
	if odd > 0 {
		slices.SortFunc(order, func(a, b int) int { return cmp.Compare(left[a], left[b]) })
	}
	sums, counts := make([]float64, len(f.ends)), make([]float64, len(f.ends))
	squares := 0.0
	for _, i := range order[odd:] {
		r, who := left[i], f.from[i]
		sums[who] += r
		counts[who]++
		squares += r * r
	}
	for i := range sums {
		squares -= sums[i] * sums[i] / max(counts[i], 1)
	}
	return max(squares, 0)
}

// thin makes room for more answers, as there was no queue yet: what those told who found few inside is still needed when those answer who will find many.
func (f *fill) thin(now time.Duration, crowd bool) {
	if len(f.list) < fillMost {
		return
	}
	all := f.list
	f.list, f.from, f.ends = nil, nil, nil
	for i := 0; i < len(all); i += 2 {
		f.keep(all[i])
	}
	f.asked, f.thinned = len(f.list), now
	if !crowd {
		f.above = f.top
	}
}

// begins learns from the first answers.
func (k *Knee) begins(now time.Duration, part gauge, f Flow) {
	k.hold = 0
	k.climb.now.add(part, 1)
	k.climb.over = k.climb.over || k.dip > 0
	k.fill.seen += f.Answers
	if k.done = k.known; k.done || k.dip > 0 {
		return
	}
	if k.fill.top == 0 {
		k.opens(now, f)
		return
	}
	if f.Waiting > 0 || now-k.fill.thinned > fillLasts {
		k.fill.above = 0
	}
	e := float64(k.endpoints)
	v, w, s, unsure := k.fill.tells()
	told := float64(len(k.fill.list)) / 4 // they count for less than others: the quick ones come first
	took := max(now-k.fill.since, lookLeast).Seconds()
	if v == queued && w*e > fillRates*s*float64(k.fill.seen)/took {
		// Who came first and was answered meanwhile was quick, and found few inside; who came later found many: by chance that looks like a queue. 207 places, two
		// fifths of them in use, were taken for nine that work a hundred times as fast, and two of three requests were refused for half a minute.
		v = unclear
	}
	switch {
	case v == queued && k.crowded(w*e, f):
		k.done, k.first = true, false
		w = max(w*e, float64(len(k.fill.list))*s/took) // so many answers came meanwhile
		k.workers, k.service, k.known, k.verified = max(w, 1), s, true, true
		k.low = latency{count: told, seconds: s * told}
		k.calmer, k.stays, k.high, k.recent = latency{}, gauge{}, gauge{}, gauge{}
		k.set(k.roomy(w, w/s, unsure))
		k.skip = max(k.skip, float64(f.InFlight))
		return
	case v == roomier:
		if to := 2 * float64(k.fill.top) * e; to > k.limit && !f.full() && k.ceilingEnd == 0 {
			k.first, k.service = false, s
			k.low = latency{count: told, seconds: s * told}
			k.high, k.recent = gauge{}, gauge{}
			k.set(to)
		}
		k.fill.thin(now, f.Waiting > 0)
	}
	full := len(k.fill.list) >= fillMost
	if k.first && !full {
		pauses := math.Floor(float64(now-k.fill.since) / float64(fillPause))
		k.hold = max(k.open, 2*float64(k.fill.top)*e) * math.Exp2(pauses) // what is inside will soon tell whether there was a queue
	}
	k.done = !k.climbs(part, f) && full
}

// crowded reports whether what is inside is far too much for w places. A few too many may be chance, and come to places that are not as quick as others.
func (k *Knee) crowded(w float64, f Flow) bool {
	n := float64(f.InFlight)
	return n > 4*w || n > 2*w && (f.Waiting > 0 || k.endpoints == 1)
}

// opens lets more and more in while nothing was answered.
func (k *Knee) opens(now time.Duration, f Flow) {
	if k.opened == 0 && f.InFlight+f.Waiting > 0 {
		k.opened = now + 1
	}
	k.open = firstPlaces * float64(k.endpoints)
	if k.opened > 0 {
		k.open *= math.Exp2(math.Floor(float64(now+1-k.opened) / float64(fillEvery)))
	}
	if k.open = min(k.open, k.limit); k.open < k.limit {
		k.hold = k.open
	}
}

// Opens is when more may be inside though nothing was answered; 0: never.
func (k *Knee) Opens(now time.Duration) time.Duration {
	if k.hold == 0 || k.fill.top > 0 || k.opened == 0 {
		return 0
	}
	return now + fillEvery - (now+1-k.opened)%fillEvery
}

package shed

import (
	"math"
	"time"
)

// Numbers of the search. They are without units, or relative to what is measured: none is a guess about the endpoints. They were chosen by what they do in
// random worlds (`bench shed`).
const (
	anyPlaces   = 64    // of one endpoint, until the first answers tell anything: who does not know must not refuse. Of more endpoints together it is times the square root of their number: eight of one place were full for 40 s with 64 each
	firstFew    = 16    // answers do tell
	beginsFew   = 100.0 // of answers are more quick ones than of requests
	firstPlaces = 8.0   // of each endpoint then, and twice what is used: most servers work on as many at once
	headroom    = 1.4   // the limit over the knee: a place too many costs a little latency, one too few work that is never done
	free        = 0.005 // seconds of waiting at the endpoints that nobody minds…
	freeSteady  = 0.050 // …and who waits at the gate for others of a fixed number: here or there is the same to them, and here costs more
	bent        = 0.9   // a knee below this part of the limit is one; else there is no bend in sight…
	grows       = 2.0   // …and the limit does by this
	harmful     = 0.5   // by which the logarithms of answers grew, and more than chance makes them: what is used then is not used without harm
	hasty       = 0.3   // what an answer counts for S that came while the limit grew: the quick ones come first
	idleMost    = 0.4   // of one place would be used, were S right. Then nobody waits, and answers do not take longer than S
	dipTo       = 0.65  // of the knee: below it even when it is taken for half as much again
	clearly     = 0.8   // of the rate at the limit, and more, with fewer inside: those that were more only waited. With less, fewer are too few
	oldMost     = 0.25  // of the dip's limit may be those from before it, when it is to tell S…
	oldTurns    = 8.0   // …or so many times what an answer takes have passed
	agreeing    = 2     // dips that showed what was known before are enough to believe that nobody is stuck
	freshLeast  = 4     // answers to those let in since a dip began bound what it showed
	wrong       = 1.5   // times the S that is known a dip must show where nobody waits, for that not to be chance
	trusts      = 8.0   // variances that S of calm times counts for at the most, in answers, when a dip shows another after something has changed
	aboveMost   = 6.0   // variances that S that is known counts for, when a dip shows a longer one
	inVain      = 3     // dips in a row that told nothing, as those inside take long: what came before them was too short for S, and all that is known is how long answers take
	fades       = 0.85  // of what dips showed before remains after another one
	dipLeast    = 0.25  // of the limit, when little is known
	dipEvery    = 40.0  // dips last a fortieth of the time, and cost a third of the answers meanwhile…
	missedMost  = 4     // conclusions that fell between two bursts of answers, when nobody waits just then. Where all take the same time all of them can
	dipSoon     = 1.0   // …half of it while the limit falls by them, or they tell nothing…
	fell        = 0.7   // …and at once when the limit fell to this part of what it was after the last one
	differs     = 0.15  // changes of a rate's logarithm that are worth to be seen…
	deviations  = 3.5   // …when they are so many standard deviations
	noiseLeast  = 0.05  // squared coefficient of variation: what a network adds to service that always takes the same time
	noiseMost   = 8.0
	noiseFirst  = 1.0
	noiseQueued = 8.0   // times as much as answers that found no queue, others may scatter by their work; what is more comes from the order in which endpoints take them
	noiseHidden = 0.5   // and no less than so many times as much
	noiseBegins = 3.0   // of which a few dozen show little
	paceLasts   = 1.0   // seconds that count as lately, for what was answered whatever the limit
	scattered   = 100.0 // answers that are looked at for how they scatter
	lookLeast   = 20 * time.Millisecond
	lookMost    = 2 * time.Second
)

// Flow is what happened since the last look, beside the answers.
type Flow struct {
	InFlight   int     // now
	Old        int     // of these, who was inside as the dip began…
	Waiting    int     // now
	Steady     bool    // those who wait are as many all the time, and none is refused
	Endpoints  int     // in service
	Answers    int     // that mean work…
	OldAnswers int     // …to those
	Area       float64 // how many were in flight, over time: their number times seconds…
	OldArea    float64 // …and of those
	Left       int     // clients that left without an answer, after a time in which there should have been one…
	Stayed     float64 // …and the seconds that they were inside
	Pushback   float64 // share of the answers that were 429 or 503
	Busy       float64 // utilisation that endpoints told of, 1 for full; 0: none did
}

// full reports whether endpoints say that they have enough to do.
func (f Flow) full() bool { return f.Pushback > 0.1 || f.Busy > 0.95 }

// Knee finds out how many exchanges at once are right. It is pure: time comes in.
//
// A server with W places that works S seconds on each request answers min(n, W)/S of them per second while n are there, whatever the
// order and the distribution. While requests wait at the gate, n is the limit, since each place that becomes free is given away, and answers are
// counted over time. Two limits tell all: as long as the rate follows the limit, both are below W; when it does not, the higher one is above. So the limit dips now and then to a little below the W that is believed in: the rate there gives S, and the
// rate at the limit times S is W. That is bandwidth times round-trip time, as BBR has it, but S comes from where most of the
// capacity is still used and not from the smallest latency seen: minima and means of latency drift, and limits with them, as those of Vegas and
// of gradients do. When few are inside by themselves, their answers tell S without a dip.
type Knee struct {
	limit     float64 // but for dips
	workers   float64 // W
	service   float64 // S in seconds; 0: nothing was measured yet
	endpoints int
	at        time.Duration
	study     time.Duration // when the next window is wanted
	period    gauge         // since the last study
	before    float64       // in flight then
	first     bool          // nothing is known yet
	fill      fill          // the first answers
	climb     climb         // while they show room
	hold      float64       // the limit until they tell; 0: none
	open      float64       // the limit when the first of them came
	opened    time.Duration // the first request came, and 1; 0: none did
	done      bool          // with those
	waited    bool          // somebody did since then
	crowd     bool          // or since the last conclusion
	missed    int           // dips in a row that were not begun as nobody waited at the moment, though somebody had
	full      bool          // the limit was used since it was quiet
	quiet     bool          // nobody waits and the limit is not used
	steady    bool          // as Flow has it

	pace   gauge     // lately, whatever the limit
	skip   float64   // answers that say nothing yet: those inside were let in under another limit
	now    gauge     // since the last conclusion
	fresh  gauge     // of that, of those let in since the dip began
	left   float64   // clients that left meanwhile
	edges  edges     // of what is counted, which bursts must not falsify
	recent gauge     // at the limit, lately
	high   gauge     // at the limit
	here   gauge     // of that, since the limit is what it is
	fewer  gauge     // at another one, before it grew for the first time without…
	fewest float64   // …so much more being answered as it grew: that limit
	levels [32]level // what was answered at other limits
	rest   level     // and in calm times
	trial  trial     // of a higher one

	lost, given float64 // lately: clients that left, and answers
	leavers     leavers // in the longer run
	pardon      float64 // of so many to come nothing is concluded: those who are inside will leave, whatever the limit is now

	low     latency    // at few in flight: in calm times and in dips
	calmer  latency    // of those, lately, while nobody waits
	stays   gauge      // who was inside meanwhile
	quick   quickly    // what quick answers show
	base    latency    // of those, for minutes…
	spread  sample     // …how far they scatter…
	based   float64    // …so many seconds of calm
	crept   bool       // S is that of base until a dip tells
	bases   int        // that began
	sound   bool       // the last study found answers of calm times that are not late
	learns  bool       // and S from them
	known   bool       // W was measured
	usual   float64    // how many are inside in calm times
	batch   Window     // since the last study
	alone   sample     // of answers to those who found no queue
	dipped  sample     // of answers in this dip, which may be such
	moments [3]float64 // of answers lately: how many but for one of each window, their seconds, the squares of what these differ by from the window's mean

	free       float64 // seconds of waiting at the endpoints that nobody minds
	ceiling    float64 // most left with more inside
	ceilingEnd int     // after so many conclusions it may be tried again

	dip      float64       // the limit of the dip; 0: none
	reached  bool          // nobody is inside any more who was let in over it
	dips     uint32        // that ever began
	turned   bool          // hardly anybody of those inside was as it began
	turnEnd  time.Duration // then it is not waited for any more
	agreed   int           // dips in a row that showed what was known
	judged   float64       // the limit after the last dip
	dipFrom  time.Duration
	inDips   time.Duration // all that have ended
	dipEnd   time.Duration
	drained  time.Duration // until then those over the dip's limit should be gone
	depth    float64       // the least part of the limit for a dip
	nextDip  time.Duration
	verified bool    // something was measured at fewer since the last surprise
	deeper   bool    // the last dip was not below the knee
	proves   bool    // the next is to be below the knee of calm times
	learned  float64 // the rate at the limit when a dip last told S
	vain     int     // dips in a row that told nothing
}

// NewKnee starts with what is right for most.
func NewKnee(endpoints int) *Knee {
	e := max(endpoints, 1)
	few := firstPlaces * float64(e)
	return &Knee{limit: math.Ceil(anyPlaces * math.Sqrt(float64(e))), workers: few, hold: few, open: few, endpoints: e, first: true, free: free, depth: dipLeast}
}

// Look takes in what happened since the last look. win is what answers showed since it was last given; nil when Studies said that it need not be.
func (k *Knee) Look(now time.Duration, win *Window, f Flow) {
	past := max(now-k.at, 0).Seconds()
	k.at, k.steady = max(now, k.at), f.Steady
	k.scale(f.Endpoints)
	part, fresh := gauge{float64(f.Answers), past, f.Area}, gauge{float64(f.Answers - f.OldAnswers), past, f.Area - f.OldArea}
	k.pace.add(part, math.Exp(-past/paceLasts))
	k.period.add(part, 1)
	k.waited, k.crowd = k.waited || f.Waiting > 0, k.crowd || f.Waiting > 0
	if win != nil {
		k.fill.add(now, win.First)
		k.climb.took.add(float64(win.Total), win.Seconds, 0, 1)
		if k.sampling() {
			k.dipped.add(float64(win.Total), win.Seconds, win.Squares, 1)
		}
		k.batch.join(win)
	}
	k.gone(f)
	k.leavers.note(f)
	if win != nil && now >= k.study {
		k.review(win, f)
	}
	k.quiet = k.quiet && f.Waiting == 0
	if full := k.full && !k.quiet || float64(f.InFlight) >= used*k.limit; full != k.full {
		k.full = full
		if full && k.dip == 0 {
			k.move(float64(f.InFlight)) // answers to those who came before say what there was to do and not what can be done
		}
	}
	switch {
	case k.dip == 0 && k.leaves(f):
		k.leave(f)
	case k.dip > 0 && !k.reached:
		k.reached = float64(f.InFlight) <= k.dip
	case k.dip > 0 && !k.turned && float64(f.Old) <= oldMost*k.dip:
		k.turned = true
		k.restart()
		k.dipEnd = max(k.dipEnd, now+seconds(2*k.need()/max(k.high.rate(), 1e-9)))
	case k.skip > 0:
		if k.skip -= part.count + float64(f.Left); k.skip <= 0 {
			k.quick.begin()
		}
	default:
		k.count(part, fresh, float64(f.Left))
		if k.dip > 0 && k.Ready() {
			// A slow endpoint may hold most of those inside for long after a dip began, and the others have little to do: it looks as if each
			// request took longer. Before 15 places the limit once stayed at 100 for it.
			if k.turned || now >= k.turnEnd || k.now.rate() > clearly*k.high.rate() {
				k.endDip(now, f)
			}
		} else if k.dip == 0 && k.counted() {
			k.conclude(now, f)
			k.crowd = f.Waiting > 0
		}
	}
	if !k.done {
		k.begins(now, part, f)
	}
	if k.dip > 0 && (now >= k.dipEnd && (k.turned || now >= k.turnEnd) || now >= k.drained && !k.reached || k.quiet) {
		k.endDip(now, f)
	}
}

// review takes in what answers showed since it last did.
func (k *Knee) review(win *Window, f Flow) {
	k.quick.heard, k.quick.share = win.Heard, win.Quick
	win = &k.batch
	k.scatter(win)
	k.study = k.at + clamp(seconds(k.service), lookLeast, lookMost)
	if !k.waited {
		k.missed = 0
	}
	k.sound, k.learns, k.quiet = false, false, !k.waited && k.dip == 0 && k.period.inside() < used*k.limit
	if k.quiet && k.period.time > 0 {
		k.calm(win, f)
		k.restart()
	}
	k.period, k.waited, k.before = gauge{}, false, float64(f.InFlight)
	k.batch = Window{}
}

// Studies reports whether the next look wants to know what answers showed.
func (k *Knee) Studies(now time.Duration) bool { return now >= k.study || k.sampling() }

// sampling reports whether answers come from a dip alone.
func (k *Knee) sampling() bool { return k.dip > 0 && k.reached && k.turned && k.skip <= 0 }

// coldMost bounds the answers that are waited for while nothing is known: without a limit there are very many inside.
const coldMost = 256

// used is the share of the limit from which all of it counts as used.
const used = 0.85

// Ready reports whether there is something to conclude from.
func (k *Knee) Ready() bool { return k.now.count+k.left >= k.need() }

// need is how many answers make a conclusion.
func (k *Knee) need() float64 {
	if k.dip > 0 {
		n := max(3, min(8*k.doubt(), 9*k.dip))
		return math.Ceil(n/k.dip) * k.dip // places of a server that always takes the same time come in turns
	}
	if !k.known {
		return max(8, min(k.limit, coldMost), 4*k.doubt())
	}
	return max(8, k.limit, 8*k.doubt())
}

// Limit is how many exchanges may be in flight.
func (k *Knee) Limit() float64 {
	if k.dip > 0 {
		return k.dip
	}
	if k.hold > 0 {
		return min(k.hold, k.limit)
	}
	return k.limit
}

// Dips reports whether fewer are let in than the limit is.
func (k *Knee) Dips() bool { return k.dip > 0 }

// InDips is how long dips have lasted, all that have ended.
func (k *Knee) InDips() time.Duration { return k.inDips }

// Capacity is how many exchanges per second the endpoints answer; 0: not known yet.
func (k *Knee) Capacity() float64 {
	if !k.known {
		return k.high.rate()
	}
	return k.workers / k.service
}

// paced is a capacity that is no less than what was answered lately; 0: not known yet. Whoever calls 512 times at once meets a gate that
// knows nothing: the first dozen answers, slow as the connections are new, made it believe in a twentieth of what there was, and refuse hundreds.
func (k *Knee) paced(capacity float64) float64 {
	if k.high.count == 0 {
		return 0
	}
	return max(capacity, k.pace.rate())
}

// line is the latency at n, in units of the service time.
func line(n, workers float64) float64 { return max(1, n/workers) }

// scale follows the number of endpoints in service: a pool that lost one of five has four fifths of its places.
func (k *Knee) scale(endpoints int) {
	e := max(endpoints, 1)
	if e == k.endpoints {
		return
	}
	by := float64(e) / float64(k.endpoints)
	k.endpoints = e
	k.workers = max(k.workers*by, 1)
	k.dip = 0
	k.low, k.levels, k.rest, k.trial = latency{}, [32]level{}, level{}, trial{}
	k.rebase()
	k.set(k.limit * by)
	k.high, k.fewer = gauge{}, gauge{}
}

// set makes n the limit. What was counted at another is of no use.
func (k *Knee) set(n float64) {
	n = max(math.Ceil(n-0.01), float64(k.endpoints), 1)
	if n == k.limit {
		return
	}
	k.move(n)
	// The rate of before stands where fewer still keep the endpoints busy, and each is inside for as long as fewer take. With what it was at the old limit, S came
	// out as seconds once the limit rose again.
	k.high.area = min(k.high.area, n*k.high.time)
	k.here = gauge{}
	if n > k.limit && k.known {
		// The light ones of those who are let in now are answered first, and the heavy ones when all who come meanwhile have slowed them down: for a while far more
		// seems to be answered, the limit grew for it, and so on. This is how much longer than others those take who are met inside.
		k.skip *= max(1, (1+k.doubt())/2)
	}
	k.limit = n
	if n <= k.trial.limit {
		k.trial.limit = 0
	}
}

// move begins to count anew. Answers that come until those who were inside are gone do not show yet what the limit does.
func (k *Knee) move(to float64) {
	k.restart()
	k.quick.begin()
	k.skip = to
	if !k.known {
		k.skip = min(to, coldMost)
	}
}

// calm learns S from answers while nobody waits and there is room.
func (k *Knee) calm(win *Window, f Flow) {
	n := float64(win.Total)
	if n == 0 {
		return
	}
	k.fewer, k.trial.limit = gauge{}, 0
	k.rest.note(k.period, k.at, k.doubt())
	noise := k.noise()
	took := win.Seconds
	if k.low.count < beginsFew { // the quick ones are answered first: those who are still inside tell how long the others take
		took = max(took, k.period.area)
	}
	keep := math.Exp(-n / max(10, 20*noise))
	k.calmer.add(n, took, win.Logs, keep)
	k.stays.add(gauge{n, k.period.time, k.period.area}, keep)
	inside := k.period.inside()
	switch late, creeps := later(k.low, k.calmer, noise), k.creeps(noise); {
	case !late && !creeps:
		k.sound = true
		k.settle(n, took, win.Squares, win.Logs)
		k.quick.used = false
	case inside <= float64(k.endpoints)+0.5: // there was nobody to wait for: the work takes longer
		k.low = k.calmer
		k.service = k.low.mean()
		k.rebase()
	case late:
		k.slower(f)
		return
	default:
		k.creep(f)
		return
	}
	if k.usual == 0 {
		k.usual = inside
	}
	if k.alike(win) {
		took = max(took, n*k.stays.area/k.stays.count)
	}
	if lately, before := k.calmer.mean(), k.low.mean(); k.low.count >= 8 && lately > 1.5*before && apart(lately, before, noise, k.calmer.count, k.low.count) {
		idle := k.period.rate()*before < idleMost // then it is no queue: S is wrong, as that of the first answers can be
		if !idle && (k.low.told < 1 || k.calmer.typical()-k.low.typical() > 0.4*math.Log(lately/before)) {
			return
		}
		k.known = k.known && !idle
		k.low = k.calmer // some take longer, others do not: that is work and no queue
		k.service = k.low.mean()
	} else if k.low.count < 8 || inside <= 1.3*k.usual+1 && (!k.known || inside < k.workers/2) || k.alike(win) {
		// A queue that grows slowly looks like service that gets slower.
		k.learns = true
		k.low.add(n, took, win.Logs, math.Exp(-n/(3*k.wanted())))
		k.alone.add(n, win.Seconds, win.Squares, math.Exp(-n/scattered))
		k.service = k.low.mean()
		k.quick.service = k.service
	}
	k.usual += 0.05 * (inside - k.usual)
	if k.moments[0] < firstFew && k.first {
		return
	}
	if k.first {
		k.first = false
		k.limit = max(firstPlaces*float64(k.endpoints), 2*win.Peak, min(k.limit, 2*float64(f.InFlight)))
	}
	if peak := win.Peak; !k.known && 2*peak > k.limit && !k.harms(win) { // what is used without harm
		k.limit = math.Ceil(2 * peak)
		k.high, k.recent = gauge{}, gauge{}
	}
}

// conclude learns from what was counted at the limit.
func (k *Knee) conclude(now time.Duration, f Flow) {
	part, left := k.take()
	if left > part.count*leaving { // what few answers there are show neither S nor W
		return
	}
	if part.count < 1 || part.time <= 0 || part.inside() < used*k.limit {
		return
	}
	k.ceilingEnd = max(k.ceilingEnd-1, 0)
	doubt := k.doubt()
	k.recent.add(part, math.Exp(-part.count/max(20*doubt, 2*k.limit)))
	k.free = min(1.02*k.free, free)
	keep := math.Exp(-part.count / (100 + 200*doubt))
	k.here.add(part, keep)
	surprise := false
	if k.high.count > 0 && apart(k.recent.rate(), k.high.rate(), doubt, k.recent.count, k.high.count) {
		surprise = true
		k.fewer = gauge{}
		k.high, k.here, k.recent, k.verified, k.nextDip, k.agreed = part, part, part, false, now, 0
	} else {
		k.high.add(part, keep)
	}
	if k.limit < fell*k.judged { // the rate at it, too: what that dip was compared with was not what lasts
		k.nextDip, k.judged = now, 0
	}
	k.note(part, surprise)
	if k.tries(surprise, f) {
		return
	}
	k.vouch()
	k.recall()
	k.busy(doubt)
	if takes := k.takes(); k.high.count >= k.limit && k.low.count >= 1 && math.Log(k.low.mean()/takes) > math.Sqrt(doubt*(1/k.high.count+1/k.low.count)) {
		// Nobody waits longer where fewer are: S was of another time, if it is no chance. The first to be answered, as the limit has just fallen, are the quick ones.
		k.low = latency{count: k.high.count, seconds: k.high.count * takes}
	}
	if k.heavier() { // or it may be seen soon
		return
	}
	if w := k.high.rate() * k.low.mean(); w > 0 && (surprise || w < bent*k.limit && now >= k.nextDip) {
		if k.known {
			w = min(w, k.workers)
		}
		k.startDip(now, w, f)
		return
	}
	k.judge(now, f)
}

// busy bounds S from below: the least that can be inside keeps one place busy. An S that makes less of it is too short, and a dip to one place has
// too few answers to say so: where work had become slower, seven tenths of a place were believed in, and the limit stayed at two.
func (k *Knee) busy(doubt float64) {
	switch w := k.high.rate() * k.low.mean(); {
	case w <= 0 || w >= 1:
	case w < idleMost:
		k.low, k.known = latency{count: k.high.count, seconds: k.high.area}, false
	case k.high.count >= 8*doubt:
		k.low = latency{count: k.low.count, seconds: k.low.count / k.high.rate()}
	}
}

// takes is how many seconds answers take at the limit. What was answered at a higher one stands when it is lowered, but had it been too low ever since, then as little is answered as
// there are places, and each takes longer than the old rate makes of it: S came out as a tenth of what it was, and two places of 99 were used for half a minute.
func (k *Knee) takes() float64 {
	return max(k.high.area/max(k.high.count, 1), k.here.area/max(k.here.count, 1))
}

// vouch bounds S by what became of a limit that grew: as many times as more was answered since then there can be more places than there was limit. Where all share, dips that
// end far above W tell an S as many times too long.
func (k *Knee) vouch() {
	if k.fewer.count == 0 || k.limit <= k.fewest || k.high.count < k.limit {
		return
	}
	unsure := math.Sqrt(k.doubt() * (1/k.fewer.count + 1/k.high.count))
	k.atMost(k.fewest * max(1, k.high.rate()/k.fewer.rate()) * math.Exp(unsure))
}

// judge sets the limit for what is known. In doubt it is the higher one: a place too many costs a little latency, one too few costs work that is
// never done, and with more inside more is learned.
func (k *Knee) judge(now time.Duration, f Flow) {
	if k.low.count < 1 {
		if k.limit > float64(k.endpoints) && k.limit > 1 {
			k.startDip(now, k.limit, f) // nothing is known yet: fewer tell more
		} else {
			k.ceilingEnd = 0
			k.grow(grows, f)
		}
		return
	}
	k.service = k.low.mean()
	w := k.high.rate() * k.service
	unsure := math.Sqrt(k.doubt() * (1/max(k.high.count, 1) + 1/k.low.count))
	to := k.roomy(w, k.high.rate(), unsure)
	// A knee that is well known and below the limit does not make the limit grow: as the rate scatters, that had it half as high again, forgot what was seen, and dipped at once. 400 places
	// with heavy work spent a third of an overload in dips.
	seen := k.known && w < bent*k.limit && k.low.count >= k.wanted()
	switch {
	case !seen && (w >= bent*k.limit || headroom*w*math.Exp(unsure) > 1.15*k.limit):
		by := grows
		if w*math.Exp(-unsure) >= 0.8*k.limit {
			by = 2 * grows
		}
		k.grow(min(by, max(to/k.limit, 1.5)), f)
	case to < 0.75*k.limit && !k.verified || k.crept && to < k.limit-0.5:
		k.startDip(now, w, f)
	default:
		k.workers, k.known = max(w, 1), true
		if to > 1.15*k.limit {
			k.raise(to, f)
		} else {
			k.set(min(to, k.limit))
		}
	}
}

// roomy is the limit for w places that answer so many requests a second: with headroom, and more while w is unsure. Where work is quick, as many more may be
// inside as wait no time that matters.
func (k *Knee) roomy(w, rate, unsure float64) float64 {
	wait := k.free
	if k.steady {
		wait *= freeSteady / free
	}
	return max(headroom*w*math.Exp(unsure), w+wait*rate)
}

// grow raises the limit. What was seen at the old one is from below the new one.
func (k *Knee) grow(by float64, f Flow) {
	if f.full() {
		return
	}
	k.workers = k.limit
	if k.known {
		k.nextDip = k.at // more places, or quicker work? A dip tells
	}
	if k.high.count > 0 {
		if !k.known {
			k.low.add(hasty*k.high.count, hasty*k.high.area, 0, 1)
		}
		k.verified = true
		if k.fewer.count == 0 || k.high.rate()/k.fewer.rate() > math.Sqrt(k.limit/k.fewest) {
			k.fewer, k.fewest = k.high, k.limit
		}
	}
	k.high, k.recent = gauge{}, gauge{}
	k.raise(by*k.limit, f)
}

// raise makes a higher number the limit, as far as the ceiling lets it.
func (k *Knee) raise(to float64, f Flow) {
	if f.full() {
		return
	}
	if k.ceilingEnd > 0 {
		to = max(min(to, k.ceiling), k.limit)
	}
	k.set(to)
}

// Again is when to look again. While the limit is used it is at each answer: of endpoints that always take the same time, answers come in bursts, and
// who begins or ends to count in the midst of one counts wrong.
func (k *Knee) Again(now time.Duration) time.Duration {
	if k.dip > 0 || !k.quiet {
		return now
	}
	return k.study
}

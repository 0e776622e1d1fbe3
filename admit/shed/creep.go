package shed

import (
	"math"
	"time"
)

// Numbers of what calm times show in the long run.
const (
	baseLasts    = time.Minute // of calm, in which what is known of it fades…
	baseServices = 1000.0      // …or so many service times
	baseLeast    = 40.0        // service times of calm that make a base
)

// later reports whether answers, though nobody waits, come much later than they used to: all of them, as a queue at the endpoints makes it, and not some. The quick ones
// come first: where work is of very different lengths, few of them do not tell what they used to.
func later(was, is latency, noise float64) bool {
	if was.count < 8*max(1, noise) || was.told < 1 || is.mean() < max(3*was.mean(), was.mean()+free) {
		return false
	}
	if was.count < beginsFew {
		noise = max(noise, noiseBegins)
	}
	spread := math.Sqrt(math.Log1p(noise) * (1/was.told + 1/is.told))
	return is.typical()-was.typical() > max(math.Log(2), 2.5*spread)
}

// settle learns what answers take in calm times, in the long run: S follows them within a hundred answers.
func (k *Knee) settle(n, seconds, squares, logs float64) {
	count, keep := n, 1.0
	if k.founded() {
		keep = math.Exp(-k.period.time / k.baseLasts())
		count = k.base.count * (1 - keep)
	}
	k.base.add(count, count*seconds/n, count*logs/n, keep)
	k.spread.add(count, count*seconds/n, count*squares/n, keep)
	k.based = k.based*keep + k.period.time
}

// baseLasts is in how many seconds what calm times showed fades.
func (k *Knee) baseLasts() float64 { return max(baseLasts.Seconds(), baseServices*k.service) }

// founded reports whether the base was seen for long enough.
func (k *Knee) founded() bool { return k.base.count >= beginsFew && k.based > baseLeast*k.base.mean() }

// creeps reports whether answers take much longer than in the long run. A queue that grows by a tenth of what is answered looks, from one moment to the next, like work that gets
// slower: S went up with it, the limit with what was used, nobody ever waited, and twenty processors let in four hundred.
func (k *Knee) creeps(noise float64) bool { return k.founded() && later(k.base, k.calmer, noise) }

// creep holds the limit, with the S of before, until a dip tells. It may be that the work did become slower: nobody is to be refused for that.
func (k *Knee) creep(f Flow) {
	k.low = k.base
	k.quick.service = k.base.mean() // with the S that it had crept to, that of the base looked as if other answers were quick by now
	k.slower(f)
	k.verified, k.crept = false, true
}

// slower sets a limit when answers come late. Where S is well known there is no haste to measure it anew: a burst of long work passes by itself, and a dip in its midst
// made hundreds wait, and refused one in thirty of a minute that needed no refusing.
func (k *Knee) slower(f Flow) {
	if k.verified = k.low.count >= beginsFew; k.verified {
		k.nextDip = k.at + seconds(dipEvery*k.service)
	}
	rate, inside := max(k.period.rate(), k.pace.rate()), max(k.period.inside(), float64(f.InFlight))
	to := k.roomy(rate*k.low.mean(), rate, math.Sqrt(k.doubt()/k.low.count))
	if float64(f.InFlight)-k.before < 0.25*k.period.count+4 {
		to = max(to, inside) // all who come are answered, it only takes them longer. A limit that holds will tell
	}
	k.set(to)
	k.calmer, k.stays = latency{}, gauge{}
}

// rebase begins a new base: S was learned anew.
func (k *Knee) rebase() {
	k.base, k.spread, k.based, k.crept = latency{}, sample{}, 0, false
	k.bases++
}

// strange reports whether s is far longer than calm times tell S to be in the long run, and was seen where more were inside than there are places by that: it may be a queue. Twice as much as they can do
// came to 46 processors, one request in ten 25 times as heavy as the others: dips from far above W told of what was left from before them, S went from 0.7 to 3.6 s within two minutes, and hundreds stayed inside.
func (k *Knee) strange(s, inside float64, part gauge) bool {
	return k.founded() && s > wrong*k.base.mean() && inside > k.high.rate()*k.base.mean() && !k.fewerIn(part)
}

// fewerIn reports whether less was answered in a dip than at the limit, by a standard deviation: then it was below the knee.
func (k *Knee) fewerIn(part gauge) bool {
	return math.Log(part.rate()/k.high.rate()) < -math.Sqrt(k.doubt()*(1/part.count+1/k.high.count))
}

// alike reports whether answers take longer though most kinds take what they do in calm times: then S is another because other things are asked for, or some take longer. Those who take long
// are answered last: who is inside tells of them first.
func (k *Knee) alike(win *Window) bool {
	lately := max(k.calmer.mean(), k.stays.area/max(k.stays.count, 1))
	return win.Sorted && k.low.told >= 8 && lately > kindsMore*k.low.mean() && k.calmer.typical()-k.low.typical() < kindsAlike
}

// harms reports whether answers come later than they did with less to do: all of them, and not some. The limit must not grow with what is used then: in the first quarter of a second of a surge
// it went from 40 to 230 before fifteen places, and it took more than half a second until anybody was let in again. If there is room after all, those who wait will show it.
func (k *Knee) harms(win *Window) bool {
	n := float64(win.Total)
	return k.low.told >= 8 && win.Logs/n-k.low.typical() > max(harmful, math.Sqrt(2*math.Log1p(k.noise())/n))
}

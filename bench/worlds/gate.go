package worlds

import (
	"time"

	"github.com/even-keel/evenkeel/admit/shed"
	"github.com/even-keel/evenkeel/exchange"
)

// What the stage does around the core, in fake time.
const outlier = 10

// An answer is good that takes no longer than its own work, four mean service times and 20 ms: nobody promises less over a network.
const (
	slack      = 4
	fixedSlack = 0.020
)

// limit is how many may be in flight.
func (p *play) limit() int {
	if p.places > 0 {
		return int(1.1*p.places+0.5) + 1
	}
	if p.knows == late { // it learns nothing by itself, and with few inside it would not hear enough to be told
		return 64 * len(p.servers)
	}
	return p.core.Limit()
}

// tellTruth tells the gate what is true now.
func (p *play) tellTruth() {
	w := p.world
	p.places = float64(w.Workers*w.Endpoints) * p.workers
	p.core.Told(p.places, w.mean()*p.slow)
	p.grant()
}

// take is the request that waited as w.
func (p *play) take(w *shed.Waiter) *request {
	x := p.waiting[w]
	delete(p.waiting, w)
	x.waits = false
	return x
}

// fair reports whether x is critical and critical demand can be served.
func (p *play) fair(x *request) bool {
	return x.Class == exchange.Critical && !p.failing && p.world.Critical*p.world.Capacity() < 0.5*p.capacity()
}

// greedy is the tenant that sends more than the others.
const greedy = 99

// modest reports whether x is of another tenant and counts.
func (p *play) modest(x *request) bool {
	return p.world.Greedy > 0 && x.Tenant != greedy && x.came > p.world.Length/5 && x.came < p.world.Length*9/10 // of later ones it is not seen what becomes of them
}

func (p *play) refused(x *request) {
	x.settled = true
	p.Refused++
	if p.calm() {
		p.CalmShed++
	}
}

// grant gives free places to those who wait.
func (p *play) grant() {
	for p.inFlight < p.limit() || p.core.Pass(p.now) {
		w, a := p.core.Next(p.now)
		if w == nil {
			return
		}
		x := p.take(w)
		switch {
		case a != shed.Enter:
			p.refused(x)
		case x.left:
			p.core.Gone(p.now)
		default:
			p.enter(x)
		}
	}
}

// enter sends x to the server with the least to do of those that least_requests looks at: two, and six more while the better one is busy.
func (p *play) enter(x *request) {
	p.inside(1)
	x.n, x.began, x.inside, x.era = p.inFlight, p.now, true, p.era
	n := len(p.servers)
	i := p.rand.IntN(n)
	a := p.servers[i]
	if n > 1 {
		if b := p.servers[(i+1+p.rand.IntN(n-1))%n]; b.inside < a.inside {
			a = b
		}
	}
	if a.inside > 0 && n > 2 {
		i = p.rand.IntN(n)
		for k := range min(n, 6) {
			if b := p.servers[(i+k)%n]; b.inside < a.inside {
				a = b
			}
		}
	}
	x.server, x.rank = a, a.inside+1
	if p.failing {
		p.at(p.now+time.Millisecond, event{kind: served, server: a, request: x})
		a.busy++ // served takes it back
		a.inside++
		return
	}
	j := &job{request: x, size: x.size * a.service}
	if a.sharing {
		j.size *= p.slow
	}
	a.take(p, j)
}

// answered is the end of the work on x, which took so many seconds by itself.
func (p *play) answered(x *request, status int, work float64) {
	if work == 0 {
		status = 500
	}
	if !x.inside { // its client has left, and the gate has seen it
		return
	}
	x.inside = false
	n := (x.n + p.inFlight + 1) / 2
	old := p.ends(x)
	p.inside(-1)
	took := p.now - x.began
	p.recent = p.now
	if status == 200 {
		if old {
			p.toOld++
		}
		p.note(x, n, took)
		if all := (p.now - x.came).Seconds(); !x.left && all <= work+slack*x.server.service*p.slow+fixedSlack {
			p.Good++
			if p.fair(x) {
				p.CriticalGood++
			}
			if p.modest(x) {
				p.ModestGood++
			}
		}
	}
	x.settled = true
	p.grant()
	p.look()
}

func (p *play) note(x *request, n int, took time.Duration) {
	s := took.Seconds()
	if p.mean > 0 {
		s = min(s, outlier*p.mean+0.001)
	}
	p.win.Add(n, s)
	learn, count, inside := p.core.Quick()
	x.server.quick.Note(s, learn, x.n >= inside, count)
	if x.rank > p.core.Tells() {
		p.win.First = append(p.win.First, shed.First{Endpoint: x.server, Rank: x.rank, Seconds: s})
	}
	p.answers++
	if p.hears > 0 {
		if p.hears--; p.hears == 0 {
			p.tellTruth()
		}
	}
}

// leave is the end of a client's patience.
func (p *play) leave(x *request) {
	if x.settled {
		return
	}
	x.left = true
	if !x.inside || p.world.Ignores { // who waits is asked when its turn comes
		return
	}
	x.inside, x.settled = false, true
	took := p.now - x.began
	_, service := p.core.Estimate()
	typical := min(p.core.Typical(x.n), max(seconds(1.5*service), 2*took))
	if took > min(typical/3, seconds(p.mean)) || p.recent < x.began {
		p.hasty++
		p.stayed += min(took.Seconds(), outlier*p.mean+0.001)
	}
	p.ends(x)
	if took >= typical {
		p.inside(-1)
		p.grant()
	} else {
		p.at(p.now+typical-took, event{kind: rests})
	}
	p.look()
}

// inside changes how many are in flight.
func (p *play) inside(by int) {
	past := (p.now - p.since).Seconds()
	p.area += float64(p.inFlight) * past
	p.oldArea += float64(p.old) * past
	p.since = p.now
	p.inFlight += by
}

// ends counts x no more among those from before the era, and reports whether it was.
func (p *play) ends(x *request) (old bool) {
	if old = x.era != p.era; old {
		p.inside(0)
		p.old--
	}
	return old
}

// look lets the core learn, as often as the stage does.
func (p *play) look() {
	if p.knows != learns || p.now < p.nextLook {
		return
	}
	p.inside(0)
	f := shed.Flow{InFlight: p.inFlight, Endpoints: len(p.servers), Answers: p.answers, OldAnswers: p.toOld, Area: p.area, OldArea: p.oldArea, Left: p.hasty, Stayed: p.stayed, Old: p.old}
	p.answers, p.toOld, p.area, p.oldArea, p.hasty, p.stayed = 0, 0, 0, 0, 0, 0
	if !p.core.Studies(p.now) {
		p.core.Look(p.now, nil, f)
	} else {
		if n := float64(p.win.Total); n > 0 {
			part := min(1, n/100)
			if p.mean == 0 {
				part = 1
			}
			p.mean += part * (p.win.Seconds/n - p.mean)
		}
		if p.core.Batches(p.now) {
			p.signs()
		}
		p.core.Look(p.now, &p.win, f)
		p.win = shed.Window{}
	}
	p.nextLook = p.core.Again(p.now)
	if era := p.core.Era(); era != p.era {
		p.era, p.old = era, p.inFlight
	}
	p.grant()
}

// tell writes a moment of the story.
func (p *play) tell(every time.Duration, last *Result) {
	per := 1 / every.Seconds()
	workers, service := p.core.Estimate()
	p.Story = append(p.Story, Moment{
		At: p.now, Demand: p.rate(), Capacity: p.capacity(), Good: float64(p.Good-last.Good) * per,
		Refused: float64(p.Refused-last.Refused) * per, Limit: float64(p.limit()), Workers: workers, Service: service,
		InFlight: p.inFlight, Waiting: p.core.Waiting(), True: int(float64(p.world.Workers*p.world.Endpoints)*p.workers + 0.5),
	})
	last.Good, last.Refused = p.Good, p.Refused
}

// signs tells win what quick answers show.
func (p *play) signs() {
	_, count, _ := p.core.Quick()
	var all shed.Signs
	for _, one := range p.servers {
		all.Add(&one.quick, count, float64(one.inside))
	}
	p.win.Heard, p.win.Quick = all.Tell()
}

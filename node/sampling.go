package node

import (
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/monitor/journal"
	"github.com/even-keel/evenkeel/site"
)

// sampler chooses requests that are kept one by one. Requests look at two numbers that change once a second, and at dice of their own
// processor: those that are not chosen cost some nanoseconds, no lock and no memory.
type sampler struct {
	store *journal.Store
	mask  atomic.Bool
	good  share // of requests that went well
	bad   share // of those that failed or were refused
}

// share is which part is chosen.
type share struct {
	below  atomic.Uint64 // dice of 2^63 sides must fall below it
	weight atomic.Uint64 // bits of a float64: for how many one stands
	left   atomic.Int64  // that may be kept until the next second: a flood after a quiet second would all be, and cost a twentieth of a processor
	owed   atomic.Uint64 // thousandths of requests that were chosen and not kept: the next one that is kept stands for them too
}

// sides of the dice.
const sides = 1 << 63

// set changes the share, 0 to 1.
func (s *share) set(part float64) {
	switch {
	case part >= 1:
		s.below.Store(sides)
	case !(part > 0):
		s.below.Store(0)
		return
	default:
		s.below.Store(uint64(part * sides))
	}
	s.weight.Store(math.Float64bits(1 / min(part, 1)))
}

// drawn says whether one is chosen, and for how many it stands.
func (s *share) drawn() (weight float64, ok bool) {
	below := s.below.Load()
	if below != sides && (below == 0 || rand.Uint64()>>1 >= below) {
		return 0, false
	}
	weight = math.Float64frombits(s.weight.Load())
	if s.left.Load() <= 0 || s.left.Add(-1) < 0 {
		s.owed.Add(uint64(weight * 1000))
		return 0, false
	}
	if s.owed.Load() > 0 {
		weight += float64(s.owed.Swap(0)) / 1000
	}
	return weight, true
}

// partOf is which part of so many a second is chosen.
func partOf(cfg *site.RequestRecords, perSecond float64) float64 {
	part := float64(cfg.Sample)
	if perSecond > float64(cfg.Most) {
		part = min(part, float64(cfg.Most)/perSecond)
	}
	return part
}

// step sets the shares for the next second by the last.
func (s *sampler) step(cfg *site.RequestRecords, good, bad float64) {
	s.mask.Store(cfg.MaskClient)
	if cfg.Off {
		s.good.set(0)
		s.bad.set(0)
		return
	}
	most := int64(max(2*float64(cfg.Most), 1))
	for _, of := range []struct {
		*share
		came float64
	}{{&s.good, good}, {&s.bad, bad}} {
		of.set(partOf(cfg, of.came))
		of.left.Store(most)
	}
}

// note keeps an exchange that has ended when it is chosen.
func (s *sampler) note(x *exchange.Exchange, refusal *exchange.Refusal, status int, took time.Duration) {
	of := &s.good
	if refusal != nil || failed(x, status) {
		of = &s.bad
	}
	if weight, ok := of.drawn(); ok {
		s.keep(x, refusal, status, took, weight)
	}
}

// keep copies what is worth keeping of an exchange.
func (s *sampler) keep(x *exchange.Exchange, refusal *exchange.Refusal, status int, took time.Duration, weight float64) {
	r := &journal.Request{
		At: x.Start.Add(took), Listener: x.Listener.Name, Protocol: x.Protocol.String(), Status: status, Took: took, FirstByte: x.Outcome.FirstByte,
		BytesIn: x.Outcome.BytesIn, BytesOut: x.Outcome.BytesOut, Attempts: x.Attempt, Weight: weight, Failed: failed(x, status), ID: string(x.RequestID),
	}
	if q := x.Request; q != nil {
		r.Method, r.Host, r.Path = string(q.Method), string(x.Host), string(x.Path)
	} else {
		r.Host = x.SNI
	}
	if x.Route != nil {
		r.Route, r.Class = x.Route.Name, x.Class.String()
	}
	if e := x.Endpoint; e != nil {
		r.Pool, r.Endpoint = e.Pool, e.Address
	}
	if refusal != nil {
		r.RefusedBy, r.Reason = refusal.Stage, refusal.Reason
	}
	if addr := clientAddr(x); s.mask.Load() {
		r.Client = masked(addr)
	} else if addr.IsValid() {
		r.Client = addr.String()
	}
	s.store.Request(r)
}

// goodAndBad are the exchanges of all routes until now: those that went well, and those that failed or were refused.
func (t *tallies) goodAndBad() (good, bad uint64) {
	t.each(func(_ tallyKey, one *tally) {
		var d demand
		one.addDemand(&d)
		came := d.came[0] + d.came[1] + d.came[2]
		wrong := min(one.wrong(), came)
		good, bad = good+came-wrong, bad+wrong
	})
	return good, bad
}

// wrong is how many exchanges failed or were refused.
func (t *tally) wrong() (n uint64) {
	for i := range t.shards {
		if p := t.shards[i].Load(); p != nil {
			n += p.refused.Load()
			for class := range p.failed {
				n += p.failed[class].Load()
			}
		}
	}
	return n
}

// outcomes are the exchanges up to a moment.
type outcomes struct {
	at        time.Time
	good, bad uint64
}

// lookAtOutcomes sets the sampler by the last second. It is called once a second.
func (n *Node) lookAtOutcomes(now time.Time, was outcomes) outcomes {
	is := outcomes{at: now}
	is.good, is.bad = n.tallies.goodAndBad()
	n.mu.Lock()
	cfg := &n.site.Events.Requests
	n.mu.Unlock()
	past := now.Sub(was.at).Seconds()
	if was.at.IsZero() || past <= 0 {
		n.keeps.step(cfg, 0, 0)
		return is
	}
	n.keeps.step(cfg, float64(less(is.good, was.good))/past, float64(less(is.bad, was.bad))/past)
	return is
}

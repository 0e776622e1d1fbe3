package limit

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/admit/key"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// Reasons of refusals, beside stage "limit".
const (
	reasonRate        = "rate"
	reasonConcurrency = "concurrency"
)

// Words of site.Limit.Headers; auto is what is left.
const (
	headersAlways  = "always"
	headersRefused = "refused"
	headersOff     = "off"
)

// busyRetry is what a client is told that has too many requests under way: nobody knows when one of them ends, and a second hurts nobody.
const busyRetry = time.Second

// countShards spreads counters over cores.
const countShards = 16

// counts are the counters of one limit, one set per shard of connections.
type counts [countShards]struct {
	admitted, refused, wouldRefuse atomic.Uint64 // admitted: of cells alone; tables count their own
	_                              [40]byte
}

// memory is what a limit knows of its keys. It outlives reloads.
type memory struct {
	rate   *table // nil: no rate, or by cells
	busy   *table // nil: no concurrency, or by cells
	cells  map[string]*cell
	counts *counts
	top    *top
	now    *atomic.Pointer[limiter] // whose numbers are in force
}

// limiter is one limit made ready. It is never changed; what it points to is.
type limiter struct {
	memory
	cfg       *site.Limit
	maker     *key.Maker
	ipv6      int
	classes   uint8 // bit set of exchange.Class
	alone     bool  // its keys are routes, or one for all: cells
	own       bool  // a client's own limit, not one that clients share
	ceiling   int64 // nanoseconds that a key may owe
	base      numbers
	overrides map[uint64]*numbers // by hash; nil: none
	named     map[string]*numbers // by text, for cells and changes of numbers
	costIndex int                 // in x.Costs
	slow      *exchange.Refusal   // ready made: the rate
	busyNo    *exchange.Refusal   // ready made: the concurrency
}

// newLimiter makes a limit ready. What old knows of its keys is kept when the keys are alike; nil: there is none.
func newLimiter(cfg *site.Limit, ipv6 int, old *limiter) (*limiter, error) {
	l := &limiter{cfg: cfg, ipv6: ipv6, classes: classBits(cfg.Classes), alone: true}
	for _, word := range cfg.By {
		l.alone = l.alone && (word == site.ByGlobal || word == site.ByRoute)
	}
	l.own = ownedBy(cfg.By)
	if old != nil && slices.Equal(old.cfg.By, cfg.By) && old.ipv6 == ipv6 {
		l.maker, l.memory = old.maker, old.memory
	} else {
		l.maker = key.New(cfg.By, ipv6)
		l.memory = memory{counts: new(counts), top: new(top), now: new(atomic.Pointer[limiter])}
		l.now.Store(l)
	}
	rated := cfg.Rate > 0 || slices.ContainsFunc(cfg.Overrides, func(o site.Override) bool { return o.Rate > 0 })
	bounded := cfg.Concurrency > 0 || slices.ContainsFunc(cfg.Overrides, func(o site.Override) bool { return o.Concurrency > 0 })
	l.rate, l.busy = l.tableFor(l.rate, rated), l.tableFor(l.busy, bounded)
	l.refusals()
	return l, l.numbers()
}

// tableFor is the table that l goes on with: the one it had, a new one, or none.
func (l *limiter) tableFor(had *table, needed bool) *table {
	switch {
	case !needed || l.alone:
		return nil
	case had == nil:
		return newTable(l.cfg.Keys)
	}
	return had
}

// deferred says that the cost is charged after the answer.
func (l *limiter) deferred() bool { return l.cfg.Cost != site.CostRequest && l.cfg.Cost != "" }

// classBits is a set of classes; none named: all.
func classBits(words []string) (bits uint8) {
	for _, c := range []exchange.Class{exchange.Standard, exchange.Critical, exchange.Low} {
		if len(words) == 0 || slices.Contains(words, c.String()) {
			bits |= 1 << c
		}
	}
	return bits
}

// numbers makes the numbers of all keys and of single ones ready.
func (l *limiter) numbers() error {
	cfg := l.cfg
	l.base = newNumbers(float64(cfg.Rate), float64(cfg.Burst), cfg.Concurrency)
	l.base.told = l.tell(&l.base)
	l.ceiling = maxSpan
	if l.deferred() {
		l.ceiling = l.base.span + int64(maxDebt)
	}
	for i, o := range cfg.Overrides {
		h, ok := l.maker.HashText(o.Key)
		if !ok {
			return fmt.Errorf("limits: %s: overrides[%d].key: %q is no key of a limit by %v: it has one part for each, with a blank between, and addresses as 192.0.2.1 or 2001:db8::/64", cfg.Name, i, o.Key, cfg.By)
		}
		n := newNumbers(or(float64(o.Rate), float64(cfg.Rate)), or(float64(o.Burst), float64(cfg.Burst)), or(o.Concurrency, cfg.Concurrency))
		n.unlimited, n.told = o.Unlimited, l.tell(&n)
		if l.overrides == nil {
			l.overrides, l.named = map[uint64]*numbers{}, map[string]*numbers{}
		}
		if l.overrides[h] != nil {
			return fmt.Errorf("limits: %s: overrides[%d].key: %q is overridden above already", cfg.Name, i, o.Key)
		}
		l.overrides[h], l.named[o.Key] = &n, &n
		if l.deferred() {
			l.ceiling = max(l.ceiling, n.span+int64(maxDebt))
		}
	}
	return nil
}

// or is the first of both that is not zero. An override without a burst keeps the limit's; a limit without one follows the rate.
func or[T int | float64](a, b T) T {
	if a != 0 {
		return a
	}
	return b
}

// of are the numbers of one key.
func (l *limiter) of(h uint64) *numbers {
	if l.overrides != nil {
		if n := l.overrides[h]; n != nil {
			return n
		}
	}
	return &l.base
}

// told is what clients are told of numbers.
type told struct{ rate, busy *exchange.Policy }

// tell makes ready what clients are told (draft-ietf-httpapi-ratelimit-headers-10, sections 3 and 4).
func (l *limiter) tell(n *numbers) (t told) {
	if l.cfg.Headers == headersOff {
		return t
	}
	always := l.cfg.Headers == headersAlways ||
		l.cfg.Headers != headersRefused && (slices.Contains(l.cfg.By, site.ByCustomer) || slices.Contains(l.cfg.By, site.ByUser))
	make := func(name, params string) *exchange.Policy {
		p := &exchange.Policy{Name: l.cfg.Name, Quoted: []byte(strconv.Quote(name)), Always: always}
		p.Field = append(append(p.Field, p.Quoted...), params...)
		if r := l.cfg.Answer.Remaining; r != "" {
			p.Remaining = []byte(r)
		}
		return p
	}
	name := l.cfg.Name
	if n.rate > 0 {
		// q is what may come in w seconds, time after time. w is what a whole burst takes, in whole seconds.
		w := min(max(1, math.Ceil(n.burst/n.rate-1e-9)), 1e9)
		q := max(1, math.Floor(n.rate*w+1e-9))
		params := ""
		if l.cfg.Cost == site.CostBytes {
			q, params = q*float64(l.cfg.UnitBytes), `;qu="content-bytes"`
		}
		t.rate = make(name, fmt.Sprintf(";q=%.0f%s;w=%.0f", min(q, 1e15-1), params, w))
		name += "-concurrency"
	}
	if n.concurrency > 0 {
		t.busy = make(name, fmt.Sprintf(`;q=%d;qu="concurrent-requests"`, n.concurrency))
		t.busy.Always = always && n.rate == 0 // of one limit, one number is enough
	}
	return t
}

// Told is what clients are told of a limit by default: policies (of the rate first; nil with headers: off) and the refusal.
// burst is what may come at once, 0 without a rate. It is for documents.
func Told(cfg *site.Limit) (rate, concurrency *exchange.Policy, refusal *exchange.Refusal, burst float64) {
	l := &limiter{cfg: cfg, own: ownedBy(cfg.By)}
	n := newNumbers(float64(cfg.Rate), float64(cfg.Burst), cfg.Concurrency)
	l.refusals()
	t := l.tell(&n)
	refusal = l.slow
	if n.rate == 0 {
		refusal = l.busyNo
	}
	return t.rate, t.busy, refusal, n.burst
}

// ownedBy says whether a limit by these facts is the caller's own, so that refusals are its fault.
func ownedBy(by []string) bool {
	return slices.ContainsFunc(by, func(w string) bool { return w == site.ByCustomer || w == site.ByUser || w == site.ByIP })
}

// refusals makes the refusals of l ready.
func (l *limiter) refusals() {
	a := l.cfg.Answer
	r := exchange.Refusal{
		Stage: "limit", Reason: reasonRate, Limit: l.cfg.Name, RetryAfter: busyRetry, Detail: a.Detail,
		Status: http.StatusServiceUnavailable, Problem: exchange.ProblemReduced,
	}
	if l.own {
		r.Status, r.Problem = http.StatusTooManyRequests, exchange.ProblemQuota
	}
	if a.Status != 0 {
		r.Status = a.Status
	}
	if a.RetryAfter != "" && a.RetryAfter != "Retry-After" {
		r.RetryName = []byte(a.RetryAfter)
	}
	if a.Body != "" {
		r.Body, r.ContentType = []byte(a.Body), []byte(a.ContentType)
	}
	busy := r
	busy.Reason = reasonConcurrency
	if a.Detail == "" {
		r.Detail, busy.Detail = "More came than the limit "+l.cfg.Name+" lets through.", "More is under way than the limit "+l.cfg.Name+" lets through."
	}
	l.slow, l.busyNo = &r, &busy
}

// refused counts a refusal, or one that a dry run did not make.
func (l *limiter) refused(x *exchange.Exchange, h uint64, now int64) {
	c := &l.counts[x.Shard%countShards]
	if l.cfg.DryRun {
		c.wouldRefuse.Add(1)
	} else {
		c.refused.Add(1)
	}
	l.top.note(l.maker, x, h, now)
}

// rescale makes what keys owe to old the same share of what they may have of l.
func (l *limiter) rescale(old *limiter, now int64) {
	factor := func(was, is *numbers) float64 {
		if was.interval == 0 || is.interval == 0 {
			return 1
		}
		return is.interval / was.interval
	}
	for text, c := range l.cells {
		was, is := old.numbersOf(text), l.numbersOf(text)
		if f := factor(was, is); f != 1 {
			c.tat.scale(now, f)
			for i := range c.parts {
				c.parts[i].scale(now, f)
			}
		}
	}
	if l.rate == nil || l.rate != old.rate {
		return
	}
	if l.base.interval == old.base.interval && len(l.overrides) == 0 && len(old.overrides) == 0 {
		return
	}
	l.rate.scale(now, func(h uint64) float64 { return factor(old.of(h), l.of(h)) })
}

// numbersOf are the numbers of a key by its text.
func (l *limiter) numbersOf(text string) *numbers {
	if n := l.named[text]; n != nil {
		return n
	}
	return &l.base
}

package quota

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// Set is the quotas of one site over what a book has counted. It is a stage: it stands after the limits, so that a request which is too
// fast costs no quota, and before everything that waits. It is never changed and may be used by any goroutine.
type Set struct {
	rules []rule
	book  *Book
}

// rule is one quota made ready.
type rule struct {
	cfg       *site.Quota
	table     *table
	routes    []bool // by Route.Index; nil: all
	classes   [3]bool
	bounds    bounds
	overrides map[uint64]*bounds
	refusal   *exchange.Refusal
	headers   bool // refusals carry RateLimit fields
}

// bounds are the numbers of a quota for one key.
type bounds struct {
	used            // 0: not counted
	unlimited       bool
	byCalls, byData *exchange.Policy
}

// Serve implements exchange.Stage. A request that evenkeel refuses in a later stage without having reached an
// endpoint is given back; bytes are charged when the answer has ended. A nil Set lets everything through.
func (s *Set) Serve(x *exchange.Exchange, next *exchange.Next) *exchange.Refusal {
	if s == nil {
		return next.Do(x)
	}
	return s.from(0, x, next)
}

// from is the way through the quotas from i on. One frame for each quota that a request meets is the place where it is
// remembered what to give back.
func (s *Set) from(i int, x *exchange.Exchange, next *exchange.Next) *exchange.Refusal {
	for i < len(s.rules) && !s.rules[i].applies(x) {
		i++
	}
	if i == len(s.rules) {
		return next.Do(x)
	}
	a, w, refusal := s.rules[i].charge(x, s.book)
	if refusal != nil {
		s.patience(i+1, x)
		return refusal
	}
	refusal = s.from(i+1, x, next)
	if a != nil {
		s.rules[i].settle(x, a, w, refusal, s.book)
	}
	return refusal
}

// patience makes x.RetryAfter long enough for the quotas from i on, which were not asked: a client that comes back when the hour's quota
// is whole again must not meet that of the month. None is told when one of them never comes back.
//
//go:noinline
func (s *Set) patience(i int, x *exchange.Exchange) {
	for ; i < len(s.rules) && x.RetryAfter > 0; i++ {
		r := &s.rules[i]
		h, ok := r.table.keys.Hash(x)
		if !ok || r.cfg.DryRun || !r.applies(x) {
			continue
		}
		b, a := r.bound(h), r.table.find(h)
		if b.unlimited || a == nil {
			continue
		}
		w := a.window(r.table.period, x.Start, r.table.span(x.Start))
		if w == nil || !b.spent(w.total()) {
			continue
		}
		x.RetryAfter = later(x.RetryAfter, jittered(r.wait(a, w, b, x.Start), rand.Float64()))
	}
}

// Patience makes the wait of a request that a limit refused long enough for the quotas, which were not asked: who comes too fast and has used its quota up would
// come back each second until the month ends. A quota that never comes back leaves the wait as it is.
func (s *Set) Patience(x *exchange.Exchange) {
	told := x.RetryAfter
	if s.patience(0, x); x.RetryAfter == 0 {
		x.RetryAfter = told
	}
}

// later is the longer of two waits, where 0 is for ever.
func later(a, b time.Duration) time.Duration {
	if b == 0 {
		return 0
	}
	return max(a, b)
}

// spent says that nothing is left.
func (b *bounds) spent(sum used) bool {
	return b.calls > 0 && sum.calls >= b.calls || b.bytes > 0 && sum.bytes >= b.bytes
}

// applies says whether requests of this route and class are counted.
func (r *rule) applies(x *exchange.Exchange) bool {
	return r.classes[x.Class] && (r.routes == nil || x.Route != nil && r.routes[x.Route.Index])
}

// bound is what holds for a key.
func (r *rule) bound(h uint64) *bounds {
	if len(r.overrides) > 0 {
		if b := r.overrides[h]; b != nil {
			return b
		}
	}
	return &r.bounds
}

// charge counts one call, or refuses. The account is nil when nothing was counted. It is not inlined, so that its work is not on the
// stack of an exchange that waits.
//
//go:noinline
func (r *rule) charge(x *exchange.Exchange, book *Book) (*account, *window, *exchange.Refusal) {
	h, ok := r.table.keys.Hash(x)
	if !ok {
		return nil, nil, nil
	}
	b := r.bound(h)
	if b.unlimited {
		return nil, nil, nil
	}
	a, w := r.table.window(x, h, x.Start)
	if w == nil {
		r.table.beyondKeys(book)
		return nil, nil, nil
	}
	if b.bytes > 0 && w.pastBytes.Load()+w.bytes.Load() >= b.bytes || b.calls > 0 && !w.take(b.calls) {
		return nil, nil, r.refuse(x, a, w, b)
	}
	r.table.note(a)
	r.table.tally.shards[x.Shard%tallyShards].admitted.Add(1)
	// Clients are told nothing of a trial: they would keep to it.
	if p := cmp.Or(b.byCalls, b.byData); p.Always && !r.cfg.DryRun {
		r.allow(x, w, b)
	}
	return a, w, nil
}

// take counts one call unless that is more than most.
func (w *window) take(most int64) bool {
	past := w.pastCalls.Load()
	// Looking first costs those who hammer a used-up quota no write.
	if past+w.calls.Load() >= most {
		return false
	}
	if past+w.calls.Add(1) > most {
		w.calls.Add(-1)
		return false
	}
	return true
}

// window is the account of x and its present window; nil when the table is full.
func (t *table) window(x *exchange.Exchange, h uint64, now time.Time) (*account, *window) {
	s := t.span(now)
	for range 3 { // an account that was forgotten just now is made anew
		a := t.account(x, h, now)
		if a == nil {
			return nil, nil
		}
		if w := a.window(t.period, now, s); w != nil {
			return a, w
		}
	}
	return nil, nil
}

// present is the window at now of who had the account a, which may be forgotten since: a request that outlasts its period by more than a
// minute is in no table any more, and its bytes count all the same. Both are nil when the table is full.
func (t *table) present(a *account, now time.Time) (*account, *window) {
	s := t.span(now)
	for range 3 {
		if w := a.window(t.period, now, s); w != nil {
			return a, w
		}
		if a = t.enter(a.packed, a.hash, s.start); a == nil {
			return nil, nil
		}
	}
	return nil, nil
}

// beyondKeys notes a request of a key for which there is no room.
//
//go:noinline
func (t *table) beyondKeys(book *Book) {
	t.beyond.Add(1)
	if t.full.CompareAndSwap(false, true) {
		book.event(fmt.Sprintf("quota %s counts %d keys, as many as it may: requests of further keys are let through uncounted; raise its keys", t.name, t.most.Load()))
	}
}

// refuse says no, or only counts that it would.
//
//go:noinline
func (r *rule) refuse(x *exchange.Exchange, a *account, w *window, b *bounds) *exchange.Refusal {
	n := &r.table.tally.shards[x.Shard%tallyShards]
	if r.cfg.DryRun {
		n.would.Add(1)
		r.table.top.count(a, x.Shard)
		return nil
	}
	n.refused.Add(1)
	r.table.top.count(a, x.Shard)
	wait := r.wait(a, w, b, x.Start)
	x.RetryAfter = jittered(wait, rand.Float64())
	if r.headers {
		sum := w.total()
		if b.calls > 0 && sum.calls >= b.calls {
			x.Allow(exchange.Allowance{Of: b.byCalls, Reset: wait, Violated: true})
		}
		if b.bytes > 0 && sum.bytes >= b.bytes {
			x.Allow(exchange.Allowance{Of: b.byData, Reset: wait, Violated: true})
		}
	}
	return r.refusal
}

// wait is how long a key has to wait until a request passes; 0 for ever.
func (r *rule) wait(a *account, w *window, b *bounds, now time.Time) time.Duration {
	span := r.table.span(now)
	if w.start != span.start { // the clock went back over a boundary
		span = r.table.period.at(time.Unix(0, w.start))
	}
	free := a.free(r.table.period, w, span.end, b.used)
	if free == math.MaxInt64 {
		return 0
	}
	return max(time.Duration(free-now.UnixNano()), time.Second)
}

// Bounds of the jitter of Retry-After: a twentieth of the wait, so that those who were refused do not come back together,
// and never more than clients notice.
const (
	jitterShare = 20
	jitterMost  = 5 * time.Minute
)

// jittered is a wait, lengthened by chance (0 to 1): never shortened, because a retry before the period's end cannot succeed.
func jittered(wait time.Duration, chance float64) time.Duration {
	if wait <= 0 {
		return 0
	}
	return wait + time.Duration(chance*float64(max(min(wait/jitterShare, jitterMost), time.Second)))
}

// allow notes what is left.
func (r *rule) allow(x *exchange.Exchange, w *window, b *bounds) {
	sum := w.total()
	reset := r.reset(x.Start)
	if b.calls > 0 {
		x.Allow(exchange.Allowance{Of: b.byCalls, Left: max(b.calls-sum.calls, 0), Reset: reset})
	}
	if b.bytes > 0 {
		x.Allow(exchange.Allowance{Of: b.byData, Left: max(b.bytes-sum.bytes, 0), Reset: reset})
	}
}

// reset is until when the whole quota is back; 0: never.
func (r *rule) reset(now time.Time) time.Duration {
	switch p := r.table.period; {
	case p.sliding:
		return p.nominal
	case p.nominal == 0:
		return 0
	}
	return time.Duration(r.table.span(now).end - now.UnixNano())
}

// settle charges bytes, or gives the call back.
//
//go:noinline
func (r *rule) settle(x *exchange.Exchange, a *account, w *window, refusal *exchange.Refusal, book *Book) {
	b := r.bound(a.hash)
	switch {
	case refusal != nil && !x.Outcome.Reached:
		if b.calls > 0 {
			w.calls.Add(-1)
			r.table.note(a)
		}
	case b.bytes > 0:
		n := x.Outcome.BytesIn + x.Outcome.BytesOut
		if n <= 0 {
			return
		}
		// The period may have changed since the request came.
		if a, w = r.table.present(a, book.now()); a == nil {
			r.table.beyondKeys(book)
			return
		}
		w.bytes.Add(n)
		r.table.note(a)
	}
}

// newRule makes a checked quota ready. routes are the names of the site's routes in order.
func newRule(q *site.Quota, t *table, routes []string) rule {
	r := rule{cfg: q, table: t, headers: q.Headers != "off"}
	if len(q.Routes) > 0 {
		r.routes = make([]bool, len(routes))
		for i, name := range routes {
			r.routes[i] = slices.Contains(q.Routes, name)
		}
	}
	for _, c := range []exchange.Class{exchange.Standard, exchange.Critical, exchange.Low} {
		r.classes[c] = len(q.Classes) == 0 || slices.Contains(q.Classes, c.String())
	}
	r.bounds = newBounds(q, t.period, used{int64(q.Calls), int64(q.Bytes)})
	for _, o := range q.Overrides {
		h, ok := t.keys.HashText(o.Key)
		if !ok {
			continue
		}
		b := newBounds(q, t.period, used{cmp.Or(int64(o.Calls), int64(q.Calls)), cmp.Or(int64(o.Bytes), int64(q.Bytes))})
		b.unlimited = o.Unlimited
		if r.overrides == nil {
			r.overrides = map[uint64]*bounds{}
		}
		r.overrides[h] = &b
	}
	r.refusal = newRefusal(q)
	return r
}

// newRefusal makes the refusal of a quota ready.
func newRefusal(q *site.Quota) *exchange.Refusal {
	r := &exchange.Refusal{
		Stage: "limit", Reason: "quota", Limit: q.Name, Status: cmp.Or(q.Answer.Status, http.StatusForbidden), Problem: exchange.ProblemQuota,
		Detail: cmp.Or(q.Answer.Detail, "The quota "+q.Name+" is used up."),
	}
	if name := q.Answer.RetryAfter; name != "" && http.CanonicalHeaderKey(name) != "Retry-After" {
		r.RetryName = []byte(name)
	}
	if q.Answer.Body != "" {
		r.Body, r.ContentType = []byte(q.Answer.Body), []byte(q.Answer.ContentType)
	}
	return r
}

// Told is what clients are told of a quota by default: policies (nil for what it does not count), the refusal, and the length of its
// period, 0 for a lifetime. It is for documents.
func Told(q *site.Quota) (calls, data *exchange.Policy, refusal *exchange.Refusal, period time.Duration) {
	p := newPeriod(q)
	b := newBounds(q, p, used{int64(q.Calls), int64(q.Bytes)})
	return b.byCalls, b.byData, newRefusal(q), p.nominal
}

// newBounds makes numbers ready, with what clients are told of them.
func newBounds(q *site.Quota, p period, most used) bounds {
	b := bounds{used: most}
	always := q.Headers == "always" || q.Headers == "auto" && (slices.Contains(q.By, site.ByCustomer) || slices.Contains(q.By, site.ByUser))
	policy := func(name string, most int64, unit string) *exchange.Policy {
		quoted := `"` + name + `"`
		field := quoted + ";q=" + strconv.FormatInt(most, 10) + unit
		if w := int64(p.nominal / time.Second); w > 0 {
			field += ";w=" + strconv.FormatInt(w, 10)
		}
		made := &exchange.Policy{Name: q.Name, Field: []byte(field), Quoted: []byte(quoted), Always: always, Endless: p.nominal == 0}
		if q.Answer.Remaining != "" {
			made.Remaining = []byte(q.Answer.Remaining)
		}
		return made
	}
	if most.calls > 0 {
		b.byCalls = policy(q.Name, most.calls, "")
	}
	if most.bytes > 0 {
		name := q.Name
		if most.calls > 0 {
			name += "-bytes"
		}
		b.byData = policy(name, most.bytes, `;qu="content-bytes"`)
	}
	return b
}

package quota

import (
	"strings"
	"time"

	"github.com/even-keel/evenkeel/exchange"
)

// Status is what one quota did since the start of the process.
type Status struct {
	Name        string   `json:"name"`
	By          []string `json:"by"`
	Calls       int64    `json:"calls"` // per period; 0: not counted
	Bytes       int64    `json:"bytes"` // per period; 0: not counted
	Period      string   `json:"period"`
	Sliding     bool     `json:"sliding"`
	DryRun      bool     `json:"dry_run"`
	Keys        int      `json:"keys"`   // counted at the moment
	Beyond      uint64   `json:"beyond"` // requests let through uncounted, because there was no room for their key
	Admitted    uint64   `json:"admitted"`
	Refused     uint64   `json:"refused"`
	WouldRefuse uint64   `json:"would_refuse"` // in dry_run
	Top         []TopKey `json:"top"`          // the keys that are refused most
	Kept        bool     `json:"kept"`         // the counts outlive a restart
	Trouble     string   `json:"trouble,omitempty"`
}

// TopKey is a key that is refused often. The figure is an estimate.
type TopKey struct {
	Key     string `json:"key"`
	Refused uint64 `json:"refused"`
}

// Status is a copy of what the quotas did, in the order of the site file. A nil Set has none.
func (s *Set) Status() []Status {
	if s == nil {
		return nil
	}
	trouble := s.book.Trouble()
	out := make([]Status, 0, len(s.rules))
	for i := range s.rules {
		r := &s.rules[i]
		st := Status{
			Name: r.cfg.Name, By: r.cfg.By, Calls: r.bounds.calls, Bytes: r.bounds.bytes, Period: r.cfg.Period, Sliding: r.cfg.Sliding,
			DryRun: r.cfg.DryRun, Keys: int(r.table.count.Load()), Beyond: r.table.beyond.Load(), Top: r.table.top.list(r.table.keys.Text),
			Kept: r.table.kept, Trouble: trouble,
		}
		st.Admitted, st.Refused, st.WouldRefuse = r.table.tally.sum()
		out = append(out, st)
	}
	return out
}

// Explained is what one quota would say to a request.
type Explained struct {
	Name       string
	By         []string
	Key        string // as people write it; empty when the request has none
	Applies    bool
	Why        string // why it does not apply, or what is special
	Period     string
	Sliding    bool
	DryRun     bool
	Calls      int64 // bounds for this key; 0: not counted
	Bytes      int64
	UsedCalls  int64
	UsedBytes  int64
	LeftCalls  int64
	LeftBytes  int64
	Begins     time.Time     // of the present period; zero: lifetime or sliding
	Reset      time.Duration // until the whole quota is back; 0: never
	RetryAfter time.Duration // until the next request passes, when it is used up; 0: now, or never
	UsedUp     bool
}

// Explain says which quotas a request meets and what they have left for it. It changes nothing. A nil Set has none.
func (s *Set) Explain(x *exchange.Exchange) []Explained {
	if s == nil {
		return nil
	}
	out := make([]Explained, 0, len(s.rules))
	for i := range s.rules {
		out = append(out, s.rules[i].explain(x, s.book.now()))
	}
	return out
}

func (r *rule) explain(x *exchange.Exchange, now time.Time) Explained {
	e := Explained{Name: r.cfg.Name, By: r.cfg.By, Period: r.cfg.Period, Sliding: r.cfg.Sliding, DryRun: r.cfg.DryRun}
	switch {
	case !r.classes[x.Class]:
		e.Why = "it does not count requests of class " + x.Class.String()
		return e
	case !r.applies(x):
		e.Why = "it does not count requests of this route"
		return e
	}
	text, ok := r.table.keys.Append(nil, x)
	h, hashed := r.table.keys.Hash(x)
	if !ok || !hashed {
		e.Why = "the request has no " + strings.Join(r.cfg.By, " and ")
		return e
	}
	e.Key = string(text)
	b := r.bound(h)
	if b.unlimited {
		e.Why = "an override says that this key is unlimited"
		return e
	}
	e.Applies = true
	e.Calls, e.Bytes = b.calls, b.bytes
	e.Reset = r.reset(now)
	span := r.table.span(now)
	if !r.cfg.Sliding && r.table.period.nominal > 0 {
		e.Begins = time.Unix(0, span.start).UTC()
	}
	var sum used
	if a := r.table.find(h); a != nil {
		sum = a.look(r.table.period, now)
		w := a.now.Load()
		e.UsedUp = b.calls > 0 && sum.calls >= b.calls || b.bytes > 0 && sum.bytes >= b.bytes
		if e.UsedUp {
			e.RetryAfter = r.wait(a, w, b, now)
		}
	}
	e.UsedCalls, e.UsedBytes = sum.calls, sum.bytes
	e.LeftCalls, e.LeftBytes = max(b.calls-sum.calls, 0), max(b.bytes-sum.bytes, 0)
	switch {
	case b != &r.bounds:
		e.Why = "an override holds for this key"
	case r.cfg.DryRun:
		e.Why = "dry run: it refuses nothing"
	}
	return e
}

// look is what counts at now, without beginning a span.
func (a *account) look(p period, now time.Time) (sum used) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.now.Load()
	if w.start == gone {
		return used{}
	}
	s, moved := p.settled(now, w.start)
	if moved || p.again(s, w.from.Load()) {
		return w.total()
	}
	reach := p.reach(s)
	for at := w; at != nil && at.start >= reach; at = at.prev {
		sum.calls += at.calls.Load()
		sum.bytes += at.bytes.Load()
	}
	return sum
}

package screen

import (
	"math"
	"strings"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// Explained is what one rule with action limit says of one request, or the one that blocks it. Nothing is counted by asking.
type Explained struct {
	Name       string
	By         []string
	Key        string // whose count it is; empty: the rule does not hold
	Applies    bool
	Why        string        // why it does not hold
	Count      int           // requests per window
	Window     time.Duration // which slides
	Left       int
	Refuses    bool
	RetryAfter time.Duration // when it refuses
	Blocks     int           // the status with which the rule blocks the request; 0: its action is limit
}

// Explain says what every rule that limits would make of x, which must be routed and classified, if it came now, and which rule blocks it. Rules are asked in order: one
// before it that blocks or allows the request spares it the rest.
func (t *stage) Explain(x *exchange.Exchange) (out []Explained) {
	before := ""
	for _, r := range t.rules {
		if r.action == actionLimit {
			out = append(out, r.explain(x, t.s.deps.Now(), before))
		} else if before == "" && r.action != actionCount && r.holds(x) != r.not {
			before = "rule " + r.name + " has action " + r.action + " and comes before it"
			if r.action == actionBlock {
				out = append(out, Explained{Name: r.name, By: []string{}, Applies: true, Refuses: true, Blocks: r.refusal.Status})
			}
		}
	}
	return out
}

func (r *rule) explain(x *exchange.Exchange, now time.Time, before string) Explained {
	e := Explained{Name: r.name, By: r.window.words, Count: int(r.most), Window: r.window.length}
	switch {
	case before != "":
		e.Why = before
		return e
	case r.holds(x) == r.not:
		e.Why = "the request is not what its patterns mean"
		return e
	}
	text, ok := r.window.by.Append(nil, x)
	k, hashed := r.window.by.Hash(x)
	if !ok || !hashed {
		e.Why = "the request lacks a fact that the rule counts by: " + strings.Join(r.window.words, ", ")
		return e
	}
	e.Key, e.Applies = string(text), true
	e.Left, e.RetryAfter = r.window.look(k, time.Duration(now.UnixNano()), r.most)
	e.Refuses = e.Left == 0
	return e
}

// look is how many events of key would be let in now, and how long until one is when that is none. It counts nothing.
func (w *window) look(key uint64, at time.Duration, most uint32) (left int, wait time.Duration) {
	if key == 0 {
		key = 1
	}
	key *= 0x9e3779b97f4a7c15
	round := uint32(at / w.length)
	share := 1 - float64(at%w.length)/float64(w.length)
	c := windowCount{key: key, round: round}
	part := &w.parts[key%windowParts]
	part.mu.Lock()
	for _, one := range part.sets[key/windowParts%windowSets] {
		if one.key == key {
			c = one
		}
	}
	part.mu.Unlock()
	c.turn(round)
	if c.round != round {
		at, share = at+w.length-at%w.length, 1
	}
	if left = int(math.Floor(float64(most) - c.estimate(share))); left > 0 {
		return left, 0
	}
	c.now++
	return 0, max(c.wait(w.length, at, share, float64(most)), time.Second)
}

// wordsOf are the words of what a rule counts by.
func wordsOf(cfg *site.Rule) []string {
	if len(cfg.By) == 0 {
		return []string{site.ByIP}
	}
	return cfg.By
}

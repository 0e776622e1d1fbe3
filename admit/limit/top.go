package limit

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/even-keel/evenkeel/admit/key"
	"github.com/even-keel/evenkeel/exchange"
)

const (
	// topEntries bounds the keys that are watched: whoever makes more than a sixty-fourth of all refusals is among them for certain.
	topEntries = 64
	// topWindow is how long refusals are counted together. What is shown is the present window and the one before.
	topWindow = 5 * time.Minute
	// topShown is how many keys a status names.
	topShown = 10
)

// top are the keys that were refused most of late, by the sketch Space-Saving (Metwally, Agrawal, El Abbadi 2005). Refusals do not wait
// for each other: one that finds it busy is not noted, which all keys meet alike.
type top struct {
	mu      sync.Mutex
	started int64 // when the present window began
	windows [2][]suspect
}

// suspect is a key in a sketch: refused at least count - over times, at most count.
type suspect struct {
	hash        uint64
	count, over uint64
	text        []byte
}

// note counts a refusal of x, whose key has the hash h.
func (t *top) note(m *key.Maker, x *exchange.Exchange, h uint64, now int64) {
	if !t.mu.TryLock() {
		return
	}
	t.turn(now)
	w := t.windows[0]
	least := 0
	for i := range w {
		if w[i].hash == h {
			w[i].count++
			t.mu.Unlock()
			return
		}
		if w[i].count < w[least].count {
			least = i
		}
	}
	if len(w) < topEntries {
		least = len(w)
		if w = w[:least+1]; w[least].text == nil {
			w[least].text = make([]byte, 0, 32)
		}
		w[least].count = 0
		t.windows[0] = w
	}
	e := &w[least]
	e.hash, e.over = h, e.count
	e.count++
	e.text, _ = m.Append(e.text[:0], x)
	t.mu.Unlock()
}

// turn begins a new window when the present one is over.
func (t *top) turn(now int64) {
	if t.windows[0] == nil {
		t.windows[0], t.windows[1], t.started = make([]suspect, 0, topEntries), make([]suspect, 0, topEntries), now
	}
	past := now - t.started
	if past < int64(topWindow) {
		return
	}
	t.windows[0], t.windows[1] = t.windows[1][:0], t.windows[0]
	if past >= 2*int64(topWindow) {
		t.windows[1] = t.windows[1][:0]
	}
	t.started = now
}

// TopKey is a key that was refused often of late: at least Refused times in the last five to ten minutes.
type TopKey struct {
	Key     string `json:"key"`
	Refused uint64 `json:"refused"`
}

// shown are the keys that were refused most, the first first.
func (t *top) shown(now int64) []TopKey {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.windows[0] == nil {
		return nil
	}
	t.turn(now)
	sums := map[string]uint64{}
	for _, w := range t.windows {
		for _, e := range w {
			sums[string(e.text)] += e.count - e.over
		}
	}
	var out []TopKey
	for text, n := range sums {
		out = append(out, TopKey{text, n})
	}
	slices.SortFunc(out, func(a, b TopKey) int {
		return cmp.Or(cmp.Compare(b.Refused, a.Refused), cmp.Compare(a.Key, b.Key))
	})
	return out[:min(len(out), topShown)]
}

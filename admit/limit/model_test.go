package limit

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// model is a table without sharing, growing or forgetting: what a limit means.
type model map[uint64]int64

func (m model) take(h uint64, a ask) (int64, bool) {
	tat := max(m[h], a.now)
	if tat+a.need > a.now+a.span {
		return tat, false
	}
	m[h] = tat + a.cost
	return m[h], true
}

// FuzzAgainstModel plays operations on a table, and the same on a model that forgets nothing. As long as there is a place for all that
// owe, both say the same; when there is not, nobody who owes is let through by the table and not by the model.
func FuzzAgainstModel(f *testing.F) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 4 {
		seed := make([]byte, 1200)
		for i := range seed {
			seed[i] = byte(rnd.Uint32())
		}
		f.Add(seed, true)
		f.Add(seed, false)
	}
	f.Fuzz(func(t *testing.T, script []byte, small bool) {
		table, m, now := newTable(5000), model{}, second
		if small { // room for 256 keys in all
			table.most.Store(firstLines)
		}
		owing := map[uint64]bool{} // keys that had a place in the table when the model last saw them
		for ; len(script) >= 6; script = script[6:] {
			now += int64(binary.LittleEndian.Uint16(script[1:])) * 1_000_000
			n := newNumbers(1+float64(script[5]%5), float64(1+script[5]%7), 0)
			h := mixed(uint64(binary.LittleEndian.Uint16(script[3:]) % 2000))
			a := n.asks(now, float64(script[5]%4)+0.5, 1)
			a.need = min(a.need, a.span)
			switch script[0] % 4 {
			default:
				want, wantOK := m.take(h, a)
				got, ok := table.take(h, a, true)
				if small {
					if s := table.shard(h); s.find(h) == nil {
						delete(m, h) // it shares; the model is told nothing of that
						break
					}
					if ok && !wantOK && owing[h] {
						t.Fatalf("a key that owes until %d was let through at %d", want, now)
					}
					m[h], owing[h] = got, true
					break
				}
				if ok != wantOK || got != want {
					t.Fatalf("at %d: %v and %d, want %v and %d", now, ok, got, wantOK, want)
				}
			case 3:
				delta := int64(script[5])*10_000_000 - 500_000_000
				table.charge(h, now, delta, a.span+second)
				if small {
					if p := table.shard(h).find(h); p != nil {
						m[h], owing[h] = *p, true
					}
					break
				}
				if tat := m[h]; delta > 0 || tat > now {
					m[h] = charged(tat, now, delta, a.span+second)
				}
			}
			checkShard(t, table.shard(h), m, now, small)
		}
		if !small && table.size().spilled > 0 {
			t.Error("keys share though there is room for all")
		}
	})
}

// checkShard looks whether every key that owes has exactly one place, with what the model says of it.
func checkShard(t *testing.T, s *shard, m model, now int64, small bool) {
	t.Helper()
	seen := map[uint64]bool{}
	for at, l := range s.lines {
		for _, e := range l {
			if e.value <= now {
				continue
			}
			if a, b := places(e.key, len(s.lines)); at != a && at != b {
				t.Fatalf("key %x stands in line %d, its lines are %d and %d", e.key, at, a, b)
			}
			if seen[e.key] {
				t.Fatalf("key %x stands twice", e.key)
			}
			seen[e.key] = true
			if want := m[e.key]; want != e.value {
				t.Fatalf("key %x owes until %d, want %d", e.key, e.value, want)
			}
		}
	}
	if small {
		return
	}
	for h, tat := range m {
		if tat > now && !seen[h] && h>>60 == mixedShard(s, m) {
			t.Fatalf("key %x owes until %d and is forgotten", h, tat)
		}
	}
}

// mixedShard is the shard of a table with sixteen that s is, by a key that stands in it; 16: none does.
func mixedShard(s *shard, m model) uint64 {
	for _, l := range s.lines {
		for _, e := range l {
			if m[e.key] != 0 {
				return e.key >> 60
			}
		}
	}
	return 16
}

func TestCharged(t *testing.T) {
	for _, c := range []struct{ tat, now, delta, ceiling, want int64 }{
		{0, 10, 5, 100, 15},
		{12, 10, 5, 100, 17},
		{12, 10, -1, 100, 11},
		{12, 10, -5, 100, 10},
		{8, 10, -5, 100, 8}, // whole already
		{0, 10, 500, 100, 110},
		{300, 10, 5, 100, 300}, // never less by being charged
	} {
		if got := charged(c.tat, c.now, c.delta, c.ceiling); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}

// Numbers at the ends of what the site file allows do not overflow.
func TestNumbersAtTheEnds(t *testing.T) {
	for _, rate := range []float64{1e-6, 1.0 / 86400 / 365, 1, 1e9, 1e12} {
		for _, burst := range []float64{0, 1, 1e9} {
			n := newNumbers(rate, burst, 0)
			now := maxSpan / 4
			for _, cost := range []float64{0, 0.001, 1, 1e6, 1e15} {
				a := n.asks(now, cost, shareLow)
				tat, ok := a.of(0)
				if !ok || tat < now || a.need > a.span || a.cost < 0 || cost > 0 && a.cost == 0 {
					t.Errorf("rate %v, burst %v, cost %v: %+v becomes %d, %v", rate, burst, cost, a, tat, ok)
				}
				if again, _ := n.asks(now, cost, 1).of(tat); again < tat || a.wait(tat) < 0 || n.left(tat, now) < 0 {
					t.Errorf("rate %v, burst %v, cost %v: the second becomes %d after %d", rate, burst, cost, again, tat)
				}
				if c := charged(tat, now, a.cost, n.span+int64(maxDebt)); c < tat {
					t.Errorf("charging %d made %d of %d", a.cost, c, tat)
				}
			}
		}
	}
}

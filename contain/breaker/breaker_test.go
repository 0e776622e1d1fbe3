package breaker

import (
	"sync"
	"testing"
	"time"
)

// model is the same rules written down plainly: every outcome of the present turn is kept.
type model struct {
	cfg      Config
	state    State
	turn     int
	seen     []event
	row      int
	rowAt    time.Duration
	until    time.Duration
	openFor  time.Duration
	openings int
	closedAt time.Duration
	begun    int
	good     int
}

type event struct {
	part int64
	kind kind
}

func (m *model) to(s State) {
	m.state, m.seen, m.row, m.begun, m.good = s, nil, 0, 0, 0
	m.turn++
}

func (m *model) open(now time.Duration) {
	if m.state == Closed && now-m.closedAt > max(m.cfg.Window, 2*m.openFor) {
		m.openings = 0
	}
	m.openFor = m.cfg.OpenFor
	for range m.openings {
		m.openFor = min(2*m.openFor, m.cfg.OpenMax)
	}
	m.openings++
	m.until = now + m.openFor
	m.to(Open)
}

func (m *model) allow(now time.Duration) bool {
	if m.state == Open && now >= m.until {
		m.to(HalfOpen)
	}
	switch {
	case m.state == Closed:
		return true
	case m.state == HalfOpen && m.begun < m.cfg.Trials:
		m.begun++
		return true
	}
	return false
}

func (m *model) done(turn int, now time.Duration, o Outcome, took time.Duration) {
	if turn != m.turn {
		return
	}
	slow := o == Success && took >= m.cfg.Slow
	if m.state == HalfOpen {
		switch {
		case o == Ignored:
			m.begun--
		case o == Success && !slow:
			if m.good++; m.good == m.cfg.Trials {
				m.closedAt = now
				m.to(Closed)
			}
		default:
			m.open(now)
		}
		return
	}
	part := int64(now / (m.cfg.Window / parts))
	switch {
	case o == Ignored:
		return
	case o == Failure:
		if m.row++; m.row == 1 {
			m.rowAt = now
		}
		m.seen = append(m.seen, event{part, kindBad})
	case o == Pushback:
		m.seen = append(m.seen, event{part, kindLoad})
	case slow:
		m.row = 0
		m.seen = append(m.seen, event{part, kindSlow})
	default:
		m.row = 0
		m.seen = append(m.seen, event{part, kindGood})
		return
	}
	var n counts
	for _, e := range m.seen {
		if e.part > part-parts {
			n[e.kind]++
		}
	}
	all := float64(n.total())
	if m.row >= m.cfg.Row && now-m.rowAt >= m.cfg.RowFor ||
		int(all) >= m.cfg.Samples && (float64(n[kindBad]+n[kindLoad]) >= m.cfg.Failures*all || float64(n[kindSlow]) >= m.cfg.SlowShare*all) {
		m.open(now)
	}
}

// FuzzModel: whatever comes in whatever order, the breaker does what the plain model does, and half-open never lets more than its trials
// through.
func FuzzModel(f *testing.F) {
	f.Add([]byte("\x04\x00\x01\x01\x01\x01\x01\x01\x30\x01\x30\x00\x00"))
	f.Add([]byte{0, 1, 0x11, 0x22, 0x31, 0x42, 0x53, 0x64, 0x71, 0x82, 0x91, 0xa0, 0xf0, 1, 1, 1, 1, 2, 2, 2, 2, 0xf0, 0, 0})
	f.Fuzz(func(t *testing.T, ops []byte) {
		if len(ops) < 2 {
			return
		}
		cfg := Config{Row: 3 + int(ops[0]&7), RowFor: time.Duration(ops[0]>>6) * 100 * time.Millisecond, Failures: 0.5, Slow: time.Second, SlowShare: 0.7,
			Samples: 4 + int(ops[0]>>3&7), Window: time.Second, OpenFor: 300 * time.Millisecond, OpenMax: 2 * time.Second, Trials: 1 + int(ops[1]&3), TrialFor: time.Hour}
		b, m := New(cfg, Deps{Shards: 4}, start), &model{cfg: cfg}
		type pair struct {
			ticket Ticket
			turn   int
		}
		var open []pair
		now := time.Duration(0)
		for i, op := range ops[2:] {
			now += time.Duration(op>>4) * 10 * time.Millisecond
			if op>>4 == 15 {
				now += time.Second
			}
			if op&8 == 0 || len(open) == 0 {
				ticket, ok := b.Allow(start.Add(now), uint32(i))
				if want := m.allow(now); ok != want {
					t.Fatalf("step %d at %v: allowed %v, the model says %v (%v, %v)", i, now, ok, want, b.State(), m.state)
				}
				if ok {
					open = append(open, pair{ticket, m.turn})
				}
				if op&4 == 0 {
					continue
				}
			}
			if len(open) == 0 {
				continue
			}
			at := int(op>>2) % len(open)
			one := open[at]
			open = append(open[:at], open[at+1:]...)
			o, took := Outcome(op&3), time.Duration(op>>4&1)*2*time.Second
			b.Done(one.ticket, start.Add(now), Result{Outcome: o, Took: took})
			m.done(one.turn, now, o, took)
			if b.State() != m.state {
				t.Fatalf("step %d at %v: %v, the model says %v", i, now, b.State(), m.state)
			}
		}
	})
}

func TestNoAllocations(t *testing.T) {
	b := New(Config{Row: 5, Failures: 0.5, Slow: time.Second, SlowShare: 0.5, Samples: 10}, Deps{Shards: 8}, start)
	now := start
	closed := testing.AllocsPerRun(1000, func() {
		now = now.Add(10 * time.Millisecond)
		ticket, _ := b.Allow(now, 3)
		b.Done(ticket, now, Result{Took: time.Millisecond})
	})
	b.Force(now, Open, now.Add(time.Hour))
	open := testing.AllocsPerRun(1000, func() {
		if _, ok := b.Allow(now, 3); ok {
			t.Fatal("an open breaker let a request through")
		}
	})
	if closed != 0 || open != 0 {
		t.Errorf("%v allocations while closed, %v while open", closed, open)
	}
}

// TestManyAtOnce: no outcome is lost, and half-open lets exactly its trials through, whoever comes at once.
func TestManyAtOnce(t *testing.T) {
	const workers, each = 8, 5000
	b := New(Config{Row: 1 << 30, Failures: 1, Samples: workers * each, Window: time.Hour, OpenFor: time.Second, Trials: 3}, Deps{Shards: 4}, start)
	all := func(do func(shard uint32)) {
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() { do(uint32(w)) })
		}
		wg.Wait()
	}
	all(func(shard uint32) {
		for i := range each {
			if ticket, ok := b.Allow(start, shard); ok && i+1 < each {
				b.Done(ticket, start, Result{Outcome: Failure})
			}
		}
	})
	if s := b.Status(start); s.Failed != workers*(each-1) || s.State != Closed {
		t.Fatalf("%+v, want %d failures", s, workers*(each-1))
	}
	all(func(shard uint32) {
		for range 2 {
			if ticket, ok := b.Allow(start, shard); ok {
				b.Done(ticket, start, Result{Outcome: Failure})
			}
		}
	})
	if b.State() != Open {
		t.Fatalf("%v after %d failures and nothing else", b.State(), workers*each)
	}
	var mu sync.Mutex
	let := 0
	all(func(shard uint32) {
		for range each {
			if _, ok := b.Allow(start.Add(time.Second), shard); ok {
				mu.Lock()
				let++
				mu.Unlock()
			}
		}
	})
	if let != 3 {
		t.Errorf("%d trials were let through, want 3", let)
	}
}

func BenchmarkClosed(b *testing.B) {
	br := New(Config{Row: 5, Failures: 0.5, Samples: 10}, Deps{Shards: 8}, start)
	b.ReportAllocs()
	for b.Loop() {
		ticket, _ := br.Allow(start, 1)
		br.Done(ticket, start, Result{Took: time.Millisecond})
	}
}

func BenchmarkOpen(b *testing.B) {
	br := New(Config{}, Deps{}, start)
	br.Force(start, Open, start.Add(time.Hour))
	for b.Loop() {
		br.Allow(start, 1)
	}
}

package pool

import (
	"cmp"
	"math"
	"time"

	"github.com/even-keel/evenkeel/site"
)

// Numbers of levelling by what endpoints say of their own load.
const (
	levelEvery = time.Second
	// reportFor is how old a report may be, and reportPart how far one moves what is believed.
	reportFor  = 10 * time.Second
	reportPart = 0.2
	// levelSlack is a difference of utilisation that is left alone, so that noise moves nobody.
	levelSlack = 0.05
	// levelPower slows the correction down: reports are a second or more behind what a new share does.
	levelPower = 0.5
	// nearFull is a utilisation from which an endpoint gives more away than its part while the others are below it.
	nearFull = 0.9
	// levelLeast keeps enough coming to an endpoint for new reports.
	levelLeast = seldom
)

// reports takes in what an endpoint said of its load, 1 for full.
func (p *Pool) reports(m *member, busy float32) {
	m.busy.follow(p.nanos(), float64(busy), reportPart)
	if !p.reported.Load() && p.reported.CompareAndSwap(false, true) {
		p.kick()
	}
}

// level moves shares towards equal utilisation. It returns when to look again; 0: nobody reports. The lock is held.
func (p *Pool) level(now time.Time) time.Duration {
	if !p.reported.Load() {
		return 0
	}
	if passed := now.Sub(p.levelled); passed < levelEvery {
		return levelEvery - passed
	}
	p.levelled = now
	at, sum, weight := p.nanos(), 0.0, 0.0
	for _, m := range p.members {
		if u, ok := m.utilisation(at); ok && m.healthy() {
			sum += u * float64(m.weight)
			weight += float64(m.weight)
		}
	}
	if weight == 0 {
		p.reported.Store(false)
	}
	most := 0.0
	for _, m := range p.members {
		u, ok := m.utilisation(at)
		if !ok || weight == 0 || !m.healthy() || !levels(p.cfg) {
			m.lean = 1
		} else {
			m.lean = leanTo(cmp.Or(m.lean, 1), u, sum/weight)
		}
		if m.healthy() {
			most = max(most, m.lean)
		}
	}
	for _, m := range p.members {
		if most > 0 {
			m.lean = min(max(m.lean/most, levelLeast), 1)
		}
		p.weigh(m, now)
	}
	return levelEvery
}

// leanTo is the next share of an endpoint at utilisation u beside a mean. It is pure.
func leanTo(lean, u, mean float64) float64 {
	if math.Abs(u-mean) < levelSlack || u <= 0 || mean <= 0 {
		return lean
	}
	lean *= min(max(math.Pow(mean/u, levelPower), 0.5), 2)
	if u >= nearFull && mean < nearFull {
		lean *= 0.8
	}
	return lean
}

// levels says whether the method goes by shares. The others go by keys, turns or latency, and two hands on one wheel swing.
func levels(cfg *site.Pool) bool {
	return cfg.Method == site.MethodWeighted || cfg.Method == site.MethodLeastRequests
}

// utilisation is what the endpoint says of its load, when it said so lately.
func (m *member) utilisation(now int64) (float64, bool) {
	word := m.busy.word.Load()
	value, _, ok := unpackEstimate(word, now)
	gone := time.Duration(int32(stampOf(now)-uint32(word))) * time.Millisecond
	return value, ok && gone < reportFor
}

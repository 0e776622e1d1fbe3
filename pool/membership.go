package pool

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/even-keel/evenkeel/site"
)

// A set that is empty or lost half of its endpoints at once is more often a fault of discovery than the truth.
const (
	// heldRefreshes in a row, or heldFor, is how long a halved set must last until it is believed. An empty one never is.
	heldRefreshes = 3
	heldFor       = time.Minute
)

// membership is the set of endpoints that were found, and the guard against sets that look wrong. It is a pure state
// machine: time comes in as an argument.
type membership struct {
	set     []site.Endpoint // in use
	asked   bool            // the source was asked at least once, whatever it said
	applied time.Time
	trust   bool // the next set comes from another source: its size says nothing

	held  string // why the last set is not in use; empty: it is
	since time.Time
	times int // halved sets in a row
}

// offer takes a refresh in and says whether the set in use is now this one. Afterwards held says why not.
func (g *membership) offer(now time.Time, got found) (apply bool) {
	set := got.set
	g.asked = true
	switch {
	case len(set) > endpointsMax:
		return g.hold(now, fmt.Sprintf("%d endpoints were found: at most %d are allowed", len(set), endpointsMax))
	case len(set) == 0:
		g.times = 0
		return g.hold(now, "no endpoints were found")
	case !g.trust && len(g.set) > 1 && 2*len(set) <= len(g.set):
		if g.times == 0 {
			g.held = "" // a reason before this one has nothing to do with it
		}
		g.hold(now, fmt.Sprintf("only %d endpoints were found, %d were there", len(set), len(g.set)))
		if !got.same || g.times == 0 {
			g.times++
		}
		if g.times < heldRefreshes && now.Sub(g.since) < heldFor {
			return false
		}
	}
	g.set, g.held, g.times, g.applied, g.trust = set, "", 0, now, false
	return true
}

// fail takes a refresh in that yielded nothing but an error.
func (g *membership) fail(now time.Time, err error) {
	g.asked = true
	g.hold(now, err.Error())
}

func (g *membership) hold(now time.Time, why string) bool {
	if g.held == "" {
		g.since = now
	}
	g.held = why
	return false
}

// forget prepares for another source. all: for none.
func (g *membership) forget(all bool) {
	g.held, g.times, g.trust = "", 0, true
	if all {
		g.set = nil
	}
}

func (g *membership) status(cfg *site.Pool) MembershipStatus {
	out := MembershipStatus{Source: "static", Held: g.held != "", Reason: g.held, Found: len(g.set), Updated: g.applied}
	if out.Held {
		out.Since = g.since
	}
	if d := cfg.Discover; d != nil && d.DNS != nil {
		out.Source = "dns " + d.DNS.Type + " " + d.DNS.Name
	} else if d != nil && d.File != nil {
		out.Source = "file " + d.File.Path
	}
	return out
}

// found is what a source says: the set, when to ask again, and whether it only repeats what it said before.
type found struct {
	set   []site.Endpoint
	again time.Duration
	same  bool
}

// A source finds endpoints. An error comes with when to ask again too.
type source interface {
	find(ctx context.Context) (found, error)
}

// discover follows the source of the configuration until end is called, which waits for it.
func (p *Pool) discover(ctx context.Context, wg *sync.WaitGroup) (end func()) {
	p.mu.Lock()
	cfg, no := p.cfg.Discover, p.sourceNo
	p.mu.Unlock()
	src := sourceOf(cfg)
	if src == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	wg.Go(func() {
		defer close(done)
		p.follow(ctx, src, no)
	})
	return func() {
		cancel()
		<-done
	}
}

func sourceOf(cfg *site.Discover) source {
	switch {
	case cfg == nil:
	case cfg.DNS != nil:
		return newDNSSource(cfg.DNS)
	case cfg.File != nil:
		return &fileSource{path: cfg.File.Path}
	}
	return nil
}

// follow asks src, which is the no-th of the pool, again and again.
func (p *Pool) follow(ctx context.Context, src source, no int) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		got, err := src.find(ctx)
		if ctx.Err() != nil {
			return
		}
		if held := p.refresh(no, got, err); held {
			got.again = min(got.again, heldFor/heldRefreshes)
		}
		timer.Reset(got.again)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
	}
}

// refresh takes what a source found in, and says whether it is held back.
func (p *Pool) refresh(no int, got found, err error) (held bool) {
	p.change.Lock()
	defer p.change.Unlock()
	p.mu.Lock()
	defer p.unlock()
	now, g := p.clock(), &p.found
	was, apply := g.held, false
	switch {
	case no != p.sourceNo:
		return false // the configuration has moved on
	case err != nil:
		g.fail(now, err)
	case got.same && was == "":
		return false
	default:
		apply = g.offer(now, got)
	}
	switch {
	case g.held != "" && was != g.held:
		p.tell("membership_held", "the last good set of %d endpoints is kept: %s", len(g.set), g.held)
	case g.held == "" && was != "":
		p.tell("membership_applied", "%d endpoints were found and are used; before: %s", len(g.set), was)
	}
	if apply {
		p.merge(now)
		p.touch(now)
	}
	p.kick()
	return g.held != ""
}

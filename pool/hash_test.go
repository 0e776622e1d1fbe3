package pool

import (
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// priorities is a hash pool of n endpoints with a priority of their own each, in a zone of their own each, seen from zone.
func priorities(t *testing.T, n int, zone string) *Pool {
	t.Helper()
	cfg := *setup(t, site.MethodHash, n).cfg
	cfg.Spill.Mode = site.ModeOn
	for i := range cfg.Endpoints {
		cfg.Endpoints[i].Priority, cfg.Endpoints[i].Zone = i+1, string(rune('a'+i))
	}
	p, err := New(&cfg, Deps{Seed: 1, Zone: zone})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestHashBeyond: what finds no room at the second priority goes to all that come after it, wherever they stand. The table of them had nobody in it, and was
// filled for ever, with the pool's lock held.
func TestHashBeyond(t *testing.T) {
	for _, zone := range []string{"", "a", "c", "d"} {
		p := priorities(t, 4, zone)
		if err := p.SetState(p.members[0].Address, StateDown); err != nil {
			t.Fatal(err)
		}
		p.members[1].room.Store(1)
		got := map[string]int{}
		for i := range 100 {
			x := from(i)
			x.Class = exchange.Critical
			got[pickOf(t, p, x).Address]++
		}
		if got[p.members[1].Address] != 1 || got[p.members[2].Address] < 20 || got[p.members[3].Address] < 20 {
			t.Errorf("zone %q: the second priority has room for one, and the clients went to %v", zone, got)
		}
	}
}

// TestHashTableAfterReturn: a priority that is not in use keeps its table. Who left and came again meanwhile stood there as who had left, and got nothing.
func TestHashTableAfterReturn(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	cfg := *setup(t, site.MethodHash, 4).cfg
	for i := range cfg.Endpoints {
		cfg.Endpoints[i].Priority = min(i+1, 2)
	}
	p, err := newPool(&cfg, Deps{Seed: 1}, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	first := p.members[0].Address
	outage := func() map[string]int {
		got := map[string]int{}
		if err := p.SetState(first, StateDown); err != nil {
			t.Fatal(err)
		}
		for i := range 300 {
			e := pickOf(t, p, from(i))
			got[e.Address]++
			p.Done(from(i), e, exchange.Result{})
		}
		if err := p.SetState(first, StateUp); err != nil {
			t.Fatal(err)
		}
		return got
	}
	outage()
	ids := cfg.Endpoints[1:]
	for gone := range ids {
		without := cfg
		without.Endpoints = nil
		for i, e := range cfg.Endpoints {
			if i != gone+1 {
				without.Endpoints = append(without.Endpoints, e)
			}
		}
		for _, c := range []*site.Pool{&without, &cfg} {
			if err := p.Update(c); err != nil {
				t.Fatal(err)
			}
			now = now.Add(time.Minute)
			p.look(now) // whoever left is forgotten
		}
		if got := outage(); got[ids[gone].Address] < 50 {
			t.Errorf("%s left and came again: of 300 clients %v", ids[gone].Address, got)
		}
	}
}

// TestHashCountsMembersOnly: the mean load is that of members. What an endpoint that left had in flight was taken from it as it ended, though it was counted
// no more: the mean went below nothing, and keys left endpoints that had next to nothing.
func TestHashCountsMembersOnly(t *testing.T) {
	p := setup(t, site.MethodHash, 4)
	full := p.cfg
	less := *full
	less.Endpoints = less.Endpoints[1:]
	var under []*exchange.Exchange
	send := func(n int) {
		for i := range n {
			x := from(i)
			x.Endpoint = pickOf(t, p, x)
			under = append(under, x)
		}
	}
	end := func() {
		for _, x := range under {
			p.Done(x, x.Endpoint, exchange.Result{Status: 200})
		}
		under = nil
	}
	update := func(cfg *site.Pool) {
		if err := p.Update(cfg); err != nil {
			t.Fatal(err)
		}
	}
	send(400)
	update(&less)
	send(10)
	end()
	if n := p.total.Load(); n != 0 {
		t.Errorf("nothing is in flight any more, and %d are counted", n)
	}
	update(full)
	send(400)
	update(&less)
	update(full) // it comes back while it still has what it had
	end()
	if n := p.total.Load(); n != 0 {
		t.Errorf("nothing is in flight after an endpoint left and came again, and %d are counted", n)
	}
}

package console

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// fakeNode is a lively node for tests: figures move with every view, and what is set shows.
type fakeNode struct {
	mu     sync.Mutex
	tick   int
	count  atomic.Int32 // tick, for clocks that move with it
	admin  map[string]string
	shed   map[string]time.Time
	events []Event
	now    func() time.Time
}

func newFakeNode() *fakeNode {
	return &fakeNode{admin: map[string]string{}, now: time.Now}
}

func (f *fakeNode) SetEndpoint(pool, address, state string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if address == "10.0.2.3:9000" {
		return fmt.Errorf("pool %s would be left without an endpoint", pool)
	}
	f.admin[pool+"/"+address] = state
	f.events = append([]Event{{At: f.now(), Kind: "admin", Text: address + " in pool " + pool + " set to " + state}}, f.events...)
	return nil
}

// View is the next view.
func (f *fakeNode) View() View {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tick++
	f.count.Store(int32(f.tick))
	now, t := f.now(), float64(f.tick)
	rng := rand.New(rand.NewPCG(7, uint64(f.tick)))
	wave := func(mean, swing, period float64) float64 {
		return mean + swing*math.Sin(t/period) + mean*.04*rng.NormFloat64()
	}
	web := wave(1240, 260, 19)
	v := View{
		At: now,
		Node: Node{Name: "shop", Zone: "a", Version: "0.1.0", PID: 4711, Started: now.Add(-27 * time.Hour), UptimeS: 27*3600 + 11*60 + t, Ready: true, SiteRevision: "3f9a1c2e",
			LastReload: &Reload{At: now.Add(-12 * time.Minute), OK: true},
			Go:         Runtime{Goroutines: 214, HeapBytes: 9_400_000, RSSBytes: 38_200_000 + uint64(f.tick)*1000, FDs: 512, FDLimit: 20_000, CPUS: 3120 + t/3}},
		Totals: Totals{Requests: 48_211_934 + uint64(t*web), RPS: web, RPS10: 1240, Refused: 1893, Failed: 41, Open: 486},
		Listeners: []Listener{
			{Name: "web", Address: "[::]:8443", Protocol: "http", TLS: true, Open: 431, Accepted: 912_331, Refused: map[string]uint64{"connections_per_ip": 1702, "handshake_rate": 191}, Requests: 48_000_000, RPS: web * .97, BytesIn: 31_220_000_000, BytesOut: 842_330_000_000,
				Certificates: []Certificate{{Hosts: []string{"shop.example", "www.shop.example"}, NotAfter: now.Add(61 * 24 * time.Hour)}, {Hosts: []string{"old.example"}, NotAfter: now.Add(5 * 24 * time.Hour)}}},
			{Name: "mail", Address: "[::]:2525", Protocol: "tcp", Open: 55, Accepted: 20_412, RPS: wave(36, 6, 11), BytesIn: 5_120_000, BytesOut: 92_100_000},
		},
	}
	for i := range 90 {
		v.Totals.History = append(v.Totals.History, 1240+260*math.Sin((t-90+float64(i))/19)+45*math.Sin(float64(i)*1.7))
	}
	v.Overload = f.load(now).settle()
	v.Pools = []Pool{f.shop(now, web, rng), f.mail(now, wave(36, 6, 11))}
	v.Routes = []Route{
		{Name: "checkout", Pool: "shop", Class: "critical", RPS: web * .12, Status: map[string]uint64{"2xx": 5_912_003, "4xx": 812, "5xx": 3}, P50MS: 21.4, P99MS: 88, Requests: 5_912_818},
		{Name: "rest", Pool: "shop", Class: "standard", RPS: web * .85, Status: map[string]uint64{"2xx": 41_222_117, "3xx": 802_214, "4xx": 31_002, "5xx": 38}, Refused: map[string]uint64{"no_healthy_endpoint": 12}, P50MS: 8.2, P99MS: 143},
		{Name: "to-https", Pool: "redirect", Class: "standard", RPS: 2.4, Status: map[string]uint64{"3xx": 92_002}},
	}
	v.Events = append(append([]Event{}, f.events...),
		Event{now.Add(-41 * time.Second), "health", "10.0.1.4:8000 in pool shop is sick: http status 503"},
		Event{now.Add(-12 * time.Minute), "reload", "site 3f9a1c2e is in force: 1 route changed"},
		Event{now.Add(-3 * time.Hour), "discover", "pool shop: 1 endpoint came (10.0.1.5:8000)"},
		Event{now.Add(-27 * time.Hour), "start", "evenkeel 0.1.0 serves 2 listeners"})
	return v
}

func (f *fakeNode) shop(now time.Time, rps float64, rng *rand.Rand) Pool {
	p := Pool{Name: "shop", Method: "least_requests", HealthyShare: .83, RPS: rps * .97, Requests: 47_000_000}
	for i, share := range []float64{.27, .25, .36, 0, .12} {
		e := Endpoint{Address: fmt.Sprintf("10.0.1.%d:8000", i+1), Zone: string(rune('a' + i/3)), Priority: 1, Weight: 1, EffectiveWeight: 1, State: StateUp, Admin: AdminUp,
			Since: now.Add(-time.Duration(i+1) * 3 * time.Hour), InFlight: int64(share * 90), Picks: uint64(share * 47e6), RPS: share * rps * .97, EWMAMS: 8 + 3*float64(i) + rng.Float64(), Failures: uint64(i * 3)}
		if i == 2 {
			e.Weight, e.EffectiveWeight = 2, 2
		}
		bad := map[int]bool{}
		switch i {
		case 3:
			e.State, e.Why, e.Since, e.EffectiveWeight, e.EWMAMS = StateSick, "http status 503", now.Add(-41*time.Second), 0, 0
			for j := 23; j < 32; j++ {
				bad[j] = true
			}
		case 4:
			e.State, e.Why, e.EffectiveWeight, e.Since = StateSlow, "slow start", .5, now.Add(-15*time.Second)
			bad[14], bad[15], bad[16] = true, true, true
		}
		f.apply(&e, "shop")
		e.History = history(now, bad)
		p.Endpoints = append(p.Endpoints, e)
	}
	return p
}

func (f *fakeNode) mail(now time.Time, rps float64) Pool {
	p := Pool{Name: "mail", Method: "round_robin", HealthyShare: 1, RPS: rps}
	for i, share := range []float64{.5, .5, 0} {
		e := Endpoint{Address: fmt.Sprintf("10.0.2.%d:9000", i+1), Priority: 1 + i/2, Weight: 1, EffectiveWeight: float64(1 - i/2), State: StateUp, Admin: AdminUp,
			Since: now.Add(-26 * time.Hour), InFlight: int64(share * 54), RPS: share * rps, EWMAMS: .31, History: history(now, nil)}
		f.apply(&e, "mail")
		p.Endpoints = append(p.Endpoints, e)
	}
	return p
}

// apply shows what was set by hand.
func (f *fakeNode) apply(e *Endpoint, pool string) {
	switch f.admin[pool+"/"+e.Address] {
	case AdminDown:
		e.State, e.Admin, e.Why, e.EffectiveWeight, e.RPS, e.InFlight = StateDown, AdminDown, "set by hand", 0, 0, 0
	case AdminDrain:
		e.State, e.Admin, e.Why, e.EffectiveWeight, e.RPS = StateDraining, AdminDrain, "set by hand", 0, 0
	}
}

func history(now time.Time, bad map[int]bool) (list []Verdict) {
	for j := range 32 {
		v := Verdict{At: now.Add(time.Duration(j-32) * 5 * time.Second), Healthy: !bad[j], TookMS: 1.5}
		if bad[j] {
			v.Reason = "http status 503"
		}
		list = append(list, v)
	}
	return list
}

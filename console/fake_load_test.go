package console

import (
	"math"
	"time"
)

// fakeLoad is a load of the lively node: a wave that passes what pool shop can do, and a pool that has nothing to do.
func (f *fakeNode) load(now time.Time) Overload {
	shop, at := f.surge(float64(now.Unix()%600)), now
	o := Overload{
		Pools: []PoolLoad{
			{Pool: "mail", Mode: "off", Classes: []ClassLoad{{Class: "critical"}, {Class: "standard", Demand: 20412, DemandRPS: 36, AdmittedRPS: 36}, {Class: "low"}}},
			shop,
		},
		Limits: []LimitLoad{
			{Name: "per-customer", By: []string{"customer"}, Rate: 100, Burst: 200, Keys: 1204, KeyBytes: 31_000, Admitted: 41_002_331, Refused: 90_412, RefusedRPS: 61,
				Top: []KeyLoad{{"acme-imports", 71_200}, {"scraper-7", 11_002}, {"beta", 902}, {"gamma-labs", 310}, {"delta", 12}}},
			{Name: "per-ip", By: []string{"ip", "route"}, Rate: 20, Burst: 20, Concurrency: 10, Keys: 88_120, KeyBytes: 31_000, Admitted: 44_000_102, WouldRefuse: 1203, DryRun: true},
		},
		Quotas: []QuotaLoad{{Name: "monthly", By: []string{"customer"}, Calls: 1_000_000, Bytes: 50_000_000_000, Period: "month", Keys: 1190, Admitted: 40_210_000, Refused: 44, Top: []KeyLoad{{"trial-user", 44}}}},
		Guard: &GuardLoad{Mode: "on", SchedulerP99MS: 1.4, MemoryShare: .31, FilesShare: .026, FlightShare: .04, CPUShare: .22, StreamsShare: 1,
			Warnings: []string{"net.core.somaxconn is 128: bursts of connections are refused by the kernel; set it to 4096 with sysctl -w net.core.somaxconn=4096"}},
		Screen: &ScreenLoad{Mode: "block", Screened: 812_334, Passed: 120, Attacks: 903, Blocked: 903, Waited: 4102, Concurrency: 4, Busy: 1, Malformed: 12, RuleHits: []RuleHit{{"942100", 610}, {"941110", 293}}},
		Refused: []RefusedLoad{
			{"limit", "rate", "per-customer", "standard", 90_412, 61}, {"screen", "attack", "942100", "standard", 903, 0}, {"route", "no_route", "", "", 12, 0},
			{"shed", "queue_time", "", "standard", 30_112, shop.class("standard").ShedRPS}, {"shed", "class_off", "", "low", 712_000, shop.class("low").ShedRPS},
		},
	}
	f.byHand(&o, at)
	for _, class := range classWords {
		c := ClassLoad{Class: class}
		for _, p := range o.Pools {
			c.add(p.class(class))
		}
		o.Classes = append(o.Classes, c)
	}
	return o
}

// surge is pool shop at a second of its wave.
func (f *fakeNode) surge(t float64) PoolLoad {
	s := f.second(t)
	p := PoolLoad{Pool: "shop", Mode: "on", Limit: s[0], Max: 4096, InFlight: int(s[2]), Waiting: int(s[3]), QueueMS: s[4], ServiceMS: 31, CapacityPerSecond: s[1], LowOff: s[3] > 0, P50MS: s[5], P99MS: s[6]}
	for i, class := range classWords {
		c := ClassLoad{Class: class, Demand: 5_000_000, Refused: 10_000 * uint64(i*i), AdmittedRPS: s[7+i], RefusedRPS: s[10+i], DemandRPS: s[7+i] + s[10+i], ShedRPS: s[10+i]}
		p.Classes = append(p.Classes, c)
	}
	return p
}

// second is one second of the wave: limit, capacity, in flight, waiting, queue, p50, p99, admitted and refused by class.
func (f *fakeNode) second(t float64) [13]float64 {
	wave := math.Pow(math.Max(0, math.Sin(t/28)), 2)
	wiggle := func(k float64) float64 { return 1 + .03*math.Sin(t*k) + .02*math.Sin(t*k*2.7) }
	critical, standard, low := 150*wiggle(.9), (420+700*wave)*wiggle(.7), (180+1500*wave)*wiggle(1.1)
	capacity := 1250 * wiggle(.05)
	left := capacity - critical
	a := math.Min(standard, left)
	b := math.Min(low, math.Max(0, left-a))
	over := standard+low-a-b > 1
	if over {
		b = math.Min(b, 15)
	}
	flight, waiting, queue := (critical+a+b)*.031, 0.0, 0.0
	if over {
		waiting, queue = 6+3*math.Sin(t), 9+4*math.Sin(t*.8)
	}
	return [13]float64{39 * wiggle(.2), capacity, flight, waiting, queue, 27*wiggle(.4) + queue, 88*wiggle(1.4) + 3*queue, critical, a, b, 0, standard - a, low - b}
}

// curves is the past of the wave.
func (f *fakeNode) curves(since time.Time) []Series {
	now := f.now().Unix()
	shop := Series{Pool: "shop", Admitted: map[string][]float64{}, Refused: map[string][]float64{}}
	for at := max(since.Unix()+1, now-599); at <= now; at++ {
		s := f.second(float64(at % 600))
		shop.At = append(shop.At, at)
		for i, class := range classWords {
			shop.Admitted[class], shop.Refused[class] = append(shop.Admitted[class], s[7+i]), append(shop.Refused[class], s[10+i])
		}
		for i, column := range []*[]float64{&shop.Limit, &shop.Capacity, &shop.InFlight, &shop.Waiting, &shop.QueueMS, &shop.P50MS, &shop.P99MS} {
			*column = append(*column, s[i])
		}
	}
	node := shop
	node.Pool, node.Capacity = "", nil
	return []Series{node, shop}
}

// Shed refuses a class by hand.
func (f *fakeNode) Shed(pool, class string, until time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.shed == nil {
		f.shed = map[string]time.Time{}
	}
	f.shed[class] = until
	if class == "standard" {
		f.shed["low"] = until
	}
	return nil
}

// ticks is how many views were taken.
func (f *fakeNode) ticks() int { return int(f.count.Load()) }

func (f *fakeNode) byHand(o *Overload, now time.Time) {
	o.Pools[1].ByHand = map[string]time.Time{}
	for class, until := range f.shed {
		if until.After(now) {
			o.Pools[1].ByHand[class] = until
		}
	}
}

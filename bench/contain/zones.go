package contain

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// The numbers of the zones: a proxy and two endpoints in each, which can do 200 requests a second each.
const (
	zoneWorkers = 10
	zoneWork    = 50 * time.Millisecond
	zoneEnds    = 2
	zoneLoad    = 0.65
	zoneGoal    = 500 * time.Millisecond // an answer that takes longer has missed its objective
	// zoneLimit is how many requests an endpoint can have at once and still answer each within the objective.
	zoneLimit    = int(zoneWorkers * zoneGoal / zoneWork)
	zoneCritical = 0.999
)

// zone is one failure domain.
type zone struct {
	name  string
	ends  []*endpoint
	front *front
}

func (z *zone) addresses() (out []string) {
	for _, e := range z.ends {
		out = append(out, e.address)
	}
	return out
}

// zonesLost has three zones at 65 %, each with a proxy for its own clients, and takes the endpoints of the first away. Probes wait behind
// requests, as with a pool of threads, so that who drowns fails them too.
func zonesLost(ctx context.Context, t *trial) error {
	zones := []*zone{{name: "a"}, {name: "b"}, {name: "c"}}
	var all []*endpoint
	for _, z := range zones {
		for range zoneEnds {
			e, err := startEndpoint(zoneWorkers, zoneWork)
			if err != nil {
				return err
			}
			e.deep = true
			z.ends, all = append(z.ends, e), append(all, e)
		}
	}
	lost := false
	defer func() {
		for _, z := range zones {
			for _, e := range z.ends {
				if !lost || z != zones[0] {
					e.stop()
				}
			}
		}
	}()
	for here, z := range zones {
		var err error
		if z.front, err = t.startFront(z.name, func(listen, admin string) string {
			if t.proxy == haproxy {
				return zoneHaproxy(listen, here, zones)
			}
			return zoneSite(listen, admin, here, zones)
		}); err != nil {
			return err
		}
		defer z.front.stop()
	}
	rate := zoneLoad * zoneEnds * zoneWorkers / zoneWork.Seconds()
	var streams []stream
	for _, z := range zones {
		for class, part := range map[string]float64{"critical": 0.2, "standard": 0.6, "low": 0.2} {
			streams = append(streams, stream{url: "http://" + z.front.address + "/work", class: class, rate: rate * part, patience: time.Second})
		}
	}
	streams = sorted(streams)
	calm, settle, long := t.long(15*time.Second, 6*time.Second), t.long(10*time.Second, 5*time.Second), t.long(45*time.Second, 10*time.Second)
	d := run(ctx, calm+settle+long, t.lab.seed, streams,
		happens{calm, func() {
			lost = true
			for _, e := range zones[0].ends {
				go e.stop()
			}
		}},
		happens{calm + settle, func() {
			for _, e := range all {
				e.begin()
			}
		}})
	t.watch(d, append(zones[1].ends, zones[2].ends...)...)
	t.zoneFigures(d, calm, settle, long, append(zones[1].ends, zones[2].ends...))
	return nil
}

// sorted puts streams into an order that does not change, so that a seed gives the same arrivals.
func sorted(list []stream) []stream {
	out := make([]stream, 0, len(list))
	for _, class := range []string{"critical", "standard", "low"} {
		for _, s := range list {
			if s.class == class {
				out = append(out, s)
			}
		}
	}
	return out
}

func (t *trial) zoneFigures(d *drive, calm, settle, long time.Duration, left []*endpoint) {
	inTime := func(c counts) (n int) {
		for _, took := range c.took {
			if took <= zoneGoal {
				n++
			}
		}
		return n
	}
	critical := func(r *request) bool { return r.of.class == "critical" }
	before, moment, after := d.between(0, calm, nil), d.between(calm, calm+settle, critical), d.between(calm+settle, calm+settle+long, nil)
	first := d.between(calm+settle, calm+settle+long, critical)
	if float64(inTime(before)) < 0.99*float64(before.sent) {
		t.doubt(fmt.Sprintf("%d of %d requests were answered in time before anything was lost", inTime(before), before.sent))
	}
	most := 0
	for _, e := range left {
		most = max(most, e.mostInFlight())
	}
	good := float64(inTime(first)) / float64(max(first.sent, 1))
	t.goal("critical requests answered in time after the loss", fmt.Sprintf("%d of %d, %s", inTime(first), first.sent, inPercent(good)), ">= 99.9 %", good >= zoneCritical)
	t.goal("most requests at once at an endpoint that is left", fmt.Sprint(most), fmt.Sprintf("<= %d", zoneLimit), most <= zoneLimit)
	t.tell("all requests answered in time after the loss", inPercent(float64(inTime(after))/float64(max(after.sent, 1))))
	t.tell(fmt.Sprintf("critical ones in the first %v of the loss", settle), inPercent(float64(inTime(moment))/float64(max(moment.sent, 1))))
}

// zoneSite prefers its own zone, then the next ones. What endpoints can do is not told.
func zoneSite(listen, admin string, here int, zones []*zone) string {
	var ends []string
	for i, z := range zones {
		for _, a := range z.addresses() {
			ends = append(ends, fmt.Sprintf("{address: %q, zone: %s, priority: %d}", a, z.name, 1+(i-here+len(zones))%len(zones)))
		}
	}
	return fmt.Sprintf(`zone: %s
admin: {listen: %q}
listeners: {web: {listen: %q}}
identify: {trusted_proxies: [127.0.0.0/8], class: {header: X-Class}}
pools:
  all:
    endpoints: [%s]
    probe: {http: {path: /healthz}, every: 1s, timeout: 1s, fall: 2}
    shed: {mode: on}
routes: [{name: all, pool: all}]
`, zones[here].name, admin, listen, strings.Join(ends, ", "))
}

// zoneHaproxy is plain failover: the next zone once the own one is down, then the last.
func zoneHaproxy(listen string, here int, zones []*zone) string {
	text := haproxyHead + "  timeout server 5s\n  retries 3\n  option redispatch\nfrontend web\n  bind " + listen + "\n"
	for n := range zones {
		z := zones[(here+n)%len(zones)]
		text += fmt.Sprintf("  use_backend %s if { nbsrv(%s) gt 0 }\n", z.name, z.name)
	}
	text += "  default_backend " + zones[here].name + "\n"
	for _, z := range zones {
		text += "backend " + z.name + "\n  balance leastconn\n  option httpchk GET /healthz\n  timeout check 1s\n"
		for i, a := range z.addresses() {
			text += fmt.Sprintf("  server s%d %s check inter 1s fall 2 rise 1\n", i, a)
		}
	}
	return text
}

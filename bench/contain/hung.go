package contain

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// The numbers of the hung pool.
const (
	hungRate    = 500.0  // requests a second for the pool that hangs
	wellRate    = 4500.0 // for the other, where the machine carries so many beside their own senders: 5,000 in all
	wellLeast   = 500.0
	wellWork    = 5 * time.Millisecond
	hungPlaces  = 3000 // of the node
	hungRatio   = 1.1
	hungRounds  = 5
	goroutines  = 3 * hungPlaces // of the node: clients' connections, and what waits
	memoryMost  = 256 << 20
	hungRefused = 0.001 // of the healthy pool
)

// hung has one pool hang beside a healthy one on one listener: turns with as many requests that do not hang and turns with those that do, one after the other, so that what the
// machine does besides, and what 500 more requests a second cost it, falls on both.
func hung(ctx context.Context, t *trial) error {
	dead, err := startEndpoint(0, time.Millisecond)
	if err != nil {
		return err
	}
	defer dead.stop()
	dead.sicken(hang)
	alive, err := startEndpoint(0, wellWork)
	if err != nil {
		return err
	}
	defer alive.stop()
	start := func(name string) (*front, error) {
		return t.startFront(name, func(listen, admin string) string {
			if t.proxy == haproxy {
				return hungHaproxy(listen, dead.address, alive.address)
			}
			return hungSite(listen, admin, dead.address, alive.address)
		})
	}
	f, err := start("hung-rate")
	if err != nil {
		return err
	}
	rate := sendable(ctx, t, f, alive)
	f.stop()
	if f, err = start("hung"); err != nil {
		return err
	}
	defer f.stop()
	good, bad := wellStream(f), hungStream(f)
	good.rate = rate
	t.tell("requests a second: of the healthy pool, as far as this machine can send; of the hung one", fmt.Sprintf("%.0f of %.0f; %.0f", good.rate, wellRate, hungRate))
	rounds, long := hungRounds, t.long(10*time.Second, 8*time.Second)
	if t.lab.quick {
		rounds = 2
	}
	var ratios []float64
	sent, lost, refused, most, rss := 0, 0, 0, 0, uint64(0)
	for i := range rounds {
		more := good
		more.rate, more.class = hungRate, "critical"
		alone := run(ctx, long, t.lab.seed+uint64(i), []stream{good, more})
		look := happens{long - time.Second, func() {
			if t.proxy == evenkeel {
				v, err := f.status(ctx)
				if most, rss = max(most, v.Node.Go.Goroutines), max(rss, v.Node.Go.RSS); err != nil {
					t.doubt(err.Error())
				}
			}
		}}
		beside := run(ctx, long, t.lab.seed+uint64(i), []stream{good, bad}, look)
		t.watch(alone, alive)
		t.watch(beside, alive)
		of := func(r *request) bool { return r.of.url == good.url && r.of.class == good.class }
		a, b := alone.between(0, long, of), beside.between(0, long, of)
		sent, lost, refused = sent+b.sent, lost+b.sent-b.good, refused+b.refused
		ratios = append(ratios, float64(quantile(b.took, 0.99))/float64(quantile(a.took, 0.99)))
	}
	slices.Sort(ratios)
	ratio := ratios[len(ratios)/2]
	t.goal("healthy pool: p99 beside the hung one, in relation to as many requests that do not hang (median of the turns)", fmt.Sprintf("%.2f, of %.2f to %.2f", ratio, ratios[0], ratios[len(ratios)-1]),
		fmt.Sprintf("<= %.1f", hungRatio), ratio <= hungRatio || t.lab.quick)
	t.goal("healthy pool: requests that failed", fmt.Sprintf("%d of %d, %d of them refused", lost, sent, refused), "<= 0.1 %", float64(lost) <= hungRefused*float64(sent))
	t.goal("hung pool: most requests at its endpoint", fmt.Sprint(dead.hangs()), fmt.Sprintf("<= %d", hungPlaces*8/10), dead.hangs() <= hungPlaces*8/10)
	if t.proxy == evenkeel {
		return hungNode(ctx, t, f, most, rss)
	}
	return nil
}

// hungNode tells what it cost the node, which had so many goroutines and so much memory at the most.
func hungNode(ctx context.Context, t *trial, f *front, most int, rss uint64) error {
	v, err := f.status(ctx)
	if err != nil {
		return err
	}
	for _, r := range v.Routes {
		t.tell("refused on route "+r.Name, fmt.Sprint(r.Refused))
	}
	t.goal("goroutines of the node", fmt.Sprint(most), fmt.Sprintf("<= %d", goroutines), most <= goroutines)
	t.goal("memory of the node", fmt.Sprintf("%d MB", rss>>20), fmt.Sprintf("<= %d MB", memoryMost>>20), rss <= memoryMost)
	return nil
}

func wellStream(f *front) stream {
	return stream{url: "http://" + f.address + "/well", class: "standard", rate: wellRate, patience: 5 * time.Second}
}

func hungStream(f *front) stream {
	return stream{url: "http://" + f.address + "/hung", class: "standard", rate: hungRate, patience: 10 * time.Second}
}

// sendable is how many requests a second this machine can send through a proxy without being late itself, of those that are wanted, beside those that hang.
func sendable(ctx context.Context, t *trial, f *front, alive *endpoint) float64 {
	s, hung := wellStream(f), hungStream(f)
	for ; s.rate >= 2*wellLeast; s.rate /= 2 {
		d := run(ctx, 3*time.Second, t.lab.seed, []stream{s, hung})
		late := max(quantile(d.lag, 0.99), alive.lateness())
		if alive.forget(); late <= lagMost/2 {
			break
		}
	}
	return s.rate
}

// hungSite says how many requests the node may have under way; what one pool may have of it is not told.
func hungSite(listen, admin, dead, alive string) string {
	return fmt.Sprintf(`admin: {listen: %q}
listeners: {web: {listen: %q}}
bulkhead: {concurrency: %d}
pools:
  hung: {endpoints: [%q], probe: {http: {path: /healthz}}}
  well: {endpoints: [%q], probe: {http: {path: /healthz}}}
routes:
  - {name: hung, paths: [/hung], pool: hung}
  - {name: well, pool: well}
`, admin, listen, hungPlaces, dead, alive)
}

func hungHaproxy(listen, dead, alive string) string {
	return haproxyHead + "  timeout server 60s\nfrontend web\n  bind " + listen + "\n  use_backend hung if { path /hung }\n  default_backend well\n" +
		"backend hung\n  option httpchk GET /healthz\n  server one " + dead + " check\nbackend well\n  option httpchk GET /healthz\n  server one " + alive + " check\n"
}

package overload

import (
	"context"
	"fmt"
	"time"
)

// What endpoints can do while nothing is done to them: 50 requests a second each. Critical demand is always the same, so that a proxy that
// knows what matters can serve all of it.
const (
	workers       = 5
	workFor       = 100 * time.Millisecond
	poolSize      = 5
	criticalShare = 0.4 // of the capacity of one endpoint, or of demand where that is less
)

// scenario is one bad day.
type scenario struct {
	name, doc string
	run       func(ctx context.Context, t *trial) error
}

// scenarios are all, in the order of a full run.
func scenarios() []scenario {
	return []scenario{
		{"steps", "demand of 1.5, 2, 5 and 10 times what the endpoint can do", steps},
		{"spike", "5 times for some seconds, then 0.7 times", func(ctx context.Context, t *trial) error { return spike(ctx, t, 0) }},
		{"spike-retries", "the same with clients that try again twice at once", func(ctx context.Context, t *trial) error { return spike(ctx, t, 2) }},
		{"adapt-down", "three of five workers go away under load", func(ctx context.Context, t *trial) error { return adapt(ctx, t, 0.4) }},
		{"adapt-up", "the workers double under load", func(ctx context.Context, t *trial) error { return adapt(ctx, t, 2) }},
		{"false-shed", "0.8 times with heavy tails: nothing has to be refused", falseShed},
		{"sick-slow", "one of five endpoints takes ten times as long", func(ctx context.Context, t *trial) error {
			return sick(ctx, t, works{workers: workers, mean: workFor, kind: fixed, times: 10})
		}},
		{"sick-fast", "one of five endpoints fails in a millisecond, its probe stays green", func(ctx context.Context, t *trial) error {
			return sick(ctx, t, works{workers: workers, mean: workFor, kind: fixed, fails: 1, failIn: time.Millisecond})
		}},
		{"fair", "one of ten tenants sends 50 times its part, the others half of theirs", fair},
		{"storm", "30% and 100% of the answers of all endpoints are 503 and then none, with clients that try again twice at once", storm},
		{"errors", "30% and 100% of the answers of all endpoints are errors", failing},
	}
}

// healthy is what an endpoint can do by itself.
func healthy() works { return works{workers: workers, mean: workFor, kind: fixed, times: 1} }

// demand is requests of three classes: critical as told, the rest half standard and half low.
func demand(all, critical float64) []stream {
	critical = min(critical, all)
	rest := (all - critical) / 2
	return []stream{{"critical", "", critical}, {"standard", "", rest}, {"low", "", rest}}
}

func steps(ctx context.Context, t *trial) error {
	c := healthy().capacity()
	for _, times := range []float64{1.5, 2, 5, 10} {
		r := t.single(ctx, 0,
			phase{long: t.long(2, 1), streams: demand(0.7*c, criticalShare*c)},
			phase{long: t.long(20, 4), streams: demand(times*c, criticalShare*c)},
			phase{long: time.Second, streams: demand(times*c, criticalShare*c)}) // else what waits at the end would be served for nothing
		w := r.window(1, 1, t.long(5, 1.5)) // the steady part; the spikes are about how it begins
		least := 0.95
		if times >= 10 {
			least = 0.90
		}
		at := fmt.Sprintf(" at %gx", times)
		t.atLeast("goodput"+at, w.perSecond()/c, least)
		t.atLeast("critical good"+at, share(w.criticalGood, w.critical), 0.999)
		t.within("p99 of admitted"+at, quantile(w.admitted, 0.99), goodIn, true)
	}
	return nil
}

func spike(ctx context.Context, t *trial, retries int) error {
	c := healthy().capacity()
	calm := demand(0.7*c, criticalShare*c)
	r := t.single(ctx, retries, phase{long: t.long(4, 1), streams: calm},
		phase{long: t.long(6, 3), streams: demand(5*c, criticalShare*c)}, phase{long: t.long(15, 6), streams: calm})
	limit := time.Second
	if retries > 0 {
		limit = 2 * time.Second
	}
	took, ok := r.recovery(r.began[2], r.began[3])
	t.within("recovery", took, limit, ok)
	for _, class := range []string{"critical", "standard", "low"} {
		c := r.between(r.began[2], r.began[3], func(q *request) bool { return q.class == class })
		t.tell(class+" good afterwards", share(c.good, c.sent), percent)
	}
	w := r.window(1, 2, 0)
	t.tell("attempts for a request", float64(w.attempts)/float64(max(w.sent, 1)), times)
	return nil
}

func adapt(ctx context.Context, t *trial, by float64) error {
	after := healthy()
	after.workers = max(1, int(float64(workers)*by+0.5))
	before, then := healthy().capacity(), after.capacity()
	load := demand(1.5*max(before, then), criticalShare*min(before, then))
	r := t.single(ctx, 0, phase{long: t.long(8, 2), streams: load},
		phase{long: t.long(20, 7), streams: load, begin: func() { t.one.change(after) }}, phase{long: time.Second, streams: load})
	w := r.window(1, 1, 0)
	t.atLeast("goodput after the change", w.perSecond()/then, 0.90)
	took, ok := r.reaches(r.began[1], r.began[2], 0.9*then)
	t.within("time to 90%", took, 5*time.Second, ok)
	t.tell("critical good", share(w.criticalGood, w.critical), percent)
	return nil
}

// falseShed has 25 workers, as five would queue for seconds by chance, and refusing then is often right.
func falseShed(ctx context.Context, t *trial) error {
	can := healthy()
	can.kind = heavy
	for _, e := range t.five {
		e.change(can)
	}
	c := can.capacity() * poolSize
	load := demand(0.8*c, criticalShare*c)
	r := t.pool(ctx, 0, phase{long: t.long(3, 1), streams: load}, phase{long: t.long(25, 5), streams: load})
	w := r.window(1, 1, 0)
	t.atMost("refused", share(w.refused, w.sent), 0.001, percent)
	t.tell("good", share(w.good, w.sent), percent)
	return nil
}

func sick(ctx context.Context, t *trial, ill works) error {
	c := healthy().capacity() * poolSize
	load := demand(0.5*c, criticalShare*0.5*c)
	patient := t.five[poolSize/2]
	of := func() (one, all int) {
		for _, e := range t.five {
			n := e.counted()
			all += n
			if e == patient {
				one = n
			}
		}
		return one, all
	}
	var one, all int
	r := t.pool(ctx, 0, phase{long: t.long(4, 2), streams: load},
		phase{long: t.long(4, 3), streams: load, begin: func() { patient.change(ill) }},
		phase{long: t.long(12, 3), streams: load, begin: func() { one, all = of() }})
	lastOne, lastAll := of()
	w, onset := r.window(2, 2, 0), r.window(1, 1, 0)
	t.atMost("share of the sick one", share(lastOne-one, max(lastAll-all, 1)), 1.0/poolSize/5, percent)
	t.atMost("client errors", 1-share(w.answered, w.sent), 0.001, percent)
	t.tell("client errors until it is found", 1-share(onset.answered, onset.sent), percent)
	return nil
}

func fair(ctx context.Context, t *trial) error {
	const tenants = 10
	part := healthy().capacity() / tenants
	load := []stream{{"standard", "greedy", 50 * part}}
	for i := range tenants - 1 {
		load = append(load, stream{"standard", fmt.Sprintf("modest-%d", i), part / 2})
	}
	r := t.single(ctx, 0, phase{long: t.long(15, 5), streams: load})
	from, to := t.long(3, 1), r.began[1]
	others := r.between(from, to, func(q *request) bool { return q.tenant != "greedy" })
	greedy := r.between(from, to, func(q *request) bool { return q.tenant == "greedy" })
	t.atLeast("the others' good", share(others.good, others.sent), 0.99)
	t.tell("of the capacity to the greedy one", greedy.perSecond()/healthy().capacity(), percent)
	return nil
}

func failing(ctx context.Context, t *trial) error {
	for _, part := range []float64{0.3, 1} {
		can := healthy()
		can.fails = part
		before := 0
		for _, e := range t.five {
			e.change(can)
			before += e.counted()
		}
		c := can.capacity() * poolSize
		r := t.pool(ctx, 0, phase{long: t.long(8, 2), streams: demand(0.3*c, criticalShare*0.3*c)})
		after := 0
		for _, e := range t.five {
			after += e.counted()
		}
		w := r.window(0, 0, 0)
		at := fmt.Sprintf(" at %.0f%%", 100*part)
		t.atMost("attempts for a request"+at, float64(after-before)/float64(max(w.sent, 1)), 1.1, times)
		if part < 1 { // sending nothing would keep attempts few too; five points are for chance
			t.atMost("client errors"+at, 1-share(w.answered, w.sent), part+0.05, percent)
		}
	}
	return nil
}

package node

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/monitor/journal"
	"github.com/even-keel/evenkeel/site"
)

// keeping is a stage that records, with a store that nobody empties.
func keeping(t *testing.T, change func(*site.RequestRecords)) (*stages, *journal.Store, *sampler) {
	events := &site.Events{Retention: site.EventRetention{Time: time.Hour, Requests: time.Hour, Size: 1 << 30}, Requests: site.RequestRecords{Sample: 1, Most: 20, MaskClient: true},
		Query: site.EventQuery{Timeout: time.Minute, Rows: 100}}
	if change != nil {
		change(&events.Requests)
	}
	store := journal.New(events, journal.Deps{Dir: t.TempDir()})
	s := &sampler{store: store}
	s.step(&events.Requests, 0, 0)
	st := newStages(&fakePool{}, &site.Route{Name: "rest", Pool: "shop"})
	st.record.keep = s
	return st, store, s
}

// TestSamplingCosts: requests that are not chosen allocate nothing.
func TestSamplingCosts(t *testing.T) {
	st, store, s := keeping(t, nil)
	s.good.set(1e-12)
	s.bad.set(1e-12)
	h := st.serveHTTP(ok)
	x := request(t, "GET /a HTTP/1.1\nHost: shop.example")
	if n := testing.AllocsPerRun(1000, func() {
		q, l, c := x.Request, x.Listener, x.Client
		x.Reset()
		x.Request, x.Listener, x.Client = q, l, c
		x.Start = time.Now()
		h(x)
	}); n != 0 {
		t.Errorf("a request that is not kept allocates %v times", n)
	}
	if n := store.Status().Waiting; n != 0 {
		t.Errorf("%d requests were kept", n)
	}
}

// TestSamplingFollowsTraffic: about as many are kept as the site says, each says for how many it stands, and failures are kept apart.
func TestSamplingFollowsTraffic(t *testing.T) {
	for _, c := range []struct {
		cfg       site.RequestRecords
		good, bad float64
		want      [2]float64 // shares
	}{
		{site.RequestRecords{Sample: 1, Most: 20}, 10, 0, [2]float64{1, 1}},
		{site.RequestRecords{Sample: 1, Most: 20}, 2000, 40, [2]float64{0.01, 0.5}},
		{site.RequestRecords{Sample: 0.1, Most: 20}, 100, 100_000, [2]float64{0.1, 0.0002}},
		{site.RequestRecords{Sample: 1, Most: 20, Off: true}, 10, 10, [2]float64{0, 0}},
	} {
		s := &sampler{}
		s.step(&c.cfg, c.good, c.bad)
		for i, of := range []*share{&s.good, &s.bad} {
			const draws = 200_000
			n := 0
			of.left.Store(draws)
			for range draws {
				if _, kept := of.drawn(); kept {
					n++
				}
			}
			if got := float64(n) / draws; got < 0.7*c.want[i]-0.0002 || got > 1.3*c.want[i]+0.0002 {
				t.Errorf("%+v at %v and %v a second: %v of kind %d are kept, want %v", c.cfg, c.good, c.bad, got, i, c.want[i])
			}
		}
	}
}

// TestSamplingIsBounded: a flood after a quiet second is not kept whole, and the next one that is kept stands for what was not.
func TestSamplingIsBounded(t *testing.T) {
	s, cfg := &sampler{}, site.RequestRecords{Sample: 1, Most: 20}
	s.step(&cfg, 0, 0)
	n, stand := 0, 0.0
	for range 1000 {
		if weight, kept := s.good.drawn(); kept {
			n, stand = n+1, stand+weight
		}
	}
	if n != 40 || stand != 40 {
		t.Errorf("%d of 1000 are kept and stand for %v, want 40 and 40", n, stand)
	}
	s.step(&cfg, 1000, 0)
	for {
		if weight, kept := s.good.drawn(); kept {
			if weight != 50+960 {
				t.Errorf("the next one that is kept stands for %v, want itself, 49 more and the 960 before", weight)
			}
			return
		}
	}
}

// TestRecordOfRequest: what is kept says what became of a request, and of its client only the network.
func TestRecordOfRequest(t *testing.T) {
	st, store, s := keeping(t, nil)
	s.good.set(0.25)
	s.good.below.Store(sides) // all are chosen, and each stands for four
	h := st.serveHTTP(ok)
	x := request(t, "GET /a?secret=1 HTTP/1.1\nHost: Shop.Example:8080")
	h(x)
	if n := store.Status().Waiting; n != 1 {
		t.Fatalf("%d are kept", n)
	}
	refused := st.serveHTTP(func(x *exchange.Exchange) *exchange.Refusal {
		return &exchange.Refusal{Stage: "shed", Reason: "overloaded", Status: 503}
	})
	refused(request(t, "GET /b HTTP/1.1\nHost: shop.example"))
	runRecords(t, store, 2)
	a, err := store.Ask(t.Context(), `AppRequests | project Method, Host, Path, ResultCode, Route, Pool, ClientIP, ItemCount, RefusedBy, Reason, Success | sort by Path asc`)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(a.Rows), "[[GET shop.example /a 200 rest  192.0.2.0 4   true] [GET shop.example /b 503 rest  192.0.2.0 1 shed overloaded false]]"; got != want {
		t.Errorf("kept is\n%s\nwant\n%s", got, want)
	}
}

func TestMasked(t *testing.T) {
	for in, want := range map[string]string{"192.0.2.7": "192.0.2.0", "2001:db8:1:2::3": "2001:db8:1::"} {
		if got := masked(netip.MustParseAddr(in)); got != want {
			t.Errorf("%s becomes %s, want %s", in, got, want)
		}
	}
	if got := masked(netip.Addr{}); got != "" {
		t.Errorf("no address becomes %q", got)
	}
}

// runRecords runs a store until the test ends, and waits until it has written.
func runRecords(t *testing.T, store *journal.Store, written uint64) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = store.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	for end := time.Now().Add(30 * time.Second); store.Status().Written < written; {
		if time.Now().After(end) {
			t.Fatalf("only %d are written", store.Status().Written)
		}
		<-time.After(2 * time.Millisecond)
	}
}

package node

import (
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/admit/facts"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

// request makes an exchange of a head as text.
func request(t testing.TB, head string) *exchange.Exchange {
	t.Helper()
	r := new(wire.Request)
	raw := strings.ReplaceAll(strings.TrimSpace(head), "\n", "\r\n") + "\r\n\r\n"
	n, err := r.Parse([]byte(raw), wire.Limits{HeadBytes: 16 << 10, Fields: 100})
	if err != nil || n != len(raw) {
		t.Fatalf("parse %q: %d, %v", head, n, err)
	}
	return &exchange.Exchange{
		Listener: &site.Listener{Name: "web"}, Request: r, Start: time.Now(), Replayable: true,
		Client: netip.MustParseAddrPort("192.0.2.7:4711"),
	}
}

// fakePool is a picker with one endpoint, or none.
type fakePool struct {
	refusal *exchange.Refusal
	ends    [3]exchange.Endpoint
	picks   atomic.Int64
	done    []exchange.Result
	keep    bool // remember results
}

func (p *fakePool) Pick(x *exchange.Exchange) (*exchange.Endpoint, *exchange.Refusal) {
	if p.refusal != nil {
		return nil, p.refusal
	}
	e := &p.ends[p.picks.Add(1)%3]
	e.InFlight.Add(1)
	return e, nil
}

func (p *fakePool) Done(x *exchange.Exchange, e *exchange.Endpoint, r exchange.Result) {
	e.InFlight.Add(-1)
	if p.keep {
		p.done = append(p.done, r)
	}
}

func ok(x *exchange.Exchange) *exchange.Refusal {
	x.Outcome = exchange.Outcome{Status: 200, Started: true, BytesOut: 10}
	return nil
}

// newStages makes the stages of one listener with one pool.
func newStages(p exchange.Picker, routes ...*site.Route) *stages {
	n := &Node{log: slog.New(slog.DiscardHandler), tallies: newTallies(), flights: map[string]*flight{}, guard: newGuard(1 << 20)}
	n.answer = func(x *exchange.Exchange, status int, fields []wire.Field, body []byte) *exchange.Refusal {
		x.Outcome = exchange.Outcome{Status: status, Started: true}
		return nil
	}
	s := &site.Site{Routes: routes, Identify: site.Identify{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}
	n.finder, _ = facts.NewStore(nil).Finder(&s.Identify)
	return n.stages(s, &site.Listener{Name: "web"}, map[string]poolPart{"shop": pickerPart{Picker: p}})
}

// pickerPart is a pool of which only picking works.
type pickerPart struct {
	exchange.Picker
	poolPart
}

func (p pickerPart) Pick(x *exchange.Exchange) (*exchange.Endpoint, *exchange.Refusal) {
	return p.Picker.Pick(x)
}

func (p pickerPart) Done(x *exchange.Exchange, e *exchange.Endpoint, r exchange.Result) {
	p.Picker.Done(x, e, r)
}

func TestStagesAllocateNothing(t *testing.T) {
	st := newStages(new(fakePool),
		&site.Route{Name: "admin", Paths: []string{"/admin/*"}, Headers: map[string]string{"X-Role": "admin"}, Pool: "shop"},
		&site.Route{Name: "all", Hosts: []string{"shop.example"}, Pool: "shop", Deadline: time.Second})
	h := st.serveHTTP(ok)
	for name, head := range map[string]string{
		"plain":   "GET /a/b?q=1 HTTP/1.1\nHost: shop.example",
		"changed": "GET /a%20b//c HTTP/1.1\nHost: Shop.Example:8080\nX-Request-Id: abc",
		"trusted": "GET / HTTP/1.1\nHost: shop.example\nX-Forwarded-For: 203.0.113.9, 10.0.0.3",
		"refused": "GET / HTTP/1.1\nHost: other.example",
	} {
		x := request(t, head)
		if name == "trusted" {
			x.Client = netip.MustParseAddrPort("10.0.0.9:1")
		}
		r := x.Request
		got := testing.AllocsPerRun(200, func() {
			h(x)
			x.Reset()
			x.Request = r
		})
		if got != 0 {
			t.Errorf("%s: %v allocations per request, want 0", name, got)
		}
	}
}

func TestRecordCounts(t *testing.T) {
	st := newStages(new(fakePool), &site.Route{Name: "all", Hosts: []string{"shop.example"}, Pool: "shop"})
	h := st.serveHTTP(ok)
	for range 3 {
		h(request(t, "GET / HTTP/1.1\nHost: shop.example"))
	}
	if r := h(request(t, "GET / HTTP/1.1\nHost: other")); r != refuseNoRoute {
		t.Fatalf("refusal %v, want no_route", r)
	}
	var all, none sums
	st.record.routes[0].addTo(&all)
	st.record.none.addTo(&none)
	if all.Requests != 3 || all.code(2) != 3 || all.BytesOut != 30 {
		t.Errorf("route counted %d requests, %v, %d bytes", all.Requests, all.Status, all.BytesOut)
	}
	if none.Requests != 1 || none.Refused != 1 || none.code(4) != 1 {
		t.Errorf("without route: %d requests, %d refused, %v", none.Requests, none.Refused, none.Status)
	}
	if got := st.record.noRoute.sums()[reasonKey{stage: "route", reason: "no_route"}]; got != 1 {
		t.Errorf("no_route counted %d times, want 1", got)
	}
	if st.record.flight.sum() != 0 {
		t.Errorf("in flight %d after all ended", st.record.flight.sum())
	}
}

func TestDeadlineCountsFromTheFirstByte(t *testing.T) {
	st := newStages(new(fakePool), &site.Route{Name: "all", Pool: "shop", Deadline: 2 * time.Second})
	x := request(t, "GET / HTTP/1.1\nHost: a")
	x.Start = time.Unix(100, 0)
	st.serveHTTP(ok)(x)
	if want := time.Unix(102, 0); !x.Deadline.Equal(want) {
		t.Errorf("deadline %v, want %v", x.Deadline, want)
	}
}

func TestLatencyBuckets(t *testing.T) {
	for d := time.Duration(0); d < latencyMax; d += d/50 + time.Microsecond {
		i := latencyBucket(d)
		if d >= bucketTop(i) || i > 0 && d < bucketTop(i-1) {
			t.Fatalf("%v is in bucket %d, which ends at %v", d, i, bucketTop(i))
		}
		if d >= 16*time.Microsecond {
			if off := float64(bucketMiddle(i)-d) / float64(d); off > 0.05 || off < -0.05 {
				t.Fatalf("%v is shown as %v: %.1f%% off", d, bucketMiddle(i), 100*off)
			}
		}
	}
	if i := latencyBucket(latencyMax); i != latencyBuckets-1 {
		t.Errorf("the longest latency is in bucket %d, want the last", i)
	}
	var s sums
	for ms := 1; ms <= 1000; ms++ {
		s.Latency[latencyBucket(time.Duration(ms)*time.Millisecond)]++
	}
	for q, want := range map[float64]time.Duration{0.5: 500 * time.Millisecond, 0.99: 990 * time.Millisecond} {
		if got := s.quantile(q); got < want*95/100 || got > want*105/100 {
			t.Errorf("quantile %v is %v, want %v within 5%%", q, got, want)
		}
	}
	if shown, total := s.cumulative(bounds); total != 1000 || shown[.1] < 95 || shown[.1] > 100 || shown[60] != 1000 {
		t.Errorf("cumulative %v of %d", shown, total)
	}
}

package proxy

import (
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
)

// Limits as the limit stage would tell of them.
func testPolicies() (customer, address *exchange.Policy) {
	customer = &exchange.Policy{Name: "per-customer", Field: []byte(`"per-customer";q=100;w=60`), Quoted: []byte(`"per-customer"`), Always: true,
		Remaining: []byte("X-RateLimit-Remaining")}
	return customer, &exchange.Policy{Name: "per-ip", Field: []byte(`"per-ip";q=20;w=1`), Quoted: []byte(`"per-ip"`)}
}

// asked sends one GET over a new connection with the protocol.
func asked(t *testing.T, address string, h2 bool, header http.Header) (*http.Response, string) {
	t.Helper()
	tr := &http.Transport{Protocols: new(http.Protocols), DisableKeepAlives: !h2}
	tr.Protocols.SetHTTP1(!h2)
	tr.Protocols.SetUnencryptedHTTP2(h2)
	defer tr.CloseIdleConnections()
	r := mustRequest(t, "http://"+address+"/x")
	r.Header = header.Clone()
	resp, err := tr.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestRefusalTellsOfLimits(t *testing.T) {
	customer, address := testPolicies()
	quota := &exchange.Refusal{Stage: "limit", Reason: "rate", Status: 429, Limit: "per-ip", Problem: exchange.ProblemQuota,
		Detail: "Slow \"down\".\n", RetryAfter: 9 * time.Second}
	for name, k := range map[string]struct {
		refusal *exchange.Refusal
		note    func(x *exchange.Exchange)
		accept  string
		fields  map[string]string
		body    map[string]any // nil: not JSON
		text    string
	}{
		"two limits": {quota, func(x *exchange.Exchange) {
			x.Allow(exchange.Allowance{Of: customer, Left: 40, Reset: 1500 * time.Millisecond})
			x.Allow(exchange.Allowance{Of: address, Left: -3, Reset: 10 * time.Second, Violated: true})
			x.RetryAfter = 2100 * time.Millisecond
		}, "", map[string]string{"Retry-After": "3", "RateLimit-Policy": `"per-customer";q=100;w=60, "per-ip";q=20;w=1`,
			"RateLimit": `"per-customer";r=40;t=2, "per-ip";r=0;t=3`, "X-RateLimit-Remaining": "40", "Content-Type": "application/problem+json"},
			map[string]any{"type": exchange.ProblemQuota, "title": "Request cannot be satisfied as assigned quota has been exceeded", "status": 429.0,
				"reason": "rate", "detail": "Slow \"down\".\n", "limit": "per-ip", "violated-policies": []any{"per-ip"}}, ""},
		"no allowance": {quota, nil, "", map[string]string{"Retry-After": "9", "RateLimit": "", "RateLimit-Policy": ""},
			map[string]any{"type": exchange.ProblemQuota, "title": "Request cannot be satisfied as assigned quota has been exceeded", "status": 429.0,
				"reason": "rate", "detail": "Slow \"down\".\n", "limit": "per-ip", "violated-policies": []any{"per-ip"}}, ""},
		"another stage": {&exchange.Refusal{Stage: "shed", Reason: "queue_full", Status: 503, Problem: exchange.ProblemReduced, RetryAfter: time.Millisecond},
			func(x *exchange.Exchange) { x.Allow(exchange.Allowance{Of: customer, Left: 7}) }, "",
			map[string]string{"Retry-After": "1", "RateLimit": `"per-customer";r=7;t=0`},
			map[string]any{"type": exchange.ProblemReduced, "title": "Request cannot be satisfied due to temporary server capacity constraints", "status": 503.0, "reason": "queue_full"}, ""},
		"own answer": {&exchange.Refusal{Stage: "quota", Reason: "calls", Status: 403, Body: []byte("<no/>"), ContentType: []byte("text/xml"),
			RetryName: []byte("X-Wait"), RetryAfter: time.Minute}, nil, "application/json",
			map[string]string{"Content-Type": "text/xml", "X-Wait": "60", "Retry-After": ""}, nil, "<no/>"},
		"plain": {&exchange.Refusal{Stage: "guard", Reason: "overloaded", Status: 503}, nil, "text/html",
			map[string]string{"Content-Type": "text/plain; charset=utf-8", "Retry-After": ""}, nil, "503 Service Unavailable\nReason: overloaded\n"},
		"bare": {&exchange.Refusal{Stage: "guard", Reason: "overloaded", Status: 503}, nil, "", nil,
			map[string]any{"type": "about:blank", "title": "Service Unavailable", "status": 503.0, "reason": "overloaded"}, ""},
	} {
		_, addr := startProxy(t, h1Limits(), func(x *exchange.Exchange) *exchange.Refusal {
			if k.note != nil {
				k.note(x)
			}
			return k.refusal
		})
		for _, h2 := range []bool{false, true} {
			resp, body := asked(t, addr, h2, http.Header{"Accept": {k.accept}})
			if resp.StatusCode != k.refusal.Status {
				t.Errorf("%s: status %d", name, resp.StatusCode)
			}
			for field, want := range k.fields {
				if got := strings.Join(resp.Header.Values(field), "|"); got != want {
					t.Errorf("%s: %s is %q, want %q", name, field, got, want)
				}
			}
			var got map[string]any
			if k.body == nil {
				if body != k.text {
					t.Errorf("%s: body %q, want %q", name, body, k.text)
				}
			} else if err := json.Unmarshal([]byte(body), &got); err != nil || !reflect.DeepEqual(got, k.body) {
				t.Errorf("%s: body %s, %v; want %v", name, body, err, k.body)
			}
		}
	}
}

// TestAnswersTellOfLimits: an answer of the endpoint carries what is told always, beside what the endpoint says itself.
func TestAnswersTellOfLimits(t *testing.T) {
	customer, address := testPolicies()
	p, addr := startProxy(t, h1Limits(), nil)
	to := httpEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("RateLimit", `"inner";r=1;t=1`)
	})
	send := sendTo(t, p.Proxy, h1Pool(), to, nil)
	p.setHandler(func(x *exchange.Exchange) *exchange.Refusal {
		x.Allow(exchange.Allowance{Of: address, Left: 3, Reset: time.Second})
		x.Allow(exchange.Allowance{Of: customer, Left: 99, Reset: time.Minute})
		return send(x)
	})
	for _, h2 := range []bool{false, true} {
		resp, _ := asked(t, addr, h2, http.Header{})
		if got, want := strings.Join(resp.Header.Values("RateLimit"), ", "), `"inner";r=1;t=1, "per-customer";r=99;t=60`; got != want {
			t.Errorf("RateLimit %q, want %q", got, want)
		}
		if got, want := strings.Join(resp.Header.Values("RateLimit-Policy"), ", "), `"per-customer";q=100;w=60`; got != want {
			t.Errorf("RateLimit-Policy %q, want %q", got, want)
		}
		if got := resp.Header.Get("X-RateLimit-Remaining"); got != "99" {
			t.Errorf("X-RateLimit-Remaining %q, want 99", got)
		}
	}
}

// TestGRPCRefusalKeepsItsBounds: what a site file says cannot become a field of its own.
func TestGRPCRefusalKeepsItsBounds(t *testing.T) {
	refusal := &exchange.Refusal{Stage: "limit", Reason: "rate", Status: 429, Detail: "a\r\nB: c 100% ü", RetryAfter: time.Hour}
	_, addr := startProxy(t, h1Limits(), func(x *exchange.Exchange) *exchange.Refusal {
		x.RetryAfter = 1500 * time.Microsecond
		return refusal
	})
	resp, _ := asked(t, addr, true, http.Header{"Content-Type": {"application/grpc"}})
	if got, want := resp.Header.Get("Grpc-Message"), "limit: rate. a%0D%0AB: c 100%25 %C3%BC"; got != want {
		t.Errorf("grpc-message %q, want %q", got, want)
	}
	if got := resp.Header.Get("Grpc-Retry-Pushback-Ms"); got != "2" {
		t.Errorf("pushback %q, want 2", got)
	}
}

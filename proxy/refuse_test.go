package proxy

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, "-1": 0, "1.5": 0, "soon": 0, "7 ": 0,
		"999999999999999999999999":      24 * time.Hour,
		"Fri, 02 Jan 2026 03:04:35 GMT": 30 * time.Second,
		"Fri, 02 Jan 2026 03:00:00 GMT": 0,
		"Fri, 02 Jan 2099 03:00:00 GMT": 24 * time.Hour,
	} {
		if got := retryAfter([]byte(value), now); got != want {
			t.Errorf("%q: got %v, want %v", value, got, want)
		}
	}
}

func TestRetryAfterReachesTheResult(t *testing.T) {
	p, addr := startProxy(t, h1Limits(), nil)
	to := httpEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "3")
		w.WriteHeader(map[string]int{"/429": 429, "/503": 503, "/301": 301}[r.URL.Path])
	})
	send, results := sendTo(t, p.Proxy, h1Pool(), to, nil), make(chan exchange.Result, 1)
	p.setHandler(func(x *exchange.Exchange) *exchange.Refusal {
		r := send(x)
		results <- x.Result
		return r
	})
	for path, want := range map[string]time.Duration{"/429": 3 * time.Second, "/503": 3 * time.Second, "/301": 0} {
		resp, err := http.DefaultTransport.RoundTrip(mustRequest(t, "http://"+addr+path))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if r := <-results; r.RetryAfter != want {
			t.Errorf("%s: %v, want %v", path, r.RetryAfter, want)
		}
	}
}

func mustRequest(t *testing.T, url string) *http.Request {
	t.Helper()
	r, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestGRPCRefusal: over HTTP/2 the status stands in a head that ends the stream, which clients tell from an answer that began.
func TestGRPCRefusal(t *testing.T) {
	refusal := &exchange.Refusal{Stage: "limit", Reason: "per_ip", Status: 429, RetryAfter: 1500 * time.Millisecond}
	_, addr := startProxy(t, h1Limits(), func(*exchange.Exchange) *exchange.Refusal { return refusal })
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	defer tr.CloseIdleConnections()
	r := mustRequest(t, "http://"+addr+"/a.B/C")
	r.Method = "POST"
	r.Header.Set("Content-Type", "application/grpc")
	resp, err := tr.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 || resp.Header.Get("Grpc-Status") != "8" || resp.Header.Get("Grpc-Message") != "limit: per_ip" ||
		resp.Header.Get("Grpc-Retry-Pushback-Ms") != "1500" || resp.Header.Get("Content-Type") != "application/grpc" {
		t.Errorf("got %d %v", resp.StatusCode, resp.Header)
	}
	if kind := fmt.Sprintf("%T", resp.Body); !strings.Contains(kind, "noBody") {
		t.Errorf("the head did not end the stream: its body is a %s", kind)
	}
	if at, err := http.ParseTime(resp.Header.Get("Date")); err != nil || time.Since(at).Abs() > time.Minute {
		t.Errorf("Date %q: %v", resp.Header.Get("Date"), err)
	}
}

// TestGRPCCode: a quota that is used up is no missing permission, and a limit with a status of its own is still one.
func TestGRPCCode(t *testing.T) {
	for _, c := range []struct {
		problem string
		status  int
		want    string
	}{
		{exchange.ProblemQuota, 403, "8"}, {exchange.ProblemQuota, 420, "8"}, {exchange.ProblemQuota, 429, "8"}, {exchange.ProblemQuota, 503, "14"},
		{exchange.ProblemReduced, 503, "14"}, {"", 403, "7"}, {exchange.ProblemAbnormal, 403, "7"}, {exchange.ProblemAbnormal, 429, "8"},
	} {
		if got := string(grpcCode(&exchange.Refusal{Status: c.status, Problem: c.problem})); got != c.want {
			t.Errorf("%d of %q is told as %s, want %s", c.status, c.problem, got, c.want)
		}
	}
}

func TestDateIsRenewed(t *testing.T) {
	s := newSweeper()
	first := s.date.Load()
	s.tellDate(s.start)
	if s.date.Load() != first {
		t.Error("made anew within the second")
	}
	s.tellDate(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	if got := string(s.date.Load().text); got != "Fri, 02 Jan 2026 03:04:05 GMT" {
		t.Errorf("got %s", got)
	}
}

// TestPushback: what an endpoint says of trying again in a call of gRPC. One of 0 asks for it at once, which is not the same as saying nothing.
func TestPushback(t *testing.T) {
	for said, want := range map[string]exchange.Result{
		"":     {},
		"0":    {RetryAfter: 1},
		"20":   {RetryAfter: 20 * time.Millisecond},
		"-1":   {NoRetry: true},
		"soon": {NoRetry: true},
	} {
		var s scratch
		if said != "" {
			s.resp.Fields = []wire.Field{{Name: nameGRPCPushback, Value: []byte(said), ID: wire.GRPCPushback}}
		}
		x := &exchange.Exchange{Request: &wire.Request{Method: []byte("POST")}}
		if mind(x, &s); x.Result != want {
			t.Errorf("%q: %+v, want %+v", said, x.Result, want)
		}
	}
}

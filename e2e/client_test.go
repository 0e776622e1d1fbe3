package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/client"
	"github.com/even-keel/evenkeel/contain/retry"
)

// mannered is a client of package client that keeps what became of its attempts.
func mannered(t *testing.T, o client.Options) (*http.Client, *[]client.Attempt) {
	base := &http.Transport{}
	t.Cleanup(base.CloseIdleConnections)
	seen := &[]client.Attempt{}
	o.Base, o.Observe = base, func(a client.Attempt) { *seen = append(*seen, a) }
	return &http.Client{Transport: client.New(o)}, seen
}

func fetch(t *testing.T, c *http.Client, ctx context.Context, url string) (status int, text string) {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// TestClientAndGateway: what the library says is what the gateway understands, and the other way round.
func TestClientAndGateway(t *testing.T) {
	heard := make(chan http.Header, 100)
	var broken atomic.Bool
	endpoint := service(t, client.Receive(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		heard <- r.Header
		if broken.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		end, has := r.Context().Deadline()
		fmt.Fprintf(w, "class %s, deadline %v, in time %v", client.ClassOf(r.Context()), has, time.Until(end) <= 5*time.Second)
	})).ServeHTTP)
	g := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0"}}
identify: {trusted_proxies: [127.0.0.0/8]}
limits: [{name: few, by: route, routes: [limited], rate: 1/s, burst: 1}]
pools: {service: {endpoints: [%q], retry_budget: 100%%, probe: {off: true}, outliers: {mode: "off"}}}
routes: [{name: limited, paths: [/limited], pool: service}, {name: all, pool: service}]
`, endpoint))
	url := "http://" + g.at["web"] + "/"

	t.Run("class and deadline reach the endpoint", func(t *testing.T) {
		c, _ := mannered(t, client.Options{})
		ctx, stop := context.WithTimeout(client.WithClass(t.Context(), client.Critical), 5*time.Second)
		defer stop()
		if _, have := fetch(t, c, ctx, url); have != "class critical, deadline true, in time true" {
			t.Error(have)
		}
		if ms, err := strconv.Atoi((<-heard).Get("Evenkeel-Deadline")); err != nil || ms > 5000 || ms < 1 {
			t.Errorf("%d ms, %v", ms, err)
		}
	})
	t.Run("what the gateway tried is not tried again", func(t *testing.T) {
		broken.Store(true)
		defer broken.Store(false)
		c, seen := mannered(t, client.Options{Share: 1})
		if status, _ := fetch(t, c, t.Context(), url); status != http.StatusBadGateway || len(*seen) != 1 || (*seen)[0].Kept != "forbidden" {
			t.Errorf("status %d, attempts %+v", status, *seen)
		}
		if n := len(heard); n != 3 {
			t.Errorf("the endpoint saw %d attempts, want the three of the gateway", n)
		}
	})
	t.Run("a limit says when", func(t *testing.T) {
		rules := retry.Rules{MaxWait: 5 * time.Second} // the gateway rounds up, and adds some
		c, seen := mannered(t, client.Options{Share: 1, Rules: rules})
		for range 2 {
			if status, text := fetch(t, c, t.Context(), url+"limited"); status != http.StatusOK {
				t.Errorf("%d %s", status, text)
			}
		}
		if a := *seen; len(a) != 3 || a[1].Status != http.StatusServiceUnavailable || a[1].Kept != "" || a[2].Number != 2 {
			t.Errorf("%+v", a)
		}
	})
}

package stress

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Of the search for duplicates.
const (
	wildEndpoints = 3                  // for each protocol
	wildClients   = 32                 // connections
	wildSafe      = 4                  // every so many-th request is a GET or a PUT, which may be repeated, so that there are repeats
	wildPiece     = "0123456789abcdef" // bodies are this again and again
	wildLongest   = 72_000             // more than is kept of a body for repeats
	wildServed    = 0.5                // of the requests must be answered with 200, or not much was tried
)

// wildPools are pools of wild endpoints by protocol, and routes to them.
func wildPools(list []*wild) (pools, routes string) {
	for _, speak := range []string{"h1", "h2"} {
		var at []string
		for _, w := range list {
			if w.h2 == (speak == "h2") {
				at = append(at, fmt.Sprintf("%q", w.address))
			}
		}
		pools += fmt.Sprintf("  %s: {http: %s, method: round_robin, retry_budget: 100%%, panic: 100%%, probe: {off: true}, outliers: {mode: \"off\"}, endpoints: [%s]}\n",
			speak, speak, strings.Join(at, ", "))
		routes += fmt.Sprintf("  - {name: %s, paths: [/%s/*], pool: %s}\n", speak, speak, speak)
	}
	return pools, routes
}

// duplicates sends requests that must not be repeated to endpoints that end connections at every moment and are killed again and again, and
// looks for one that reached endpoints twice.
func duplicates(ctx context.Context, t *trial) error {
	n := pick(t.lab, 1_000_000, 10_000)
	reached, mangled := make([]atomic.Uint32, n), atomic.Uint32{}
	var list []*wild
	for i := range 2 * wildEndpoints {
		w := &wild{h2: i >= wildEndpoints, reached: reached, mangled: &mangled}
		if err := w.start(); err != nil {
			return err
		}
		defer w.kill()
		list = append(list, w)
	}
	t.setup.pools, t.setup.routes = wildPools(list)
	if err := t.writeSite(0); err != nil {
		return err
	}
	if err := t.signal(syscall.SIGHUP); err != nil {
		return err
	}
	client := &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: wildClients, DisableCompression: true}}
	defer client.CloseIdleConnections()
	if err := wait(changePatience, func() error {
		answer, err := client.Get("http://" + t.web + "/h1/ready")
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if text, _ := io.ReadAll(answer.Body); string(text) != "ok\n" {
			return fmt.Errorf("%w: %d", errWild, answer.StatusCode)
		}
		return nil
	}); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	var killing sync.WaitGroup
	kills := 0
	killing.Go(func() { kills = killAll(ctx, list) })
	sent, served, wrong := sendAll(ctx, client, "http://"+t.web, n)
	stop()
	killing.Wait()
	if wrong > 0 {
		t.fail("%d answers were malformed or not what an endpoint sent", wrong)
	}
	if m := mangled.Load(); m > 0 {
		t.fail("%d bodies reached an endpoint as they were not sent", m)
	}
	t.countDuplicates(reached, sent, served, kills)
	return nil
}

// killAll kills one endpoint after the other and starts it again, until ctx ends.
func killAll(ctx context.Context, list []*wild) (kills int) {
	for ; ; kills++ {
		select {
		case <-ctx.Done():
			return kills
		case <-time.After(time.Duration(50+rand.IntN(200)) * time.Millisecond):
		}
		w := list[rand.IntN(len(list))]
		w.kill()
		time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
		_ = w.start() // when somebody has its port for long, it is down until its next turn
	}
}

// sendAll sends n requests and returns how many went out, how many were answered well, and how many got what no endpoint sent.
func sendAll(ctx context.Context, client *http.Client, url string, n int) (sent, served, wrong int64) {
	var next, out, good, bad atomic.Int64
	body := strings.Repeat(wildPiece, wildLongest/len(wildPiece))
	var clients sync.WaitGroup
	for range wildClients {
		clients.Go(func() {
			for {
				id := next.Add(1) - 1
				if id >= int64(n) || ctx.Err() != nil {
					return
				}
				q, err := wildRequest(ctx, url, id, body)
				if err != nil {
					return
				}
				out.Add(1)
				answer, err := client.Do(q)
				if err != nil {
					if !broken(err) || strings.Contains(err.Error(), "malformed") { // a url.Error is a net.Error too
						bad.Add(1)
					}
					continue
				}
				text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
				answer.Body.Close()
				switch {
				case err != nil || answer.StatusCode != http.StatusOK:
				case string(text) == "ok\n":
					good.Add(1)
				default:
					bad.Add(1)
				}
			}
		})
	}
	clients.Wait()
	return out.Load(), good.Load(), bad.Load()
}

// wildRequest makes the request of an id: bodies are short or long, of known length or not.
func wildRequest(ctx context.Context, url string, id int64, text string) (*http.Request, error) {
	method, size := http.MethodPost, []int{0, 100, 5000, 60_000, 70_000}[rand.IntN(5)>>rand.IntN(3)]
	if id%wildSafe == 0 {
		if method = http.MethodPut; rand.IntN(2) == 0 {
			method, size = http.MethodGet, 0
		}
	}
	var body io.Reader = strings.NewReader(text[:size])
	if rand.IntN(2) == 0 {
		body = io.MultiReader(body) // whose length net/http cannot tell
	}
	q, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("%s/h%d/x", url, 1+id%2), body)
	if err != nil {
		return nil, err
	}
	q.Header.Set("X-Id", fmt.Sprint(id))
	q.Header.Set("X-Size", fmt.Sprint(size))
	return q, nil
}

// countDuplicates looks at what reached the endpoints.
func (t *trial) countDuplicates(reached []atomic.Uint32, sent, served int64, kills int) {
	once, more := 0, 0
	for i := range reached {
		switch reached[i].Load() {
		case 0:
		case 1:
			once++
		default:
			more++
		}
	}
	if more > 0 {
		t.fail("%d requests that must not be repeated reached endpoints more than once", more)
	}
	s, err := t.status()
	if err != nil {
		t.fail("%v", err)
	}
	repeats := map[string]int{}
	for _, p := range s.Pools {
		for why, n := range p.Retries.Repeats {
			repeats[why] += n
		}
	}
	if float64(served) < wildServed*float64(sent) || len(repeats) == 0 {
		t.fail("of %d requests %d were answered well and %v were repeated: too little was tried", sent, served, repeats)
	}
	t.say("%d requests, %d answered well; %d POSTs reached an endpoint once, %d more than once; %d kills", sent, served, once, more, kills)
	t.say("repeats by what had failed: %v", repeats)
}

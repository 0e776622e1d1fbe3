package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// The states of breakers, and what people want of one. BreakerAuto leaves it to itself.
const (
	BreakerClosed   = "closed"
	BreakerHalfOpen = "half-open"
	BreakerOpen     = "open"
	BreakerAuto     = "auto"
)

// BreakMost is how long a breaker may be held by hand.
const BreakMost = 24 * time.Hour

// Breaker is the breaker of a pool.
type Breaker struct {
	State   string        `json:"state"` // closed, half-open or open
	Why     string        `json:"why"`
	Since   time.Time     `json:"since,omitzero"`
	Until   time.Time     `json:"until,omitzero"`   // open: when a trial may be made
	ByHand  time.Time     `json:"by_hand,omitzero"` // held by hand until then
	Mode    string        `json:"mode"`             // on, dry_run or off
	Refused uint64        `json:"refused"`          // in a dry run: what would have been
	Failed  uint64        `json:"failed"`           // of the window
	Seen    uint64        `json:"seen"`             // of the window
	Turns   []BreakerTurn `json:"turns,omitempty"`  // changes of state
}

// BreakerTurn counts changes to a state by one cause.
type BreakerTurn struct {
	To    string `json:"to"`
	Cause string `json:"cause"`
	Count uint64 `json:"count"`
}

// Broken is one breaker that is not closed, or is held by hand.
type Broken struct {
	Pool     string    `json:"pool"`
	Endpoint string    `json:"endpoint,omitempty"` // empty: the pool's own
	State    string    `json:"state"`
	Why      string    `json:"why"`
	ByHand   time.Time `json:"by_hand,omitzero"`
}

// CheckBreaker says what is wrong with an order about a breaker.
func CheckBreaker(state string, length time.Duration) error {
	switch {
	case state == BreakerAuto && length != 0:
		return errors.New("auto leaves a breaker to itself: it takes no time")
	case state == BreakerAuto:
		return nil
	case state != BreakerOpen && state != BreakerClosed:
		return fmt.Errorf("a breaker can be held open or closed or left to itself with auto, not %q", state)
	case length < time.Second:
		return fmt.Errorf("%s is too short: say for how long, from 1s to 24h", length)
	case length > BreakMost:
		return fmt.Errorf("%s is too long: allowed is up to 24h; what is needed for longer belongs into the site file", length)
	}
	return nil
}

// broken lists the breakers that are not closed or held by hand.
func (v View) broken() []Broken {
	list := []Broken{}
	for _, p := range v.Pools {
		if b := p.Breaker; b != nil && (b.State != BreakerClosed || b.ByHand.After(v.At)) {
			list = append(list, Broken{Pool: p.Name, State: b.State, Why: b.Why, ByHand: b.ByHand})
		}
		for _, e := range p.Endpoints {
			if e.Breaker != "" && e.Breaker != BreakerClosed || e.BreakerByHand.After(v.At) {
				list = append(list, Broken{p.Name, e.Address, e.Breaker, e.Why, e.BreakerByHand})
			}
		}
	}
	return list
}

// breakerRoutes serves the one path that answers two methods.
func (c *console) breakerRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /api/v1/breaker", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]any{"breakers": c.now().broken()})
	})
	mux.HandleFunc("POST /api/v1/breaker", c.breaker)
	mux.HandleFunc("/api/v1/breaker", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", "GET, POST")
		problem(w, http.StatusMethodNotAllowed, "method_not_allowed", r.URL.Path+" answers GET and POST only")
	})
}

// breaker holds a breaker open or closed for a while, or leaves it to itself. What is asked stands in the query.
func (c *console) breaker(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	name, address, state := q.Get("pool"), q.Get("endpoint"), q.Get("state")
	var length time.Duration
	if text := q.Get("for"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			problem(w, http.StatusBadRequest, "bad_breaker", "for is "+strconv.Quote(text)+"; want a time such as 10m, up to 24h")
			return
		}
		length = d
	}
	if err := CheckBreaker(state, length); err != nil {
		problem(w, http.StatusBadRequest, "bad_breaker", err.Error())
		return
	}
	p := c.now().pool(name)
	if p == nil {
		problem(w, http.StatusNotFound, "unknown_pool", "there is no pool named "+name)
		return
	}
	if address != "" && p.endpoint(address) == nil {
		problem(w, http.StatusNotFound, "unknown_endpoint", "pool "+name+" has no endpoint "+address)
		return
	}
	if c.deps.Break == nil {
		problem(w, http.StatusNotImplemented, "not_offered", "this node holds no breakers by hand")
		return
	}
	var until time.Time
	if length > 0 {
		until = c.deps.Now().Add(length)
	}
	if err := c.deps.Break(name, address, state, until); err != nil {
		problem(w, http.StatusConflict, "not_held", sentence(err))
		return
	}
	c.stale()
	done(w, r, http.StatusOK, map[string]any{"breakers": c.now().broken()})
}

// Break asks a node to hold the breaker of a pool, or of one of its endpoints, open or closed for length, or with BreakerAuto to leave it
// to itself. It returns the breakers that are not closed, or held, from then on.
func (c *Client) Break(ctx context.Context, pool, endpoint, state string, length time.Duration) ([]Broken, error) {
	q := url.Values{"pool": {pool}, "state": {state}}
	if endpoint != "" {
		q.Set("endpoint", endpoint)
	}
	if length > 0 {
		q.Set("for", length.String())
	}
	return c.brokenAt(ctx, http.MethodPost, "/api/v1/breaker?"+q.Encode())
}

// Broken asks a node which breakers are not closed, or held by hand.
func (c *Client) Broken(ctx context.Context) ([]Broken, error) {
	return c.brokenAt(ctx, http.MethodGet, "/api/v1/breaker")
}

func (c *Client) brokenAt(ctx context.Context, method, path string) ([]Broken, error) {
	body, err := c.do(ctx, method, path)
	if err != nil {
		return nil, err
	}
	var a struct {
		Breakers []Broken `json:"breakers"`
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, fmt.Errorf("what answers at %s does not speak like evenkeel: %w", c.shown, err)
	}
	return a.Breakers, nil
}

// breakerText is what a line about a pool says of its breaker; empty: it is closed.
func breakerText(b *Breaker) string {
	if b == nil || b.State == BreakerClosed && b.ByHand.IsZero() {
		return ""
	}
	what := "breaker "
	if b.Mode == "dry_run" {
		what = "breaker (dry run) "
	}
	return what + clean(b.Why)
}

// breakerPath is the route of an order that takes no time.
func breakerPath(pool, endpoint, state string) string {
	q := url.Values{"pool": {pool}, "state": {state}}
	if endpoint != "" {
		q.Set("endpoint", endpoint)
	}
	return "/api/v1/breaker?" + q.Encode()
}

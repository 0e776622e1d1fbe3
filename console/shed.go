package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// ShedMost is how long a class may be refused by hand. What is needed for longer belongs into the site file, where others see it.
const ShedMost = 24 * time.Hour

// Switched is a class that is refused by hand.
type Switched struct {
	Pool  string    `json:"pool"`
	Class string    `json:"class"`
	Until time.Time `json:"until"`
}

// CheckShed says what is wrong with an order to refuse class for a while; off brings it back.
func CheckShed(class string, length time.Duration, off bool) error {
	switch {
	case class == "critical":
		return errors.New("critical requests are never refused by hand: they are what the others are refused for; allowed are low and standard")
	case class != "low" && class != "standard":
		return fmt.Errorf("there is no class %q; low and standard can be refused by hand", class)
	case off:
		return nil
	case length < time.Second:
		return fmt.Errorf("%s is too short: say for how long, from 1s to 24h", length)
	case length > ShedMost:
		return fmt.Errorf("%s is too long: allowed is up to 24h; what is needed for longer belongs into the site file", length)
	}
	return nil
}

// switched lists what is refused by hand.
func (o Overload) switched(now time.Time) []Switched {
	list := []Switched{}
	for _, p := range o.Pools {
		for _, class := range classWords {
			if until := p.ByHand[class]; until.After(now) {
				list = append(list, Switched{p.Pool, class, until})
			}
		}
	}
	return list
}

// shedStatus answers with what is refused by hand.
func (c *console) shedStatus(w http.ResponseWriter, _ *http.Request) {
	v := c.now()
	answer(w, http.StatusOK, map[string]any{"switched": v.Overload.switched(v.At)})
}

// shed refuses a class of one pool or all for a while, or brings it back. What is asked stands in the query.
func (c *console) shed(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	pool, class, off := q.Get("pool"), q.Get("class"), q.Get("off") == "true"
	var length time.Duration
	if text := q.Get("for"); text != "" || !off {
		d, err := time.ParseDuration(text)
		if err != nil {
			problem(w, http.StatusBadRequest, "bad_shed", "for is "+strconv.Quote(text)+"; want a time such as 10m, up to 24h")
			return
		}
		length = d
	}
	if err := CheckShed(class, length, off); err != nil {
		problem(w, http.StatusBadRequest, "bad_shed", err.Error())
		return
	}
	if pool != "" && c.now().pool(pool) == nil {
		problem(w, http.StatusNotFound, "unknown_pool", "there is no pool named "+pool)
		return
	}
	if c.deps.Shed == nil {
		problem(w, http.StatusNotImplemented, "not_offered", "this node refuses no classes by hand")
		return
	}
	var until time.Time
	if !off {
		until = c.deps.Now().Add(length)
	}
	if err := c.deps.Shed(pool, class, until); err != nil {
		problem(w, http.StatusConflict, "not_shed", sentence(err))
		return
	}
	c.stale()
	v := c.now()
	done(w, r, http.StatusOK, map[string]any{"switched": v.Overload.switched(v.At)})
}

// overload answers with how the node is loaded, and how it was: since bounds the past, pool chooses one.
func (c *console) overload(w http.ResponseWriter, r *http.Request) {
	var since time.Time
	if text := r.URL.Query().Get("since"); text != "" {
		at, err := parseSince(text)
		if err != nil {
			problem(w, http.StatusBadRequest, "bad_since", "since is "+strconv.Quote(text)+"; want a time as 2026-01-31T09:00:00Z or Unix seconds")
			return
		}
		since = at
	}
	v, list := c.now(), []Series{}
	if c.deps.Curves != nil {
		list = append(list, c.deps.Curves(since)...)
	}
	if r.URL.Query().Has("pool") {
		name := r.URL.Query().Get("pool")
		if name != "" && v.pool(name) == nil {
			problem(w, http.StatusNotFound, "unknown_pool", "there is no pool named "+name)
			return
		}
		kept := list[:0]
		for _, s := range list {
			if s.Pool == name {
				kept = append(kept, s)
			}
		}
		list = kept
	}
	for i := range list {
		list[i] = list[i].settle()
	}
	answer(w, http.StatusOK, map[string]any{"at": v.At, "overload": v.Overload, "series": list})
}

func parseSince(text string) (time.Time, error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.Unix(n, 0), nil
	}
	return time.Parse(time.RFC3339, text)
}

// Shed asks a node to refuse a class of a pool, or of all when pool is "", for length; 0 brings it back. It returns what
// is refused by hand from then on.
func (c *Client) Shed(ctx context.Context, pool, class string, length time.Duration) ([]Switched, error) {
	q := url.Values{"class": {class}}
	if pool != "" {
		q.Set("pool", pool)
	}
	if length > 0 {
		q.Set("for", length.String())
	} else {
		q.Set("off", "true")
	}
	return c.switched(ctx, http.MethodPost, "/api/v1/shed?"+q.Encode())
}

// Switched asks a node what is refused by hand.
func (c *Client) Switched(ctx context.Context) ([]Switched, error) {
	return c.switched(ctx, http.MethodGet, "/api/v1/shed")
}

func (c *Client) switched(ctx context.Context, method, path string) ([]Switched, error) {
	body, err := c.do(ctx, method, path)
	if err != nil {
		return nil, err
	}
	var a struct {
		Switched []Switched `json:"switched"`
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, fmt.Errorf("what answers at %s does not speak like evenkeel: %w", c.shown, err)
	}
	return a.Switched, nil
}

// shedPath is the route of a button of the page.
func shedPath(pool, class, length string) string {
	if length == "" {
		return "/api/v1/shed?off=true&class=" + class + "&pool=" + url.QueryEscape(pool)
	}
	return "/api/v1/shed?for=" + length + "&class=" + class + "&pool=" + url.QueryEscape(pool)
}

// back is where a form of the page without scripts goes after a change: the page it stands on.
func back(r *http.Request) string {
	if u, err := url.Parse(r.Header.Get("Referer")); err == nil && u.Host == r.Host && strings.HasPrefix(u.Path, "/") && !strings.HasPrefix(u.Path, "//") {
		return u.RequestURI()
	}
	for prefix, page := range map[string]string{"/api/v1/access/": "/access", "/api/v1/alerts/": "/alerts"} {
		if strings.HasPrefix(r.URL.Path, prefix) {
			return page
		}
	}
	return "/"
}

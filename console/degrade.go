package console

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// Degrade is what stands in for endpoints, and what they were told to leave out.
type Degrade struct {
	Cache     *CacheLoad      `json:"cache,omitempty"` // nil: no route keeps answers
	Fallbacks []FallbackLoad  `json:"fallbacks"`
	Switches  []FeatureSwitch `json:"switches"`
}

// CacheLoad is what the cache holds. Counters count from the start of the node.
type CacheLoad struct {
	Bytes       int64        `json:"bytes"`
	LimitBytes  int64        `json:"limit_bytes"`
	Entries     int64        `json:"entries"`
	Waiting     int64        `json:"waiting"` // requests that wait for the answer to another one
	Stored      uint64       `json:"stored"`
	Evicted     uint64       `json:"evicted"`
	Invalidated uint64       `json:"invalidated"`
	Purged      uint64       `json:"purged"`
	Refreshed   uint64       `json:"refreshed"`
	Unrefreshed uint64       `json:"unrefreshed"` // refreshes that failed
	Disk        *CacheDisk   `json:"disk,omitempty"`
	Routes      []CacheRoute `json:"routes"`
}

// CacheDisk is what a cache holds in files.
type CacheDisk struct {
	Bytes      int64  `json:"bytes"`
	LimitBytes int64  `json:"limit_bytes"`
	Entries    int64  `json:"entries"`
	Hits       uint64 `json:"hits"`
	Damaged    uint64 `json:"damaged"`
	Evicted    uint64 `json:"evicted"`
	Dropped    uint64 `json:"dropped"` // not written for want of time or room
	Failed     uint64 `json:"failed"`  // writes
	Down       bool   `json:"down"`    // cannot be written: memory only
}

// CacheRoute is what became of the requests of one route at the cache. Each request is in exactly one of the first seven.
type CacheRoute struct {
	Route       string            `json:"route"`
	Hit         uint64            `json:"hit"`
	Stale       uint64            `json:"stale"`
	Revalidated uint64            `json:"revalidated"`
	Coalesced   uint64            `json:"coalesced"`
	Miss        uint64            `json:"miss"`
	Bypass      uint64            `json:"bypass"`
	Refused     uint64            `json:"refused"`
	StaleWhy    map[string]uint64 `json:"stale_why"`
}

// asked is how many requests there were that a cache may answer.
func (r CacheRoute) asked() uint64 {
	return r.Hit + r.Stale + r.Revalidated + r.Coalesced + r.Miss + r.Refused
}

// Saved is the share of them for which no endpoint had to make an answer.
func (r CacheRoute) Saved() float64 {
	if n := r.asked(); n > 0 {
		return float64(r.Hit+r.Stale+r.Revalidated+r.Coalesced) / float64(n)
	}
	return 0
}

// FallbackLoad is how often the fallback of a route answered, by why.
type FallbackLoad struct {
	Route string            `json:"route"`
	Kind  string            `json:"kind"` // pool, respond or redirect
	Used  map[string]uint64 `json:"used"`
}

// Total is how often it answered.
func (f FallbackLoad) Total() (n uint64) {
	for _, one := range f.Used {
		n += one
	}
	return n
}

// FeatureSwitch is one switch of the site file.
type FeatureSwitch struct {
	Name    string     `json:"name"`
	On      bool       `json:"on"`
	Why     string     `json:"why"`
	Since   time.Time  `json:"since"`
	Until   *time.Time `json:"until,omitempty"`  // somebody's word holds until then; nil: it goes by itself
	By      string     `json:"by,omitempty"`     // whose word
	Pool    string     `json:"pool,omitempty"`   // whose overload turns it on
	Alerts  []string   `json:"alerts,omitempty"` // that turn it on too
	Changes uint64     `json:"changes"`
}

// SwitchMost is how long a switch may be held by hand.
const SwitchMost = 24 * time.Hour

// CheckSwitch says what is wrong with an order to set a switch: on or off for a while, or auto.
func CheckSwitch(set string, length time.Duration) error {
	switch {
	case set != "on" && set != "off" && set != "auto":
		return fmt.Errorf("a switch is set on, off or auto, not %q", set)
	case set == "auto" && length != 0:
		return errors.New("auto takes no time: the switch goes by itself from now on")
	case set == "auto":
		return nil
	case length < time.Second:
		return fmt.Errorf("%s is too short: say for how long, from 1s to 24h", length)
	case length > SwitchMost:
		return fmt.Errorf("%s is too long: allowed is up to 24h; what is needed for longer belongs into the application", length)
	}
	return nil
}

// degradeRoutes serves what this file shows and changes.
func (c *console) degradeRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /api/v1/switches", c.switches)
	mux.HandleFunc("POST /api/v1/switches", c.setSwitch)
	mux.HandleFunc("GET /api/v1/cache", c.cache)
	mux.HandleFunc("POST /api/v1/cache/purge", c.purge)
	for path, allowed := range map[string]string{"/api/v1/switches": "GET, POST", "/api/v1/cache": "GET", "/api/v1/cache/purge": "POST"} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", allowed)
			problem(w, http.StatusMethodNotAllowed, "method_not_allowed", r.URL.Path+" answers "+allowed+" only")
		})
	}
}

// featureSwitches are the switches of a view.
func (v View) featureSwitches() []FeatureSwitch {
	if v.Degrade == nil {
		return []FeatureSwitch{}
	}
	return copied(v.Degrade.Switches)
}

func (c *console) switches(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{"switches": c.now().featureSwitches()})
}

// setSwitch turns a switch on or off for a while, or leaves it to itself. What is asked stands in the query.
func (c *console) setSwitch(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	name, set := q.Get("name"), q.Get("set")
	var length time.Duration
	if text := q.Get("for"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			problem(w, http.StatusBadRequest, "bad_switch", "for is "+strconv.Quote(text)+"; want a time such as 10m, up to 24h")
			return
		}
		length = d
	}
	if err := CheckSwitch(set, length); err != nil {
		problem(w, http.StatusBadRequest, "bad_switch", err.Error())
		return
	}
	if c.deps.SetSwitch == nil {
		problem(w, http.StatusNotImplemented, "not_offered", "this node has no switches")
		return
	}
	var until time.Time
	if set != "auto" {
		until = c.deps.Now().Add(length)
	}
	if err := c.deps.SetSwitch(name, set == "on", until, "hand"); err != nil {
		problem(w, http.StatusNotFound, "unknown_switch", sentence(err))
		return
	}
	c.stale()
	done(w, r, http.StatusOK, map[string]any{"switches": c.now().featureSwitches()})
}

func (c *console) cache(w http.ResponseWriter, _ *http.Request) {
	v := c.now()
	if v.Degrade == nil || v.Degrade.Cache == nil {
		problem(w, http.StatusNotFound, "no_cache", "no route of this node keeps answers; write cache: {} on one")
		return
	}
	answer(w, http.StatusOK, v.Degrade.Cache)
}

// purge removes stored answers: of one route, under URLs that begin with a prefix, or all.
func (c *console) purge(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	route, prefix := q.Get("route"), q.Get("prefix")
	switch {
	case route == "" && prefix == "" && q.Get("all") != "true":
		problem(w, http.StatusBadRequest, "bad_purge", "say what to purge: route, prefix, or all=true")
		return
	case c.deps.Purge == nil:
		problem(w, http.StatusNotImplemented, "not_offered", "this node keeps no answers")
		return
	}
	if route != "" {
		c.stale() // a route may be there since a moment
		if kept := c.now().cached(); !slices.Contains(kept, route) {
			problem(w, http.StatusNotFound, "unknown_route", "no route "+strconv.Quote(route)+" keeps answers; those that do: "+cmp.Or(strings.Join(kept, ", "), "none"))
			return
		}
	}
	n := c.deps.Purge(route, prefix)
	c.stale()
	done(w, r, http.StatusOK, map[string]int{"purged": n})
}

// cached are the routes that keep answers.
func (v View) cached() (names []string) {
	if v.Degrade != nil && v.Degrade.Cache != nil {
		for _, r := range v.Degrade.Cache.Routes {
			names = append(names, r.Route)
		}
	}
	return names
}

// SetSwitch asks a node to set a switch on or off for length, or auto. It returns all switches as they are then.
func (c *Client) SetSwitch(ctx context.Context, name, set string, length time.Duration) ([]FeatureSwitch, error) {
	q := url.Values{"name": {name}, "set": {set}}
	if length > 0 {
		q.Set("for", length.String())
	}
	return c.featureSwitches(ctx, http.MethodPost, "/api/v1/switches?"+q.Encode())
}

// FeatureSwitches asks a node for its switches.
func (c *Client) FeatureSwitches(ctx context.Context) ([]FeatureSwitch, error) {
	return c.featureSwitches(ctx, http.MethodGet, "/api/v1/switches")
}

func (c *Client) featureSwitches(ctx context.Context, method, path string) ([]FeatureSwitch, error) {
	var a struct {
		Switches []FeatureSwitch `json:"switches"`
	}
	err := c.ask(ctx, method, path, &a)
	return a.Switches, err
}

// Cache asks a node what its cache holds.
func (c *Client) Cache(ctx context.Context) (CacheLoad, error) {
	var a CacheLoad
	err := c.ask(ctx, http.MethodGet, "/api/v1/cache", &a)
	return a, err
}

// Purge asks a node to remove stored answers of a route, any for "", under URLs that begin with prefix, and returns how many there were.
func (c *Client) Purge(ctx context.Context, route, prefix string) (int, error) {
	q := url.Values{"route": {route}, "prefix": {prefix}}
	if route == "" && prefix == "" {
		q = url.Values{"all": {"true"}}
	}
	var a struct {
		Purged int `json:"purged"`
	}
	err := c.ask(ctx, http.MethodPost, "/api/v1/cache/purge?"+q.Encode(), &a)
	return a.Purged, err
}

// switchPath is the route of a button of the page.
func switchPath(name, set string) string {
	path := "/api/v1/switches?name=" + url.QueryEscape(name) + "&set=" + set
	if set != "auto" {
		path += "&for=10m"
	}
	return path
}

// ask asks for JSON.
func (c *Client) ask(ctx context.Context, method, path string, to any) error {
	body, err := c.do(ctx, method, path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, to); err != nil {
		return fmt.Errorf("what answers at %s does not speak like evenkeel: %w", c.shown, err)
	}
	return nil
}

// CacheText is what a cache holds, for a terminal.
func CacheText(c CacheLoad) string {
	var b strings.Builder
	answers, wide := "1 answer", len("route")
	if c.Entries != 1 {
		answers = countText(uint64(max(c.Entries, 0))) + " answers"
	}
	for _, r := range c.Routes {
		wide = max(wide, len(r.Route))
	}
	fmt.Fprintf(&b, "%s of %s in %s; %s stored, %s evicted, %s invalidated, %s purged since the start\n", bytesText(uint64(max(c.Bytes, 0))), bytesText(uint64(max(c.LimitBytes, 0))),
		answers, countText(c.Stored), countText(c.Evicted), countText(c.Invalidated), countText(c.Purged))
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "%-*s\thit\tstale\trevalidated\tcoalesced\tmiss\tbypass\trefused\tsaved\t\n", wide, "route")
	for _, r := range c.Routes {
		fmt.Fprintf(w, "%-*s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", wide, r.Route, countText(r.Hit), countText(r.Stale), countText(r.Revalidated), countText(r.Coalesced), countText(r.Miss),
			countText(r.Bypass), countText(r.Refused), percentText(r.Saved()))
	}
	_ = w.Flush() // a Builder takes everything
	return b.String()
}

// Package screen looks at requests for attacks: own rules first, then cheap checks, then the OWASP Core Rule Set behind a bulkhead of its own.
package screen

import (
	"cmp"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/admit/key"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

// Deps is what a Screen needs of its surroundings.
type Deps struct {
	// Peek gives up to n bytes of the request body without taking them from the endpoint. An error that is a *exchange.Refusal is the
	// answer; any other means that the client is gone. nil: bodies are not looked at.
	Peek func(x *exchange.Exchange, n int) (body []byte, whole bool, err error)
	// Overloaded reports whether the pool of x has more work than it can do: low and standard requests then pass
	// unscreened, except on routes marked always. nil: never.
	Overloaded func(x *exchange.Exchange) bool
	BodyMemory int64             // bytes that all long bodies which are looked at may hold at once. 0: no bound
	Event      func(text string) // what people should see; called at most once in ten seconds. nil: nobody looks
	Log        *slog.Logger      // nil: slog.Default()
	Now        func() time.Time  // nil: time.Now
	Rand       func() float64    // in [0,1), for samples. nil: math/rand/v2
}

// Screen is what outlives reloads: counters, windows, the bulkhead and the rule sets that were built. Its methods may be called by
// any goroutine.
type Screen struct {
	deps  Deps
	place place
	count counters
	log   reporter
	held  atomic.Int64 // bytes of long bodies

	mu      sync.Mutex // guards what follows; never taken on the way of a request
	engines map[setup]*engine
	windows map[string]*counted
	hits    map[string]*atomic.Uint64 // of own rules
	mode    string
}

// New makes a Screen. It builds no rule set and starts nothing.
func New(deps Deps) *Screen {
	if deps.Log == nil {
		deps.Log = slog.Default()
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Rand == nil {
		deps.Rand = rand.Float64
	}
	s := &Screen{deps: deps, engines: map[setup]*engine{}, windows: map[string]*counted{}, hits: map[string]*atomic.Uint64{}, mode: site.ModeOff}
	s.count.hits = map[string]uint64{}
	s.log.init(deps)
	return s
}

// Prepare builds what cfg needs and is not there yet: a rule set takes a quarter of a second and some 30 MB, so it is built once
// for each combination of settings, before the site is in force, and only when a route asks for it. An error says
// what is wrong with exclude or with a file of directives; nothing is changed then.
func (s *Screen) Prepare(cfg *site.Site) error {
	if s == nil {
		return nil
	}
	built := false
	for _, c := range wanted(cfg) {
		for _, word := range c.Exclude {
			if _, err := parseExclusion(word); err != nil {
				return err
			}
		}
		key := setupOf(c, &cfg.Screening)
		s.mu.Lock()
		have := s.engines[key] != nil
		s.mu.Unlock()
		if have {
			continue
		}
		e, err := newEngine(key)
		if err != nil {
			return err
		}
		if e.took > slowBuild {
			s.deps.Log.Warn("the rule set took long to build", "took", e.took.Round(time.Millisecond), "rules", e.rules)
		}
		s.mu.Lock()
		s.engines[key] = e
		s.mu.Unlock()
		built = true
	}
	if built { // building left some 40 MB of garbage, which a node that serves little would keep for minutes
		debug.FreeOSMemory()
	}
	return nil
}

// slowBuild is from when the time to build a rule set is worth a warning: a reload waits for it.
const slowBuild = 2 * time.Second

// wanted are the settings of cfg that ask for a rule set.
func wanted(cfg *site.Site) (out []*site.Screen) {
	for _, r := range cfg.Routes {
		if c := settings(cfg, r); c.Mode != site.ModeOff && c.Mode != "" && c.Sample > 0 {
			out = append(out, c)
		}
	}
	return out
}

// settings are those of one route.
func settings(cfg *site.Site, r *site.Route) *site.Screen {
	switch {
	case r.Pool == "":
		return &site.Screen{Mode: site.ModeOff}
	case r.Screen != nil:
		return r.Screen
	}
	return &cfg.Screening.Default
}

// Keep forgets rule sets and windows that cfg does not need. Call it once cfg is in force.
func (s *Screen) Keep(cfg *site.Site) {
	if s == nil {
		return
	}
	need, names := map[setup]bool{}, map[string]bool{}
	for _, c := range wanted(cfg) {
		need[setupOf(c, &cfg.Screening)] = true
	}
	for _, r := range cfg.Rules {
		names[r.Name] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, e := range s.engines {
		if !need[key] {
			delete(s.engines, key)
			e.close()
		}
	}
	for name := range s.windows {
		if !names[name] {
			delete(s.windows, name)
		}
	}
	for name := range s.hits {
		if !names[name] {
			delete(s.hits, name)
		}
	}
}

// Stage makes the stage of a site that was prepared; nil when s is nil, or the site has neither rules nor a route that is screened.
func (s *Screen) Stage(cfg *site.Site) exchange.Stage {
	if s == nil {
		return nil
	}
	t := &stage{s: s, wait: cfg.Screening.Wait, logs: cfg.Screening.Log}
	any := len(cfg.Rules) > 0
	mode := site.ModeOff
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range cfg.Routes {
		c := settings(cfg, r)
		one := route{mode: modeOf(c.Mode), sample: float64(c.Sample), always: c.Always, body: int(c.BodyBytes)}
		if one.mode != off {
			any = true
			one.engine = s.engines[setupOf(c, &cfg.Screening)]
			if c.CheapChecks {
				one.cheap = newCheap(c)
			}
			if mode != site.ModeBlock {
				mode = c.Mode
			}
		}
		t.routes = append(t.routes, one)
	}
	for _, r := range cfg.Rules {
		t.rules = append(t.rules, newRule(r, s.window(r, cmp.Or(cfg.Identify.IPv6Prefix, 64)), s.hitsOf(r.Name)))
	}
	s.mode = mode
	places := cfg.Screening.Concurrency
	if places <= 0 {
		places = runtime.GOMAXPROCS(0)
	}
	s.place.resize(places)
	if !any {
		return nil
	}
	return t
}

// counted is what a rule with action limit counts, and by what: keys of another maker would be others.
type counted struct {
	*window
	by    *key.Maker
	words []string // of by
	ipv6  int
}

// window finds or makes the counters of a rule. A rule whose window changed, or what it counts by, begins anew. s.mu is held.
func (s *Screen) window(r *site.Rule, ipv6 int) *counted {
	if r.Action != actionLimit {
		return nil
	}
	w, words := s.windows[r.Name], wordsOf(r)
	if w == nil || w.length != r.Window || w.ipv6 != ipv6 || !slices.Equal(w.words, words) {
		w = &counted{newWindow(r.Window), key.New(words, ipv6), words, ipv6}
		s.windows[r.Name] = w
	}
	return w
}

// hitsOf finds or makes the counter of an own rule. s.mu is held.
func (s *Screen) hitsOf(name string) *atomic.Uint64 {
	if s.hits[name] == nil {
		s.hits[name] = new(atomic.Uint64)
	}
	return s.hits[name]
}

type mode uint8

const (
	off mode = iota
	detect
	block
)

func modeOf(word string) mode {
	switch word {
	case site.ModeDetect:
		return detect
	case site.ModeBlock:
		return block
	}
	return off
}

// route is how one route is screened.
type route struct {
	mode   mode
	cheap  *cheap  // nil: no cheap checks
	engine *engine // nil: the rule set looks at nothing
	sample float64
	always bool
	body   int // bytes of the body that are looked at
}

// Refusals of a screen. Those of rules are made with their rule.
var (
	refuseAttack    = &exchange.Refusal{Stage: "screen", Reason: "attack", Status: 403, Detail: "The request looks like an attack and was not passed on."}
	refuseMalformed = &exchange.Refusal{Stage: "screen", Reason: "malformed", Status: 403, Detail: "The request is of a form that no proper client sends."}
	refuseNoPlace   = &exchange.Refusal{Stage: "screen", Reason: "no_place", Status: 503, RetryAfter: time.Second,
		Detail: "The request could not be checked in time.", Problem: exchange.ProblemReduced}
)

// stage screens the requests of one site. It is never changed.
type stage struct {
	s      *Screen
	rules  []*rule
	routes []route // by exchange.Route.Index
	wait   time.Duration
	logs   bool
}

// Serve implements exchange.Stage.
func (t *stage) Serve(x *exchange.Exchange, next *exchange.Next) *exchange.Refusal {
	var held int64
	defer func() { // what was looked at stays in memory as long as the exchange
		if held > 0 {
			t.s.held.Add(-held)
		}
	}()
	if refusal, over := t.look(x, &held); over {
		return refusal
	}
	return next.Do(x)
}

// look decides about x. over: it goes no further, with a refusal or because the client is gone. held is told what the body of x takes of BodyMemory. It is
// not inlined, so that its work is not on the stack of an exchange that waits.
//
//go:noinline
func (t *stage) look(x *exchange.Exchange, held *int64) (refusal *exchange.Refusal, over bool) {
	for _, r := range t.rules {
		refusal, done := r.apply(x, t.s.deps.Now)
		if refusal != nil {
			return refusal, true
		}
		if done {
			x.Screened = true
			return nil, false
		}
	}
	if x.Route == nil || x.Route.Index >= len(t.routes) {
		return nil, false
	}
	to := &t.routes[x.Route.Index]
	if to.mode == off {
		return nil, false
	}
	if to.cheap != nil {
		if f := to.cheap.check(x); f != nil {
			t.s.count.cheap(f)
			t.report(x, to, f.found)
			if to.mode == block {
				t.s.count.blocked.Add(1)
				return f.refusal, true
			}
		}
	}
	return t.deep(x, to, held)
}

// deep has the rule set look at x, when it is the turn of x and there is a place.
func (t *stage) deep(x *exchange.Exchange, to *route, held *int64) (refusal *exchange.Refusal, over bool) {
	s := t.s
	switch {
	case to.engine == nil:
		return nil, false
	case to.sample < 1 && s.deps.Rand() >= to.sample:
		s.count.unsampled.Add(1)
		return nil, false
	case !to.always && x.Class != exchange.Critical && s.deps.Overloaded != nil && s.deps.Overloaded(x):
		s.count.passed.Add(1)
		return nil, false
	}
	// The body comes first: who sends it slowly must not hold a place meanwhile.
	body, whole := []byte(nil), true
	if to.body > 0 && s.deps.Peek != nil && hasBody(x) {
		if *held = long(x, to.body); !s.reserve(*held) {
			*held = 0
			return t.unscreened(to)
		}
		var err error
		body, whole, err = s.deps.Peek(x, to.body)
		if err != nil {
			refusal, _ := err.(*exchange.Refusal)
			return refusal, true
		}
	}
	wait := t.wait
	if !x.Deadline.IsZero() {
		wait = min(wait, x.Deadline.Sub(s.deps.Now()))
	}
	ok, waited := s.place.take(x.Class == exchange.Critical, wait)
	if waited {
		s.count.waited.Add(1)
	}
	if !ok {
		return t.unscreened(to)
	}
	v, failed := to.engine.run(x, body, whole)
	s.place.free()
	if failed {
		s.count.failed.Add(1)
		s.deps.Log.Error("the rule set failed on a request", "route", x.Route.Name)
		return t.unscreened(to)
	}
	s.count.screened.Add(1)
	if !v.attack {
		return nil, false
	}
	s.count.attacks.Add(1)
	s.count.hit(v.rules[:v.n])
	t.report(x, to, v.rules[:v.n])
	if to.mode != block {
		return nil, false
	}
	s.count.blocked.Add(1)
	return refuseAttack, true
}

// A body of up to shortBody is held in the buffer that each request has anyway; longer ones are lent one of longBody, or more.
const (
	shortBody = 16 << 10
	longBody  = 128 << 10
)

// long is how many bytes the body of x holds when the first n are looked at, 0 for a short one.
func long(x *exchange.Exchange, n int) int64 {
	most := int64(n)
	if told := x.Request.ContentLength; told >= 0 {
		most = min(most, told)
	}
	if most <= shortBody {
		return 0
	}
	return max(most, longBody)
}

// reserve takes room for a long body. Without a bound, a thousand clients that send a MiB each and then no more took a GiB
// before the guard, which sees what is used, could refuse one of them.
func (s *Screen) reserve(bytes int64) bool {
	if most := s.deps.BodyMemory; bytes > 0 && s.held.Add(bytes) > most && most > 0 {
		s.held.Add(-bytes)
		return false
	}
	return true
}

// unscreened is what becomes of a request that could not be looked at.
func (t *stage) unscreened(to *route) (*exchange.Refusal, bool) {
	if to.always {
		t.s.count.noPlace.Add(1)
		return refuseNoPlace, true
	}
	t.s.count.passed.Add(1)
	return nil, false
}

// unread are the beginnings of types whose bodies rules could not read, or whose clients may wait for an answer before they send on: a
// gRPC stream would stand still.
var unread = []string{"application/grpc", "application/connect+", "application/octet-stream", "image/", "audio/", "video/"}

// hasBody reports whether a body may follow the head of x that is worth looking at.
func hasBody(x *exchange.Exchange) bool {
	r := x.Request
	if r.ContentLength == 0 || r.ContentLength < 0 && !r.Chunked && (x.Protocol != exchange.HTTP2 || x.Replayable && string(r.Method) == "GET") {
		return false
	}
	kind, _ := wire.FieldNamed(r.Fields, "Content-Type")
	return !slices.ContainsFunc(unread, func(u string) bool { return len(kind) >= len(u) && wire.EqualFold(kind[:len(u)], u) })
}

func (t *stage) report(x *exchange.Exchange, to *route, found []string) {
	t.s.log.attack(t.s.deps.Now(), x, to.mode, found, t.logs)
}

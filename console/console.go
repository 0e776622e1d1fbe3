// Package console shows a running node to people and programs: the web page, the JSON API, the terminal view, and the client the commands use.
package console

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/even-keel/evenkeel/console/login"
	"github.com/even-keel/evenkeel/site"
)

// Deps is what the node gives to the console. Nil functions are allowed: what they would serve answers 404 or 501.
type Deps struct {
	// View takes a fresh copy of the node's status. It is called at most ten times a second, by any goroutine.
	View func() View
	// SetEndpoint sets what people want of an endpoint: AdminUp, AdminDown or AdminDrain. The console has checked that the View knows both names.
	SetEndpoint func(pool, address, state string) error
	// Shed refuses low requests, or standard and low ones, of a pool until a moment, of all pools when pool is ""; a zero until brings
	// them back. The console has checked class and pool.
	Shed func(pool, class string, until time.Time) error
	// SetSwitch turns a switch of the site on or off until a moment; a zero until leaves it to itself. An error means that there is none of that name.
	SetSwitch func(name string, on bool, until time.Time, by string) error
	// Purge removes stored answers of a route, any for "", under URLs that begin with prefix, and says how many there were.
	Purge func(route, prefix string) int
	// Break holds the breaker of a pool, or of its endpoint when that is not "", BreakerOpen or BreakerClosed until a moment; BreakerAuto leaves
	// it to itself. The console has checked that the View knows both names.
	Break func(pool, endpoint, state string, until time.Time) error
	// Curves is the past of the node and its pools after a moment, the node first.
	Curves func(since time.Time) []Series
	// Reload reads the site file again. Its error is shown to the caller; it means that nothing changed.
	Reload func() error
	// Drain starts the orderly stop of the node and returns at once.
	Drain   func()
	Metrics http.Handler
	// Prometheus answers the part of Prometheus' API that lies below /prometheus/.
	Prometheus http.Handler
	// Monitor is what keeps the history, as data for JSON.
	Monitor func() any
	// Explain says which limits and quotas a request like the asked one meets, and changes nothing. An error means that the
	// question makes no sense.
	Explain func(q Question) (Explanation, error)
	// Objectives is what the service promised, and how much of it was kept; nil: nothing.
	Objectives func() Objectives
	// Alerts is what needs a person; Silence keeps alerts from being told, EndSilence ends that, TestAlert sends a sample of an alert.
	Alerts     func() Alerts
	Silence    func(o SilenceOrder) (Silence, error)
	EndSilence func(id string) error
	TestAlert  func(name string) error
	// Ask answers a question in PromQL from the history; nil: this node keeps none, and pages show no past.
	Ask func(ctx context.Context, q Asked) (Answered, error)
	// Marks is what charts mark between two moments, in any order; nil: nothing.
	Marks func(from, to time.Time) []Mark
	// Config is the site in force, its text only when that is asked for, and what was changed in it; nil: it is not shown.
	Config func(text bool) Config
	// History is what is remembered of events and requests.
	History History
	// Ready says whether the node should get traffic, and else why not.
	Ready func() (ok bool, why string)

	// Door says who may come in. While it asks nobody, only requests that name a loopback address or Listen as their host are served,
	// unless ClientCerts is set. Sessions live in it, so it outlives the handler. nil: one that knows Token alone.
	Door *login.Door
	// Token is what callers must show as a bearer token when Door is nil; empty: none is asked for.
	Token string
	// Audit takes what people do; nil: nobody does. Actions are the last of them, the newest first.
	Audit   Recorder
	Actions func() []Action
	// ClientCerts says that callers must have shown a verified client certificate. The TLS set-up of the
	// admin listener enforces it; the console looks again, so that a slip there opens nothing.
	ClientCerts bool
	// Listen is the admin listener's address as in the site file.
	Listen string
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Limits of the admin listener. They are constants because only the node's own people call it.
const (
	bodyLimit     = 64 << 10               // bytes of a request body: the login form is the largest
	watcherLimit  = 32                     // streams at once: a team with a wall screen, not a crowd
	viewLife      = 100 * time.Millisecond // a View serves all who ask within this, so that polling costs the node ten views a second at most
	streamEvery   = time.Second            // between two views on a stream
	streamWrite   = 10 * time.Second       // a watcher that takes nothing for this long is let go
	headerTimeout = 5 * time.Second
	readTimeout   = 15 * time.Second
	writeTimeout  = 60 * time.Second // a reload of a large site, a profile of all metrics
	idleTimeout   = 90 * time.Second
	headerBytes   = 16 << 10
)

// console is the handler behind New.
type console struct {
	deps    Deps
	pages   pages
	table   []page
	mux     *http.ServeMux
	answers *answers
	origin  *http.CrossOriginProtection
	*moment
}

// moment is what readers and operators share.
type moment struct {
	mu       sync.Mutex // guards the rest
	view     View
	taken    time.Time
	watchers int
	denials  time.Time // when refused sign-ins are recorded one by one again
	runs     bool      // load runs are kept
	runsSeen time.Time // when that was looked at
}

// New makes the handler of the admin listener. It starts nothing; streams run on the goroutines of their requests.
func New(deps Deps) http.Handler {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Door == nil {
		deps.Door = login.New(deps.Now)
		deps.Door.Use(site.Admin{Token: site.Secret(deps.Token), Session: sessionLife})
	}
	c := &console{deps: deps, pages: newPages(true), origin: http.NewCrossOriginProtection(), answers: new(answers), moment: new(moment)}
	reader := *c
	reader.deps, reader.pages = deps.readOnly(), newPages(false)
	return c.guard(c.routes(), reader.routes())
}

// routes is who answers what, for those who may change things or for those who may only look.
func (c *console) routes() http.Handler {
	mux := http.NewServeMux()
	c.mux, c.table = mux, c.pageTable()
	serve := func(method, path string, h http.HandlerFunc) {
		mux.HandleFunc(method+" "+path, h)
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", method)
			problem(w, http.StatusMethodNotAllowed, "method_not_allowed", r.URL.Path+" answers "+method+" only")
		})
	}
	c.pageRoutes(serve)
	serve("GET", "/assets/{file}", c.asset)
	serve("GET", "/api/v1/status", c.status)
	serve("GET", "/api/v1/listeners", c.listeners)
	serve("GET", "/api/v1/pools", c.pools)
	serve("GET", "/api/v1/pools/{pool}", c.pool)
	serve("GET", "/api/v1/routes", c.listRoutes)
	serve("GET", "/api/v1/limits/explain", c.explain)
	serve("GET", "/api/v1/overload", c.overload)
	serve("GET", "/api/v1/objectives", c.objectives)
	serve("GET", "/api/v1/dependencies", c.dependenciesTwin)
	serve("GET", "/api/v1/limits", c.limitsTwin)
	serve("GET", "/api/v1/checks", c.checksTwin)
	serve("GET", "/api/v1/zones", c.zonesTwin)
	serve("GET", "/api/v1/config", c.configTwin)
	serve("GET", "/api/v1/graph", c.graphTwin)
	serve("GET", "/api/v1/load", c.runsTwin)
	c.alertRoutes(serve)
	c.alertmanagerRoutes(mux, serve)
	c.historyRoutes(mux, serve)
	c.shedRoutes(mux)
	c.degradeRoutes(mux)
	c.monitorRoutes(mux, serve)
	c.breakerRoutes(mux)
	serve("GET", "/api/v1/stream", c.streamViews)
	serve("POST", "/api/v1/pools/{pool}/endpoints/{address}/{state}", c.setEndpoint)
	serve("POST", "/api/v1/reload", c.reload)
	serve("POST", "/api/v1/drain", c.drain)
	serve("GET", "/metrics", c.metrics)
	serve("GET", "/healthz", c.healthz)
	serve("GET", "/readyz", c.readyz)
	c.doorRoutes(mux, serve)
	c.accessRoutes(serve)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		problem(w, http.StatusNotFound, "not_found", "there is nothing at "+r.URL.Path)
	})
	return mux
}

// shedRoutes serves the one path that answers two methods.
func (c *console) shedRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /api/v1/shed", c.shedStatus)
	mux.HandleFunc("POST /api/v1/shed", c.shed)
	mux.HandleFunc("/api/v1/shed", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", "GET, POST")
		problem(w, http.StatusMethodNotAllowed, "method_not_allowed", r.URL.Path+" answers GET and POST only")
	})
}

// Server is an http.Server for New's handler with the timeouts an admin listener needs. Shutdown ends open streams at once.
func Server(h http.Handler) *http.Server {
	ctx, cancel := context.WithCancel(context.Background())
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    headerBytes,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	s.RegisterOnShutdown(cancel)
	return s
}

// now takes the view, or the one that was just taken.
func (c *console) now() View {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.deps.Now()
	if d := at.Sub(c.taken); c.taken.IsZero() || d < 0 || d >= viewLife {
		var v View
		if c.deps.View != nil {
			v = c.deps.View()
		}
		c.view, c.taken = v.settle(at), at
	}
	return c.view
}

// stale makes the next view a fresh one: after a change the caller wants to see it.
func (c *console) stale() {
	c.mu.Lock()
	c.taken = time.Time{}
	c.mu.Unlock()
}

var (
	errSentence = errors.New("no reason given")
	errGone     = errors.New("what the page is about is not there any more")
)

// sentence is an error as people read it.
func sentence(err error) string {
	if err == nil || strings.TrimSpace(err.Error()) == "" {
		err = errSentence
	}
	return err.Error()
}

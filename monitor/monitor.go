// Package monitor remembers what a node counts: it scrapes the node, its endpoints and its machine into an embedded Prometheus store, answers PromQL, and takes and sends samples by remote write.
package monitor

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"

	"github.com/even-keel/evenkeel/site"
)

// Gatherer is what is scraped of the node itself, without HTTP between. It is a *prometheus.Registry.
type Gatherer interface {
	Gather() ([]*dto.MetricFamily, error)
}

// Rules is who evaluates rules and alerts. Without one the API shows none.
type Rules interface {
	RuleGroups() []RuleGroup
}

// Endpoint is one address whose own metrics are kept.
type Endpoint struct {
	Pool    string       // its job
	Address string       // its instance
	URL     string       // that is asked
	Client  *http.Client // that asks
	Timeout time.Duration
	Samples int // more in one answer are not kept
}

// Deps is what the node gives to its monitor.
type Deps struct {
	Dir       string            // of the store; empty: a temporary one, whose history ends with the process
	Instance  string            // value of the label instance of own samples
	Version   string            // of the program, for the API
	Self      Gatherer          // required
	Endpoints func() []Endpoint // that are scraped now; nil: none
	Rules     Rules             // nil: there are none
	Pressed   func() bool       // reports that the node is short of memory: rounds are left out; nil: never
	Event     func(kind, text string)
	Log       *slog.Logger
	Proc      string           // of the machine's figures; empty: /proc
	Temp      string           // where temporary stores are made; empty: the system's place
	Now       func() time.Time // nil: time.Now
}

// Monitor is the node's memory for figures. Its methods may be called by any goroutine, Run once.
type Monitor struct {
	deps   Deps
	counts counts
	own    own
	engine *engine
	cfg    atomic.Pointer[site.Monitor]
	change chan struct{} // has one place: the settings are other ones than those that run

	mu      sync.Mutex // guards what follows
	current *session   // nil: not running, or off
	state   string
	why     string
	aside   []string // what was set aside since the start, newest last
}

// counts are what Status shows. They outlive sessions.
type counts struct {
	samples, rounds, late, failed                   atomic.Uint64
	overBudget, pressed, invalid, unstored, refused atomic.Uint64
	received, receivedBad                           atomic.Uint64
	queries, queryErrors, queriesTurnedAway         atomic.Uint64
	roundNanos                                      atomic.Int64
	full                                            atomic.Bool // the last commit failed
}

// The states of a monitor.
const (
	StateOff      = "off"      // nothing is kept
	StateStarting = "starting" // the store is being opened, or another process has it
	StateRunning  = "running"
	StateExternal = "external" // an existing Prometheus is asked
	StateFailed   = "failed"   // the store cannot be opened; it is tried again
)

var (
	errOff      = errors.New("this node keeps no history: monitor.off is set in its site file")
	errStarting = errors.New("the store of this node is not open yet")
)

// New makes a monitor. It opens nothing and starts nothing.
func New(cfg *site.Monitor, deps Deps) *Monitor {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.Event == nil {
		deps.Event = func(string, string) {}
	}
	if deps.Proc == "" {
		deps.Proc = "/proc"
	}
	m := &Monitor{deps: deps, change: make(chan struct{}, 1), state: StateStarting}
	m.own = own{instance: deps.Instance, names: map[string]bool{model.MetricNameLabel: true, model.JobLabel: true, model.InstanceLabel: true}}
	m.engine = newEngine(m)
	m.cfg.Store(cfg)
	return m
}

// Update changes the settings. The store is closed and opened anew when they differ, which takes moments.
func (m *Monitor) Update(cfg *site.Monitor) {
	if reflect.DeepEqual(m.cfg.Swap(cfg), cfg) {
		return
	}
	m.again()
}

// again lets a new session begin.
func (m *Monitor) again() {
	select {
	case m.change <- struct{}{}:
	default:
	}
}

// Run keeps figures until ctx ends. It never returns an error: what keeps the monitor from working is shown by Status and
// tried again, and the node serves on.
func (m *Monitor) Run(ctx context.Context) error {
	place := &place{m: m}
	defer place.remove()
	for ctx.Err() == nil {
		cfg := m.cfg.Load()
		inner, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() {
			defer cancel()
			select {
			case <-m.change:
			case <-inner.Done():
			}
		})
		m.session(inner, cfg, place)
		cancel()
		wg.Wait()
	}
	m.say(StateOff, "the node has stopped")
	return nil
}

// session works by one version of the settings until ctx ends.
func (m *Monitor) session(ctx context.Context, cfg *site.Monitor, place *place) {
	if cfg.Off || cfg.ScrapeEvery <= 0 { // a site that was made without its defaults has no pace
		m.say(StateOff, "")
		<-ctx.Done()
		return
	}
	s, err := newSession(m, cfg)
	if err == nil && cfg.Prometheus == nil {
		if s.store, err = m.openStore(ctx, cfg, place); err == nil {
			s.q = s.store.db
		}
	}
	if err != nil {
		if ctx.Err() == nil {
			m.say(StateFailed, err.Error())
			m.deps.Log.Error("history is not kept", "err", err)
			<-ctx.Done()
		}
		return
	}
	m.use(s)
	s.run(ctx)
	m.use(nil)
	s.end() // queries that read its files must not outlive them
	s.users.Wait()
	if err := s.store.close(); err != nil {
		m.deps.Log.Error("the store was not closed in order; what is missing is read from its log", "err", err)
	}
}

// use makes s the session that answers.
func (m *Monitor) use(s *session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.current = s
	switch {
	case s == nil:
		m.state, m.why = StateStarting, ""
	case s.store == nil:
		m.state, m.why = StateExternal, ""
	default:
		m.state, m.why = StateRunning, ""
	}
}

// hold is the session that answers, or why there is none. It stays open until release is called; what takes the context ends when
// the session has to.
func (m *Monitor) hold(ctx context.Context) (s *session, inner context.Context, release func(), err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.current != nil:
	case m.state == StateOff:
		return nil, ctx, nil, errOff
	case m.why != "":
		return nil, ctx, nil, errors.New("history is not kept: " + m.why)
	default:
		return nil, ctx, nil, errStarting
	}
	s = m.current
	s.users.Add(1)
	inner, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.over, cancel)
	return s, inner, func() {
		stop()
		cancel()
		s.users.Done()
	}, nil
}

func (m *Monitor) say(state, why string) {
	m.mu.Lock()
	m.state, m.why = state, why
	m.mu.Unlock()
}

// setAside remembers that something damaged was put away, and tells people.
func (m *Monitor) setAside(text string) {
	m.mu.Lock()
	m.aside = append(m.aside, text)
	m.mu.Unlock()
	m.deps.Log.Warn(text)
	m.deps.Event("monitor", text)
}

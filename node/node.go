// Package node is one running evenkeel: it builds all parts from a site, runs them, reloads them and stops them, in order.
package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/admit/facts"
	"github.com/even-keel/evenkeel/admit/limit"
	"github.com/even-keel/evenkeel/admit/quota"
	"github.com/even-keel/evenkeel/admit/screen"
	"github.com/even-keel/evenkeel/admit/shed"
	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/console/login"
	"github.com/even-keel/evenkeel/contain/cache"
	"github.com/even-keel/evenkeel/contain/degrade"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/monitor"
	"github.com/even-keel/evenkeel/monitor/azure"
	"github.com/even-keel/evenkeel/monitor/journal"
	"github.com/even-keel/evenkeel/monitor/otlp"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/trace"
)

// Waits of the node. What may take longer is named by the site file.
const (
	maxFirstVerdicts = 10 * time.Second       // start and reload go on without the verdicts of probes after this
	readyTick        = 5 * time.Millisecond   // how often a starting pool is asked for its verdicts
	watchEvery       = 2 * time.Second        // how often site files are looked at
	partStop         = 5 * time.Second        // what a part may take to end once nothing needs it any more
	idleTick         = 50 * time.Millisecond  // how often a removed pool is asked for what it has in flight
	restGrace        = 100 * time.Millisecond // connections that a drain left may send their last bytes in this
)

// Options is what a node is built of.
type Options struct {
	Site    *site.Site                 // required
	Load    func() (*site.Site, error) // reads the site again; nil: there is no file, reload is refused
	Version string
	Log     *slog.Logger // nil: slog.Default()
	Sockets *Sockets     // from a predecessor or systemd; nil: none. The node closes them.
	Ready   func()       // called once, when every listener serves; nil allowed
	Collect func(int)    // sets by how many percent the heap may grow between collections; nil: the node leaves that alone. Tune returns it
}

// Node is one running evenkeel. Its methods may be called by any goroutine, Run once.
type Node struct {
	opts    Options
	log     *slog.Logger
	started time.Time

	front      frontPart
	newPool    func(cfg *site.Pool) (poolPart, error)
	prober     func(ctx context.Context) error
	send       exchange.Handler
	answer     answerer
	facts      *facts.Store
	guard      *selfGuard
	screen     *screen.Screen
	cache      *cache.Cache
	knobs      *degrade.Set
	fellBack   fallbackTallies
	tallies    *tallies
	rates      rates
	curves     curves
	switches   switches
	would      map[string]uint64 // what dry runs of pools' shedders would have refused; only the sampler looks
	hull       hull
	sampled    int // how often the sampler read counters; only it looks
	events     events
	promised   *objectives
	alerting   *alerting
	tasks      *tasks
	admin      *admin
	door       *login.Door // who may come to it
	ledger     ledger
	metrics    *metrics
	monitor    *monitor.Monitor
	records    *journal.Store
	keeps      *sampler // which requests it keeps
	otlp       *otlp.Exporter
	telling    atomic.Pointer[telling] // nil inside: requests are told to no collector
	toldEvents atomic.Bool             // events are told to a collector
	stopping   chan struct{}           // closed by Stop
	abort      chan struct{}           // closed by Abort
	stopOnce   sync.Once
	cutOnce    sync.Once

	monitorTask *task
	recordsTask *task
	sender      atomic.Pointer[azure.Sender] // nil inside: events are sent nowhere
	senderCfg   *site.AzureLogs              // of sender, guarded by reloading as senderTask is
	senderTask  *task
	handed      atomic.Bool // a successor serves

	accessLog  atomic.Pointer[accessLog]
	logDropped atomic.Uint64

	reloading sync.Mutex // one reload or upgrade at a time; guards logTask, and what stages are built with
	logTask   *task
	finder    *facts.Finder
	sampler   *trace.Sampler // nil: nothing is traced
	limits    *limit.Set
	quotas    *quota.Set
	built     map[string]*stages
	cacheRuns bool        // since the first site that keeps answers
	book      *quota.Book // what quotas have counted

	held atomic.Int64 // bytes of bodies that are kept for repeats

	mu         sync.Mutex // guards what follows; never taken on the way of a request
	site       *site.Site
	limited    *limit.Set     // limits, in force
	sampling   *trace.Sampler // in force; nil: nothing is traced
	revision   string
	changed    siteChanges
	pools      map[string]*runningPool
	chains     map[string]*stages        // in force, by listener
	counted    *quota.Set                // quotas, in force
	retried    map[string]*retries       // by pool
	hedges     map[string]*hedging       // by route
	cut        map[string]*atomic.Uint64 // by route
	flights    map[string]*flight
	gates      map[string]*shed.Gate
	breakers   map[string]*poolBreaker
	lastReload *console.Reload
	reloads    [2]uint64 // failed, done
	phase      phase
}

// phase is how far the node's life is.
type phase uint8

const (
	phaseNew phase = iota
	phaseServing
	phaseDraining
)

var (
	errNoFile     = errors.New("this node runs without a site file: there is nothing to read again")
	errNotServing = errors.New("the node is not serving yet, or is stopping")
)

// New builds a node. It opens no socket and starts no goroutine.
func New(opts Options) (*Node, error) {
	if opts.Site == nil {
		return nil, errors.New("a node needs a site")
	}
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	if opts.Sockets == nil {
		opts.Sockets = &Sockets{}
	}
	n := &Node{
		opts: opts, log: opts.Log, started: time.Now(),
		tallies: newTallies(), tasks: newTasks(), would: map[string]uint64{},
		guard:    newGuard(limitInFlight(memoryLimit())),
		facts:    facts.NewStore(opts.Log),
		stopping: make(chan struct{}), abort: make(chan struct{}),
		site: opts.Site, revision: revision(opts.Site),
		pools: map[string]*runningPool{}, flights: map[string]*flight{},
	}
	n.records = n.newRecords(opts.Site)
	n.events.keep, n.keeps = n.keepEvent, &sampler{store: n.records}
	n.keeps.step(&opts.Site.Events.Requests, 0, 0)
	n.log = slog.New(&tracer{Handler: opts.Log.Handler(), keep: n.records.Trace})
	n.guard.event, n.guard.senses = n.event, newSenses("/proc", "/sys/fs/cgroup")
	n.guard.update(opts.Site.Guard)
	n.book = n.newBook(opts.Site)
	n.knobs = degrade.New(func(text string) { n.event("switch", text) })
	n.knobs.Update(opts.Site.Switches, n.started)
	n.promised, n.alerting = n.newObjectives(opts.Site), newAlerting(opts.Site)
	n.wire()
	n.metrics = newMetrics(n, false)
	n.monitor = n.newMonitor(opts.Site)
	n.otlp = n.newOTLP(opts.Site)
	n.events.tell = n.tellEvent
	return n, nil
}

// Run serves until ctx ends or Stop is called, then stops in order. It returns when the last goroutine has ended:
// nil after an orderly stop, else what made the node stop or kept it from starting.
func (n *Node) Run(ctx context.Context) error {
	err := n.start(ctx)
	if err == nil {
		if n.opts.Ready != nil {
			n.opts.Ready()
		}
		n.opts.Sockets.reportReady()
		notify("READY=1", "STATUS=serving")
		select {
		case <-ctx.Done():
		case <-n.stopping:
		case err = <-n.tasks.failed:
			n.log.Error("a part failed, the node stops", "err", err)
		}
	}
	return errors.Join(err, n.stop())
}

// start brings everything up: first who answers questions, then the pools, and listeners only when the pools know their
// endpoints.
func (n *Node) start(ctx context.Context) error {
	if err := n.openAdmin(); err != nil {
		return err
	}
	log, err := newAccessLog(n.site.AccessLog, &n.logDropped)
	if err != nil {
		return err
	}
	n.useLog(log)
	if n.limits, err = n.newLimits(n.site); err != nil {
		return err
	}
	if n.finder, err = n.facts.Finder(&n.site.Identify); err != nil {
		return err
	}
	if err := n.screen.Prepare(n.site); err != nil {
		return err
	}
	n.tasks.start("facts", n.facts.Run)
	n.checkMachine()
	n.tasks.start("guard", n.guard.run)
	n.monitorTask = n.tasks.start("monitor", n.monitor.Run)
	n.tasks.start("otlp", n.otlp.Run)
	n.useTelling(n.site)
	n.startRecords()
	n.startQuotas()
	n.useObjectives(n.site)
	n.tasks.start("prober", n.prober)
	pools := map[string]*runningPool{}
	for _, name := range slices.Sorted(maps.Keys(n.site.Pools)) {
		p, err := n.newPool(n.site.Pools[name])
		if err != nil {
			n.stopPools(pools)
			return fmt.Errorf("pool %s cannot be built: %w", name, err)
		}
		pools[name] = n.runPool(name, p)
	}
	n.mu.Lock()
	n.pools = pools
	n.mu.Unlock()
	n.facts.Await(ctx, n.finder)
	n.awaitVerdicts(ctx, n.site, pools)
	if err := n.front.Update(n.site.Listeners, func() (map[string]exchange.Handler, error) { return n.handlers(n.site, parts(pools)), nil }); err != nil {
		return err
	}
	n.tasks.start("proxy", n.front.Run)
	n.tasks.start("rates", n.sample)
	n.useAlerts(n.site)
	n.useSender(n.site)
	n.tasks.start("own alerts", n.lookOwn)
	n.tasks.start("objectives", n.judge)
	if n.opts.Load != nil {
		n.tasks.start("watch", func(ctx context.Context) error {
			site.Watch(ctx, n.files, watchEvery, func() { _ = n.Reload() })
			return nil
		})
	}
	n.mu.Lock()
	n.phase, n.limited, n.chains, n.counted, n.sampling = phaseServing, n.limits, n.built, n.quotas, n.sampler
	n.mu.Unlock()
	n.events.add(time.Now(), "start", n.site.Name+" serves: "+sizeOf(n.site))
	return nil
}

// runPool starts a pool.
func (n *Node) runPool(name string, p poolPart) *runningPool {
	return &runningPool{poolPart: p, task: n.tasks.start("pool "+name, p.Run)}
}

// parts are the pools without their tasks.
func parts(pools map[string]*runningPool) map[string]poolPart {
	out := make(map[string]poolPart, len(pools))
	for name, p := range pools {
		out[name] = p.poolPart
	}
	return out
}

// awaitVerdicts waits until every pool knows the health of its endpoints, at the most as long as a probe may take.
func (n *Node) awaitVerdicts(ctx context.Context, s *site.Site, pools map[string]*runningPool) {
	wait := time.Duration(0)
	for name := range pools {
		if p := s.Pools[name]; p != nil && p.Probe != nil {
			wait = max(wait, p.Probe.Timeout)
		}
	}
	wait = min(max(wait, time.Second)+500*time.Millisecond, maxFirstVerdicts)
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(readyTick)
	defer tick.Stop()
	for {
		waiting := ""
		for name, p := range pools {
			if !p.Ready() {
				waiting = name
			}
		}
		if waiting == "" {
			return
		}
		select {
		case <-tick.C:
		case <-n.abort:
			return
		case <-ctx.Done():
			n.log.Warn("serving before the first verdicts of all probes are there", "pool", waiting, "waited", wait)
			return
		}
	}
}

// Stop starts an orderly stop and returns at once.
func (n *Node) Stop() { n.stopOnce.Do(func() { close(n.stopping) }) }

// Abort ends an orderly stop: what is still open is cut off. It returns at once.
func (n *Node) Abort() {
	n.Stop()
	n.cutOnce.Do(func() { close(n.abort) })
}

// ReopenLogs opens the access log's file anew, after logrotate moved it.
func (n *Node) ReopenLogs() {
	if l := n.accessLog.Load(); l != nil {
		l.reopenSoon()
	}
}

// SetEndpoint says what people want of an endpoint: up, down or drain.
func (n *Node) SetEndpoint(pool, address, state string) error {
	n.mu.Lock()
	p := n.pools[pool]
	n.mu.Unlock()
	if p == nil {
		return fmt.Errorf("there is no pool %q", pool)
	}
	if err := p.SetState(address, state); err != nil {
		return err
	}
	n.event("admin", fmt.Sprintf("%s of pool %s was set to %s by hand", address, pool, state))
	return nil
}

// ready says whether the node should get traffic, and why not.
func (n *Node) ready() (bool, string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch n.phase {
	case phaseNew:
		return false, "waiting for the first verdicts of the probes"
	case phaseDraining:
		return false, "draining"
	}
	return true, ""
}

// event remembers and logs what happened.
func (n *Node) event(kind, text string) {
	n.events.add(time.Now(), kind, text)
	n.log.Info(text, "event", kind)
}

// files are the files that make the site, for the watcher.
func (n *Node) files() map[string]fs.FileInfo {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := make(map[string]fs.FileInfo, len(n.site.Files))
	for _, path := range n.site.Files {
		list[path] = nil
	}
	return list
}

// flight finds or makes the gauge of a listener.
func (n *Node) flight(listener string) *flight {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.flights[listener] == nil {
		n.flights[listener] = new(flight)
	}
	return n.flights[listener]
}

// useFinder says which finder is in force. What the facts of another were found with is given up.
func (n *Node) useFinder(f *facts.Finder) {
	n.finder = f
	n.facts.Use(f)
}

// useLog swaps the access log; nil: off. The old one writes what it has and ends.
func (n *Node) useLog(l *accessLog) {
	n.accessLog.Store(l)
	old := n.logTask
	n.logTask = nil
	if l != nil {
		n.logTask = n.tasks.start("access log", l.run)
	}
	if old != nil {
		old.stop(partStop)
	}
}

package node

import (
	"maps"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/even-keel/evenkeel/admit/facts"
	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/exchange"
)

// maxScrapes is how many scrapes run at once; more are told to come back.
const maxScrapes = 4

// bounds are the upper ends of the latency buckets that are shown, in seconds. Inside there are 384: see tally.
var bounds = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// metrics shows the node's counters to Prometheus. It keeps none: a scrape reads those that the node has anyway.
type metrics struct {
	node     *Node
	native   bool // latencies in native buckets too
	registry *prometheus.Registry
}

// desc makes the description of a metric. Names and labels are documented in docs/metrics.md.
func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("evenkeel_"+name, help, labels, nil)
}

var (
	descRequests    = desc("requests_total", "Requests, tcp connections and udp sessions that have ended, refused ones too.", "listener", "route", "class", "code")
	descSeconds     = desc("request_seconds", "Time from the first byte of a request to the end of its answer, of those that were not turned away.", "listener", "route")
	descBytesIn     = desc("received_bytes_total", "Body bytes received from clients.", "listener", "route")
	descBytesOut    = desc("sent_bytes_total", "Body bytes sent to clients.", "listener", "route")
	descInFlight    = desc("in_flight", "Requests, connections and sessions under way.", "listener")
	descRefused     = desc("refused_total", "Refusals by the stage that said no, why, and the limit that was met.", "stage", "reason", "limit", "route", "class")
	descOpen        = desc("connections", "Open client connections or udp sessions.", "listener")
	descAccepted    = desc("connections_accepted_total", "Client connections accepted.", "listener")
	descConnRefused = desc("connections_refused_total", "Client connections refused or cut off, and why.", "listener", "reason")
	descUp          = desc("endpoint_up", "1 when the endpoint is healthy and takes traffic, else 0.", "pool", "endpoint")
	descEndFlight   = desc("endpoint_in_flight", "Requests under way to the endpoint.", "pool", "endpoint")
	descPicks       = desc("endpoint_picks_total", "Times the endpoint was chosen.", "pool", "endpoint")
	descFailures    = desc("endpoint_failures_total", "Attempts at the endpoint that failed.", "pool", "endpoint")
	descSpill       = desc("spill_refused_total", "Requests that found no room at endpoints of other zones and priorities, or would not have in a dry run.", "pool")
	descShare       = desc("pool_healthy_share", "Healthy share of the pool's capacity, 0 to 1.", "pool")
	descPanic       = desc("pool_panic", "1 when too little is healthy and sick endpoints are used too.", "pool")
	descReloads     = desc("reloads_total", "Reloads of the site by result: done or refused.", "result")
	descLogDropped  = desc("access_log_dropped_total", "Lines of the access log that were dropped because its queue was full.")
	descTokens      = desc("tokens_total", "Tokens that requests carried, by where their keys come from and what became of them.", "keys", "result")
	descTokenKeys   = desc("token_keys", "Keys that signatures of tokens are checked with.", "keys")
	descLimited     = desc("limit_requests_total", "Requests by limit: admitted, refused, or would_refuse for a dry run.", "limit", "result")
	descLimitKeys   = desc("limit_keys", "Keys that a limit remembers.", "limit")
	descLimitBytes  = desc("limit_bytes", "Memory for the keys of a limit.", "limit")
	descLimitShared = desc("limit_shared_total", "Requests of keys without a place in a full table, which share a budget.", "limit")
	descReady       = desc("ready", "1 when the node should get traffic.")
	descBuild       = desc("build_info", "Always 1; the labels say what runs.", "version", "go")
)

// newMetrics makes what is shown. native is for the node's own store alone: a collector, and a Prometheus that is set to scrape native
// histograms, would take these in place of the classic ones, which dashboards and rules ask for.
func newMetrics(n *Node, native bool) *metrics {
	m := &metrics{node: n, native: native, registry: prometheus.NewRegistry()}
	m.registry.MustRegister(m,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// handler answers scrapes, in the Prometheus text format or OpenMetrics.
func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: maxScrapes})
}

// Describe implements prometheus.Collector: nothing is promised beforehand, because routes come and go.
func (m *metrics) Describe(chan<- *prometheus.Desc) {}

// sink takes the values of one scrape.
type sink chan<- prometheus.Metric

func (s sink) counter(d *prometheus.Desc, v uint64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

func (s sink) gauge(d *prometheus.Desc, v float64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	n, out := m.node, sink(ch)
	out.gauge(descBuild, 1, n.opts.Version, runtime.Version())
	ready, _ := n.ready()
	out.gauge(descReady, number(ready))
	n.mu.Lock()
	refused, done := n.reloads[0], n.reloads[1]
	sampler := n.sampling
	pools, flights := maps.Clone(n.pools), maps.Clone(n.flights)
	n.mu.Unlock()
	out.counter(descReloads, refused, "refused")
	out.counter(descReloads, done, "done")
	out.counter(descLogDropped, n.logDropped.Load())
	out.tokens(n.facts.Status())
	out.limits(n.limitStatus())
	n.tallies.each(func(key tallyKey, t *tally) { out.tally(key, t, m.native) })
	for route, kinds := range n.tallies.refusedAll() {
		for key, count := range kinds {
			out.counter(descRefused, count, key.stage, key.reason, key.limit, route, shownClass(route, key.class))
		}
	}
	out.deadlines(n)
	for name, f := range flights {
		out.gauge(descInFlight, float64(f.sum()), name)
	}
	for name, l := range n.front.views() {
		out.gauge(descOpen, float64(l.Open), name)
		out.counter(descAccepted, l.Accepted, name)
		for reason, count := range l.Refused {
			out.counter(descConnRefused, count, name, reason)
		}
	}
	out.guard(n.guard.Status())
	for name, p := range pools {
		v := p.view()
		v.Breaker = n.viewBreaker(name, time.Now())
		out.pool(name, v)
		out.retries(name, n.retriesOf(name))
		out.breakers(name, v)
		out.bulkhead(name, n.hull.view(name))
	}
	out.overload(n.protections(pools))
	out.cache(n.cache.Status())
	out.switches(n.knobs.Status(time.Now()))
	out.fallbacks(&n.fellBack)
	out.monitor(n.monitor.Status())
	out.otlp(n.otlp.Status(), sampler)
	out.records(n.records.Status())
	out.azure(n.sender.Load())
	out.objectives(n.promised.book.Status(time.Now()))
	out.alerts(n.viewAlerts())
	out.door(n.door)
}

// tokens shows the sources of tokens. Two that have their keys from one place, for the customer and for the user, count together.
func (s sink) tokens(st facts.Status) {
	sum := map[string]facts.TokenStatus{}
	for _, t := range st.Tokens {
		t0 := sum[t.From]
		t.Known, t.Good, t.Bad, t.Skipped = t.Known+t0.Known, t.Good+t0.Good, t.Bad+t0.Bad, t.Skipped+t0.Skipped
		sum[t.From] = t
	}
	for from, t := range sum {
		s.gauge(descTokenKeys, float64(t.Keys), from)
		s.counter(descTokens, t.Known, from, "known")
		s.counter(descTokens, t.Good, from, "good")
		s.counter(descTokens, t.Bad, from, "bad")
		s.counter(descTokens, t.Skipped, from, "skipped")
	}
}

func (s sink) tally(key tallyKey, t *tally, native bool) {
	var v sums
	t.addTo(&v)
	for class := range v.Status {
		for i, count := range v.Status[class] {
			if count > 0 {
				s.counter(descRequests, count, key.listener, key.route, shownClass(key.route, exchange.Class(class)), codeNames[i])
			}
		}
	}
	if v.Requests == 0 {
		return
	}
	s.counter(descTold, v.Told[0], key.listener, key.route, "429")
	s.counter(descTold, v.Told[1], key.listener, key.route, "503")
	s.counter(descBytesIn, v.BytesIn, key.listener, key.route)
	s.counter(descBytesOut, v.BytesOut, key.listener, key.route)
	buckets, total := v.cumulative(bounds)
	h := prometheus.MustNewConstHistogram(descSeconds, total, float64(v.Micros)/1e6, buckets, key.listener, key.route)
	if list := t.samples.exemplars(); len(list) > 0 {
		h = prometheus.MustNewMetricWithExemplars(h, list...)
	}
	if native {
		h = doubled{h, v.native()}
	}
	s <- h
}

func (s sink) pool(name string, p console.Pool) {
	s.gauge(descShare, p.HealthyShare, name)
	s.gauge(descPanic, number(p.Panic), name)
	s.counter(descSpill, p.SpillRefused, name)
	for _, e := range p.Endpoints {
		up := e.State == console.StateUp || e.State == console.StateSlow
		s.gauge(descUp, number(up), name, e.Address)
		s.gauge(descEndFlight, float64(e.InFlight), name, e.Address)
		s.counter(descPicks, e.Picks, name, e.Address)
		s.counter(descFailures, e.Failures, name, e.Address)
	}
}

// shownClass is the class as a label. What met no route has none: the route decides it.
func shownClass(route string, class exchange.Class) string {
	if route == "" {
		return ""
	}
	return class.String()
}

// cumulative is how many latencies lie below each bound, in seconds.
func (s *sums) cumulative(bounds []float64) (map[float64]uint64, uint64) {
	out := make(map[float64]uint64, len(bounds))
	var seen uint64
	i := 0
	for _, b := range bounds {
		for ; i < latencyBuckets-1 && bucketTop(i) <= time.Duration(b*float64(time.Second)); i++ {
			seen += s.Latency[i]
		}
		out[b] = seen
	}
	for ; i < latencyBuckets; i++ {
		seen += s.Latency[i]
	}
	return out, seen
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

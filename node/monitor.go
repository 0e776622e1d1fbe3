package node

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/even-keel/evenkeel/monitor"
	"github.com/even-keel/evenkeel/proxy"
	"github.com/even-keel/evenkeel/site"
)

// monitorDir is the folder of the history within state_dir.
const monitorDir = "metrics"

// pressedShare is the part of guard.memory from which the monitor gives way: before any request is refused for want of memory.
const pressedShare = 0.95

var (
	descMonSeries   = desc("monitor_series", "Series that the store has in memory.")
	descMonBudget   = desc("monitor_series_budget", "Series that it may have.")
	descMonBytes    = desc("monitor_store_bytes", "Bytes of the history on disk, without the log of the newest.")
	descMonSamples  = desc("monitor_samples_total", "Samples that were kept or sent on.")
	descMonDropped  = desc("monitor_samples_dropped_total", "Samples that were not kept, and why.", "reason")
	descMonReceived = desc("monitor_received_total", "Samples taken from senders by remote write.")
	descMonRounds   = desc("monitor_rounds_total", "Rounds of scraping: done, or late when the one before had not ended.", "result")
	descMonFailed   = desc("monitor_scrapes_failed_total", "Scrapes of endpoints that failed.")
	descMonRound    = desc("monitor_round_seconds", "How long the last look at the node and the machine took.")
	descMonQueries  = desc("monitor_queries_total", "Queries: run, failed, or turned away because too many ran.", "result")
	descMonWaiting  = desc("monitor_remote_waiting", "Samples that wait to be sent on.", "url")
	descMonSent     = desc("monitor_remote_sent_total", "Samples sent on.", "url")
	descMonLost     = desc("monitor_remote_dropped_total", "Samples that could not be sent on.", "url")
	descMonUp       = desc("monitor_up", "1 when history is kept or an existing Prometheus is asked.")
	descMonAside    = desc("monitor_set_aside_total", "Damaged parts of the history that were put aside since the start.")
)

// newMonitor makes the monitor. It keeps to the state_dir of the site that the node begins with.
func (n *Node) newMonitor(s *site.Site) *monitor.Monitor {
	host, _ := os.Hostname()
	deps := monitor.Deps{
		Instance: cmp.Or(host, s.Name), Version: n.opts.Version, Self: newMetrics(n, true).registry, Endpoints: n.measured(), Log: n.log,
		Event:   func(kind, text string) { n.events.add(time.Now(), kind, text) },
		Pressed: n.shortOfMemory, Rules: n.alerting,
	}
	if s.StateDir != "" {
		deps.Dir = filepath.Join(s.StateDir, monitorDir)
	}
	return monitor.New(&s.Monitor, deps)
}

// shortOfMemory says that what is not needed to serve should give way.
func (n *Node) shortOfMemory() bool {
	at := float64(n.guard.cfg.Load().Memory) * pressedShare
	return at > 0 && n.guard.Status().MemoryShare >= at
}

// measured finds the endpoints whose own metrics are kept. The clients that ask them live as long as the pool's settings.
func (n *Node) measured() func() []monitor.Endpoint {
	clients := map[*site.Pool]*http.Client{}
	return func() (out []monitor.Endpoint) {
		n.mu.Lock()
		s := n.site
		pools := map[*site.Pool]*runningPool{}
		for name, cfg := range s.Pools {
			if cfg.Metrics != nil && n.pools[name] != nil {
				pools[cfg] = n.pools[name]
			}
		}
		n.mu.Unlock()
		for cfg, client := range clients {
			if pools[cfg] == nil {
				client.CloseIdleConnections()
				delete(clients, cfg)
			}
		}
		for cfg, p := range pools {
			if clients[cfg] == nil {
				c, err := measuring(cfg)
				if err != nil {
					n.log.Warn("metrics of endpoints cannot be asked for", "pool", cfg.Name, "err", err)
					continue
				}
				clients[cfg] = c
			}
			for _, e := range p.view().Endpoints {
				out = append(out, monitor.Endpoint{
					Pool: cfg.Name, Address: e.Address, URL: metricsURL(cfg, e.Address), Client: clients[cfg],
					Timeout: cfg.Metrics.Timeout, Samples: cfg.Metrics.Samples,
				})
			}
		}
		return out
	}
}

// measuring makes the client that asks the endpoints of a pool.
func measuring(cfg *site.Pool) (*http.Client, error) {
	t := &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: 90 * time.Second, ForceAttemptHTTP2: false}
	if cfg.TLS != nil {
		conf, err := proxy.EndpointTLS(cfg)
		if err != nil {
			return nil, err
		}
		conf.NextProtos = []string{"http/1.1"}
		t.TLSClientConfig, t.TLSNextProto = conf, map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, nil
}

// metricsURL is where an endpoint shows its metrics.
func metricsURL(cfg *site.Pool, address string) string {
	scheme := "http"
	if cfg.TLS != nil {
		scheme = "https"
	}
	if host, _, err := net.SplitHostPort(address); err == nil && cfg.Metrics.Port > 0 {
		address = net.JoinHostPort(host, strconv.Itoa(cfg.Metrics.Port))
	}
	return scheme + "://" + address + cfg.Metrics.Path
}

// releaseStore lets the successor have the history while this node still drains.
func (n *Node) releaseStore(context.Context) error {
	if !n.handed.Load() {
		return nil
	}
	for _, k := range []*task{n.senderTask, n.monitorTask, n.recordsTask} {
		if k != nil {
			k.stop(partStop)
		}
	}
	return nil
}

// monitor tells what the monitor does.
func (s sink) monitor(st monitor.Status) {
	s.gauge(descMonUp, number(st.State == monitor.StateRunning || st.State == monitor.StateExternal))
	s.gauge(descMonSeries, float64(st.Series))
	s.gauge(descMonBudget, float64(st.Budget))
	s.gauge(descMonBytes, float64(st.Bytes))
	s.counter(descMonSamples, st.Samples)
	for reason, count := range st.Dropped {
		s.counter(descMonDropped, count, reason)
	}
	s.counter(descMonReceived, st.Received)
	s.counter(descMonRounds, st.Rounds, "done")
	s.counter(descMonRounds, st.Late, "late")
	s.counter(descMonFailed, st.Failed)
	s.gauge(descMonRound, st.RoundTook.Seconds())
	s.counter(descMonQueries, st.Queries, "run")
	s.counter(descMonQueries, st.QueryErrors, "failed")
	s.counter(descMonQueries, st.QueriesAway, "turned_away")
	s.counter(descMonAside, uint64(len(st.Aside)))
	for _, r := range st.RemoteWrites {
		s.gauge(descMonWaiting, float64(r.Waiting), r.URL)
		s.counter(descMonSent, r.Sent, r.URL)
		s.counter(descMonLost, r.Dropped, r.URL)
	}
}

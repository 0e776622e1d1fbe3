package console

import "time"

// View is everything the console shows of a node at one moment: plain data, copied out of the running parts. It is the
// documented JSON of GET /api/v1/status (docs/api.md). Counters count from the node's start; rates are per second.
// Lists keep the order they are shown in. The zero value is a node that serves nothing.
type View struct {
	At        time.Time  `json:"at"` // when it was taken; zero: console fills in the time of the request
	Node      Node       `json:"node"`
	Totals    Totals     `json:"totals"`
	Listeners []Listener `json:"listeners"`
	Pools     []Pool     `json:"pools"`
	Routes    []Route    `json:"routes"`
	Events    []Event    `json:"events"` // newest first; at most EventLimit are passed on
	Overload  Overload   `json:"overload"`
	Degrade   *Degrade   `json:"degrade,omitempty"` // nil: the site has no caches, fallbacks or switches
}

// EventLimit is how many events a View passes on. A page shows a screenful; more would only make the stream heavy.
const EventLimit = 200

// Node is the process.
type Node struct {
	Name         string    `json:"name"` // of the site
	Zone         string    `json:"zone,omitempty"`
	Version      string    `json:"version"`
	PID          int       `json:"pid"`
	Started      time.Time `json:"started"`
	UptimeS      float64   `json:"uptime_s"`
	Ready        bool      `json:"ready"`
	Why          string    `json:"why,omitempty"` // why it is not ready
	Draining     bool      `json:"draining"`
	SiteRevision string    `json:"site_revision"`         // short fingerprint of the site in force
	LastReload   *Reload   `json:"last_reload,omitempty"` // nil: not reloaded yet
	Go           Runtime   `json:"go"`
}

// Reload is the last attempt to read the site file again. A failed one changed nothing.
type Reload struct {
	At    time.Time `json:"at"`
	OK    bool      `json:"ok"`
	Error string    `json:"error,omitempty"`
}

// Runtime is what the process uses.
type Runtime struct {
	Goroutines int     `json:"goroutines"`
	HeapBytes  uint64  `json:"heap_bytes"`
	RSSBytes   uint64  `json:"rss_bytes"`
	FDs        int     `json:"fds"`
	FDLimit    uint64  `json:"fd_limit"`
	CPUS       float64 `json:"cpu_s"` // CPU seconds used, user and system
}

// Totals is the node as a whole.
type Totals struct {
	Requests uint64    `json:"requests"`
	RPS      float64   `json:"rps"`     // over the last second
	RPS10    float64   `json:"rps_10s"` // over the last ten seconds
	Refused  uint64    `json:"refused"` // answered by evenkeel with a refusal
	Failed   uint64    `json:"failed"`  // answers with a 5xx status, broken or cut off; not what was refused before an endpoint was tried
	Open     int64     `json:"open"`    // client connections
	History  []float64 `json:"history"` // rps of up to the last 120 seconds, oldest first; may be empty
}

// Listener is one address that is served.
type Listener struct {
	Name         string            `json:"name"`
	Address      string            `json:"address"`
	Protocol     string            `json:"protocol"` // http, tcp, udp
	TLS          bool              `json:"tls"`
	Open         int64             `json:"open"` // connections or sessions now
	Accepted     uint64            `json:"accepted"`
	Refused      map[string]uint64 `json:"refused"` // by reason
	Requests     uint64            `json:"requests"`
	RPS          float64           `json:"rps"` // requests; connections per second for tcp and udp
	BytesIn      uint64            `json:"bytes_in"`
	BytesOut     uint64            `json:"bytes_out"`
	Certificates []Certificate     `json:"certificates"`
}

// Certificate is one certificate that a listener shows.
type Certificate struct {
	Hosts    []string  `json:"hosts"`
	NotAfter time.Time `json:"not_after"`
}

// Pool is a named set of endpoints.
type Pool struct {
	Name         string     `json:"name"`
	Method       string     `json:"method"`
	Probe        string     `json:"probe,omitempty"` // what its endpoints are asked, in words; empty: nothing
	HealthyShare float64    `json:"healthy_share"`   // of the pool's capacity (weights), 0 to 1
	Panic        bool       `json:"panic"`           // too little is healthy: sick endpoints are used too
	Held         string     `json:"held,omitempty"`  // why the last good set of endpoints is kept instead of what discovery brought; empty: it is not
	SpillRefused uint64     `json:"spill_refused"`   // for want of room at endpoints that are spilled to, or would have been in a dry run
	Requests     uint64     `json:"requests"`
	RPS          float64    `json:"rps"`
	FailedRPS    float64    `json:"failed_rps"`         // attempts that failed, over the last second
	Breaker      *Breaker   `json:"breaker,omitempty"`  // nil: off
	Bulkhead     *Bulkhead  `json:"bulkhead,omitempty"` // nil: off
	Retries      Retries    `json:"retries"`
	Endpoints    []Endpoint `json:"endpoints"`
}

// Retries is what became of a pool's failed attempts.
type Retries struct {
	Attempts   uint64            `json:"attempts"`    // at endpoints, the first of each request and all repeats
	Repeats    map[string]uint64 `json:"repeats"`     // by what had failed: connect, reset, timeout, 429, 502, 503, 504, grpc_…, hedge
	Denied     map[string]uint64 `json:"denied"`      // failed and not repeated, by why: budget, attempts, unsafe, body_gone, nested, …
	BudgetLeft float64           `json:"budget_left"` // repeats that may be made now
}

// The states of an endpoint, what evenkeel makes of it.
const (
	StateUp       = "up"       // healthy, takes its share
	StateSlow     = "slow"     // healthy, in slow start: its share still grows
	StateSick     = "sick"     // its probe fails
	StateEjected  = "ejected"  // requests to it failed
	StateUnknown  = "unknown"  // no verdict yet
	StateDraining = "draining" // finishes what it has, gets nothing new
	StateDown     = "down"     // taken out by hand
)

// What people set for an endpoint.
const (
	AdminUp    = "up"
	AdminDown  = "down"
	AdminDrain = "drain"
)

// Endpoint is one address that does the work. Words for State beyond the constants are shown as they are.
type Endpoint struct {
	Address         string    `json:"address"`
	Zone            string    `json:"zone,omitempty"`
	Priority        int       `json:"priority"`
	Weight          int       `json:"weight"`
	EffectiveWeight float64   `json:"effective_weight"` // after slow start and health; 0: gets nothing
	State           string    `json:"state"`
	Admin           string    `json:"admin"`
	Why             string    `json:"why,omitempty"` // reason of State, as the last verdict gave it
	Since           time.Time `json:"since,omitzero"`
	InFlight        int64     `json:"in_flight"`
	Picks           uint64    `json:"picks"`
	RPS             float64   `json:"rps"`
	Failures        uint64    `json:"failures"`
	EWMAMS          float64   `json:"ewma_ms"`                  // latency as the pool weighs it; 0: unknown
	P50MS           float64   `json:"p50_ms,omitempty"`         // 0: unknown
	Breaker         string    `json:"breaker"`                  // closed, half-open (on probation) or open (ejected)
	BreakerByHand   time.Time `json:"breaker_by_hand,omitzero"` // held by hand until then
	Ejections       uint64    `json:"ejections"`                // since the node's start
	History         []Verdict `json:"history"`                  // oldest first; at most 32
}

// Verdict is the result of one probe.
type Verdict struct {
	At      time.Time `json:"at"`
	Healthy bool      `json:"healthy"`
	Void    bool      `json:"void,omitempty"` // the probe could not be made; says nothing about the endpoint
	Reason  string    `json:"reason,omitempty"`
	TookMS  float64   `json:"took_ms"`
}

// Route is one route of the site file.
type Route struct {
	Name     string            `json:"name"`
	Pool     string            `json:"pool"`               // or redirect, respond
	Fallback string            `json:"fallback,omitempty"` // pool that stands in for it
	Class    string            `json:"class"`
	Requests uint64            `json:"requests"`
	RPS      float64           `json:"rps"`
	Status   map[string]uint64 `json:"status"`  // 1xx, 2xx, 3xx, 4xx, 5xx
	Refused  map[string]uint64 `json:"refused"` // by reason
	Expired  map[string]uint64 `json:"expired"` // ended by their deadline, by stage: deadline, shed, retry, send, answer, …
	P50MS    float64           `json:"p50_ms"`  // 0: unknown
	P99MS    float64           `json:"p99_ms"`
}

// Event is something that happened, for people: an endpoint left, a site was read again.
type Event struct {
	At   time.Time `json:"at"`
	Kind string    `json:"kind"` // one word: health, reload, drain, listener, admin, …
	Text string    `json:"text"`
}

// settle makes v fit to show: no list or map is null in the JSON, and lists that could grow without end are cut.
func (v View) settle(now time.Time) View {
	if v.At.IsZero() {
		v.At = now
	}
	v.Listeners, v.Pools, v.Routes = copied(v.Listeners), copied(v.Pools), copied(v.Routes)
	v.Events, v.Totals.History = copied(v.Events), copied(v.Totals.History)
	if len(v.Events) > EventLimit {
		v.Events = v.Events[:EventLimit]
	}
	for i := range v.Listeners {
		l := &v.Listeners[i]
		l.Refused, l.Certificates = notNil(l.Refused), copied(l.Certificates)
	}
	for i := range v.Pools {
		p := &v.Pools[i]
		p.Endpoints = copied(p.Endpoints)
		p.Retries.Repeats, p.Retries.Denied = notNil(p.Retries.Repeats), notNil(p.Retries.Denied)
		for j := range p.Endpoints {
			p.Endpoints[j].History = copied(p.Endpoints[j].History)
		}
	}
	for i := range v.Routes {
		r := &v.Routes[i]
		r.Status, r.Refused, r.Expired = notNil(r.Status), notNil(r.Refused), notNil(r.Expired)
	}
	v.Overload = v.Overload.settle()
	return v
}

// copied is a copy that is never nil, so that settling does not write into what the node keeps.
func copied[T any](list []T) []T { return append(make([]T, 0, len(list)), list...) }

func notNil(m map[string]uint64) map[string]uint64 {
	if m == nil {
		return map[string]uint64{}
	}
	return m
}

// pool finds a pool by name; nil: there is none.
func (v View) pool(name string) *Pool {
	for i := range v.Pools {
		if v.Pools[i].Name == name {
			return &v.Pools[i]
		}
	}
	return nil
}

// endpoint finds an endpoint by address; nil: there is none.
func (p *Pool) endpoint(address string) *Endpoint {
	for i := range p.Endpoints {
		if p.Endpoints[i].Address == address {
			return &p.Endpoints[i]
		}
	}
	return nil
}

// refused is the sum over all reasons.
func refused(m map[string]uint64) (n uint64) {
	for _, v := range m {
		n += v
	}
	return n
}

package console

import (
	"cmp"
	"slices"
	"time"
)

// Overload is what comes, what of it is let through, and who says no to the rest. Rates are of the last second.
type Overload struct {
	State   string        `json:"state"` // one of the states of load, the worst of the pools and the node
	Why     string        `json:"why,omitempty"`
	Classes []ClassLoad   `json:"classes"` // of the node: critical, standard, low
	Pools   []PoolLoad    `json:"pools"`
	Limits  []LimitLoad   `json:"limits"`
	Quotas  []QuotaLoad   `json:"quotas"`
	Guard   *GuardLoad    `json:"guard,omitempty"`  // nil: this node has none
	Screen  *ScreenLoad   `json:"screen,omitempty"` // nil: nothing is screened
	Refused []RefusedLoad `json:"refused"`          // the most in the last second first; at most RefusedLimit
}

// RefusedLimit is how many kinds of refusals a View passes on; metrics have all.
const RefusedLimit = 100

// TopLimit is how many refused keys of one limit a View passes on.
const TopLimit = 10

// The states of load.
const (
	LoadCalm = "calm"       // all that comes is let through, with room to spare
	LoadNear = "near"       // all of it is let through, but requests wait
	LoadOver = "overloaded" // some are refused because there is too little of something
)

// ClassLoad is one class of requests. What is demanded is either admitted, so that an endpoint was tried or evenkeel
// answered itself, or refused before that. Counters count from the start of the node.
type ClassLoad struct {
	Class       string  `json:"class"`
	Demand      uint64  `json:"demand"`
	Refused     uint64  `json:"refused"`
	WouldRefuse uint64  `json:"would_refuse,omitempty"` // in dry runs of the shedder
	DemandRPS   float64 `json:"demand_rps"`
	AdmittedRPS float64 `json:"admitted_rps"`
	RefusedRPS  float64 `json:"refused_rps"`
	ShedRPS     float64 `json:"shed_rps"` // part of refused_rps: refused by the shedder
}

// PoolLoad is how full a pool is. Figures of the shedder are 0 where its mode is off or the pool speaks tcp or udp.
type PoolLoad struct {
	Pool              string               `json:"pool"`
	State             string               `json:"state"` // filled in by the console
	Why               string               `json:"why,omitempty"`
	Mode              string               `json:"mode"`                // of its shedder: on, dry_run, off
	Limit             float64              `json:"limit"`               // requests at once that the shedder found right
	Max               int                  `json:"max"`                 // its hard bound
	InFlight          int                  `json:"in_flight"`           // admitted and not yet answered
	Strays            int                  `json:"strays"`              // not among these: they wait for endpoints that were taken out of service meanwhile
	Waiting           int                  `json:"waiting"`             // for a place
	QueueMS           float64              `json:"queue_ms"`            // how long the one that waits longest has waited
	ServiceMS         float64              `json:"service_ms"`          // how long endpoints take
	CapacityPerSecond float64              `json:"capacity_per_second"` // what endpoints were found to do; 0: not known yet
	Behind            bool                 `json:"behind"`              // the queue does not empty
	LowOff            bool                 `json:"low_off"`             // low requests are refused as a whole for now
	ByHand            map[string]time.Time `json:"by_hand"`             // classes refused by hand, and until when
	Classes           []ClassLoad          `json:"classes"`
	P50MS             float64              `json:"p50_ms"` // of the admitted, in the last seconds; 0: none
	P99MS             float64              `json:"p99_ms"`
}

// KeyLoad is one key that a limit refused.
type KeyLoad struct {
	Key     string `json:"key"`
	Refused uint64 `json:"refused"` // about: counted in a sketch of bounded size
}

// LimitLoad is one limit.
type LimitLoad struct {
	Name        string    `json:"name"`
	By          []string  `json:"by"`
	Rate        float64   `json:"rate"` // per second; 0: none
	Burst       float64   `json:"burst"`
	Concurrency int       `json:"concurrency"` // 0: none
	DryRun      bool      `json:"dry_run"`
	Cost        string    `json:"cost"`
	Keys        int       `json:"keys"`      // remembered now
	KeyBytes    int       `json:"key_bytes"` // memory for all of them
	Shared      uint64    `json:"shared"`    // requests of keys without a place in a full table, which share one budget
	Admitted    uint64    `json:"admitted"`
	Refused     uint64    `json:"refused"`
	RefusedRPS  float64   `json:"refused_rps"`
	WouldRefuse uint64    `json:"would_refuse"`
	Top         []KeyLoad `json:"top"` // most refused first; at most TopLimit
}

// QuotaLoad is one quota.
type QuotaLoad struct {
	Name        string    `json:"name"`
	By          []string  `json:"by"`
	Calls       int64     `json:"calls"` // per period; 0: not counted
	Bytes       int64     `json:"bytes"`
	Period      string    `json:"period"`
	Sliding     bool      `json:"sliding"`
	Kept        bool      `json:"kept"`              // counts outlive a restart
	Trouble     string    `json:"trouble,omitempty"` // why they may not
	Beyond      uint64    `json:"beyond"`            // requests let through uncounted, for want of room for their key
	DryRun      bool      `json:"dry_run"`
	Keys        int       `json:"keys"`
	Admitted    uint64    `json:"admitted"`
	Refused     uint64    `json:"refused"`
	RefusedRPS  float64   `json:"refused_rps"`
	WouldRefuse uint64    `json:"would_refuse"`
	Top         []KeyLoad `json:"top"`
}

// GuardLoad is evenkeel's protection of itself. Shares are 0 to 1.
type GuardLoad struct {
	Mode           string   `json:"mode"`
	Overloaded     bool     `json:"overloaded"`
	Why            string   `json:"why,omitempty"`
	SchedulerP99MS float64  `json:"scheduler_p99_ms"`
	MemoryShare    float64  `json:"memory_share"`
	FilesShare     float64  `json:"files_share"`
	FlightShare    float64  `json:"flight_share"`
	CPUShare       float64  `json:"cpu_share"`
	AcceptShare    float64  `json:"accept_share"`  // of the fullest accept queue
	StreamsShare   float64  `json:"streams_share"` // of the HTTP/2 streams otherwise allowed
	RefuseLow      float64  `json:"refuse_low"`    // shares that are refused now
	RefuseStandard float64  `json:"refuse_standard"`
	RefuseCritical float64  `json:"refuse_critical"`
	Refused        uint64   `json:"refused"`
	WouldRefuse    uint64   `json:"would_refuse"`
	IdleClosed     uint64   `json:"idle_closed"`
	Warnings       []string `json:"warnings"` // about the machine, each with its remedy
}

// ScreenLoad is the screening of requests for attacks.
type ScreenLoad struct {
	Mode        string    `json:"mode"`
	Screened    uint64    `json:"screened"`
	Passed      uint64    `json:"passed"`    // unscreened, for want of a place
	Unsampled   uint64    `json:"unsampled"` // not in the sample
	Attacks     uint64    `json:"attacks"`
	Malformed   uint64    `json:"malformed"` // found by the cheap checks
	Refused     uint64    `json:"refused"`   // on routes marked always, for want of a place
	Failed      uint64    `json:"failed"`    // the rule set could not look at them
	Blocked     uint64    `json:"blocked"`
	Waited      uint64    `json:"waited"`
	Concurrency int       `json:"concurrency"`
	Busy        int       `json:"busy"`
	RuleHits    []RuleHit `json:"rule_hits"` // most first; at most TopLimit
	OwnHits     []RuleHit `json:"-"`         // of the site's own rules, all of them, for metrics
}

// RuleHit is how often one rule matched.
type RuleHit struct {
	Rule string `json:"rule"`
	Hits uint64 `json:"hits"`
}

// RefusedLoad is one kind of refusals. All four words are of closed sets.
type RefusedLoad struct {
	Stage  string  `json:"stage"`
	Reason string  `json:"reason"`
	Limit  string  `json:"limit,omitempty"`
	Class  string  `json:"class,omitempty"` // empty: refused before the class was known
	Count  uint64  `json:"count"`
	RPS    float64 `json:"rps"`
}

// Series is the past of one pool, one value a second, oldest first; of the node as a whole when Pool is empty. All columns are
// as long as At. Rates are per second.
type Series struct {
	Pool     string               `json:"pool"`
	At       []int64              `json:"at"`       // Unix seconds
	Admitted map[string][]float64 `json:"admitted"` // by class
	Refused  map[string][]float64 `json:"refused"`  // by class
	Limit    []float64            `json:"limit"`
	Capacity []float64            `json:"capacity"` // per second, as the shedder found it; 0: not known
	InFlight []float64            `json:"in_flight"`
	Waiting  []float64            `json:"waiting"`
	QueueMS  []float64            `json:"queue_ms"`
	P50MS    []float64            `json:"p50_ms"` // of the admitted
	P99MS    []float64            `json:"p99_ms"`
}

// settle leaves no column null.
func (s Series) settle() Series {
	s.At = copied(s.At)
	for _, column := range []*[]float64{&s.Limit, &s.Capacity, &s.InFlight, &s.Waiting, &s.QueueMS, &s.P50MS, &s.P99MS} {
		*column = copied(*column)
	}
	for _, by := range []*map[string][]float64{&s.Admitted, &s.Refused} {
		if len(*by) == 0 {
			*by = map[string][]float64{"critical": {}, "standard": {}, "low": {}}
		}
	}
	return s
}

// settle fills in what the node leaves to the console, and leaves no list null.
func (o Overload) settle() Overload {
	o.Classes, o.Pools, o.Limits, o.Quotas, o.Refused = copied(o.Classes), copied(o.Pools), copied(o.Limits), copied(o.Quotas), copied(o.Refused)
	slices.SortStableFunc(o.Refused, func(a, b RefusedLoad) int { return cmp.Or(cmp.Compare(b.RPS, a.RPS), cmp.Compare(b.Count, a.Count)) })
	o.Refused = o.Refused[:min(len(o.Refused), RefusedLimit)]
	for i := range o.Limits {
		o.Limits[i].Top = topOf(o.Limits[i].Top)
		o.Limits[i].By = copied(o.Limits[i].By)
	}
	for i := range o.Quotas {
		o.Quotas[i].Top = topOf(o.Quotas[i].Top)
		o.Quotas[i].By = copied(o.Quotas[i].By)
	}
	if o.Guard != nil {
		g := *o.Guard
		g.Warnings = copied(g.Warnings)
		o.Guard = &g
	}
	if o.Screen != nil {
		s := *o.Screen
		s.RuleHits = copied(s.RuleHits[:min(len(s.RuleHits), TopLimit)])
		o.Screen = &s
	}
	for i := range o.Pools {
		p := &o.Pools[i]
		p.Classes = copied(p.Classes)
		if p.ByHand == nil {
			p.ByHand = map[string]time.Time{}
		}
		p.State, p.Why = p.judge()
	}
	o.State, o.Why = o.judge()
	return o
}

func topOf(list []KeyLoad) []KeyLoad {
	list = copied(list)
	slices.SortStableFunc(list, func(a, b KeyLoad) int { return cmp.Compare(b.Refused, a.Refused) })
	return list[:min(len(list), TopLimit)]
}

// sum adds up the classes of a pool.
func (p PoolLoad) sum() (all ClassLoad) {
	for _, c := range p.Classes {
		all.add(c)
	}
	return all
}

func (c *ClassLoad) add(o ClassLoad) {
	c.Demand, c.Refused, c.WouldRefuse = c.Demand+o.Demand, c.Refused+o.Refused, c.WouldRefuse+o.WouldRefuse
	c.DemandRPS, c.AdmittedRPS, c.RefusedRPS, c.ShedRPS = c.DemandRPS+o.DemandRPS, c.AdmittedRPS+o.AdmittedRPS, c.RefusedRPS+o.RefusedRPS, c.ShedRPS+o.ShedRPS
}

// class finds a class; zero when there is none of that name.
func (p PoolLoad) class(name string) ClassLoad {
	for _, c := range p.Classes {
		if c.Class == name {
			return c
		}
	}
	return ClassLoad{Class: name}
}

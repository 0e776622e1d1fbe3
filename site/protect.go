package site

import (
	"net/netip"
	"time"
)

// Identify says how facts about the sender are found.
type Identify struct {
	TrustedProxies []netip.Prefix `yaml:"trusted_proxies" doc:"senders whose X-Forwarded-For, -Proto, -Host and Forwarded are believed"`
	Customer       *Source        `yaml:"customer" doc:"where the customer of a request is found; limits, quotas and fair shares count by it"`
	User           *Source        `yaml:"user" doc:"where the user of a request is found"`
	Region         *Region        `yaml:"region" doc:"where the region of a request is found"`
	Class          ClassSource    `yaml:"class" doc:"who may say how much a request matters, and how"`
	Customers      []Customer     `yaml:"customers" doc:"what is known about single customers"`
	IPv6Prefix     int            `yaml:"ipv6_prefix" default:"64" min:"32" max:"128" doc:"IPv6 clients count as one by this many bits of their address"`
}

// Source says where one fact stands in a request. Exactly one of its fields is set.
type Source struct {
	Header string `yaml:"header" form:"token" doc:"value of a request header"`
	Cookie string `yaml:"cookie" form:"token" doc:"value of a cookie"`
	Query  string `yaml:"query" form:"token" doc:"value of a query parameter"`
	Path   int    `yaml:"path" min:"0" max:"16" doc:"part of the path, 1 for the first"`
	JWT    *JWT   `yaml:"jwt" doc:"claim of a JSON Web Token whose signature holds"`
	MTLS   string `yaml:"mtls" enum:"|subject|cn|san" doc:"subject, common name or first alternative name of the client certificate"`
	Basic  bool   `yaml:"basic" doc:"user name of basic authorization; its password is the endpoint's business"`
}

// JWT says which tokens are believed. Tokens with alg none are never; a token that does not hold gives no fact.
type JWT struct {
	Claim    string        `yaml:"claim" default:"sub" doc:"claim whose value is the fact"`
	Header   string        `yaml:"header" form:"token" default:"Authorization" doc:"header with the token; a leading Bearer is left out"`
	Cookie   string        `yaml:"cookie" form:"token" doc:"cookie with the token, instead of a header"`
	JWKS     string        `yaml:"jwks" form:"place" doc:"URL or file of the key set (RFC 7517)"`
	Key      string        `yaml:"key" form:"file" doc:"file with one public key or certificate, PEM; read again when it changes"`
	Secret   Secret        `yaml:"secret" doc:"shared secret of HMAC signatures, at least 32 bytes"`
	Issuer   string        `yaml:"issuer" doc:"iss that a token must carry; empty: any"`
	Audience string        `yaml:"audience" doc:"aud that a token must carry; empty: any"`
	Leeway   time.Duration `yaml:"leeway" default:"30s" min:"0s" max:"10m" doc:"how far clocks may differ for exp and nbf"`
	Refresh  time.Duration `yaml:"refresh" default:"10m" min:"1s" doc:"a key set of a URL is fetched again after this, and when a token names an unknown key"`
	Require  bool          `yaml:"require" doc:"answer 401 to requests without a token that holds"`
}

// Region says where the region of a request is found: what is set is asked in the order header, prefixes, mmdb.
type Region struct {
	Header   string        `yaml:"header" form:"token" doc:"header of a trusted proxy with the region"`
	Prefixes []RegionRange `yaml:"prefixes" doc:"own table from addresses to regions; the longest prefix wins"`
	MMDB     string        `yaml:"mmdb" form:"file" doc:"MaxMind database with countries; the region is the ISO code, as DE; read again when it changes"`
}

// RegionRange gives addresses a region.
type RegionRange struct {
	Region   string         `yaml:"region" required:"true" form:"name" doc:"name of the region"`
	Prefixes []netip.Prefix `yaml:"prefixes" required:"true" doc:"addresses in it"`
}

// ClassSource says who may say how much a request matters. Evenkeel-Class of a trusted sender is always read.
type ClassSource struct {
	Header string            `yaml:"header" form:"token" doc:"further header with the class, by the names of names"`
	From   []netip.Prefix    `yaml:"from" doc:"senders that may raise the class; empty: trusted_proxies. Everybody may lower it"`
	Names  map[string]string `yaml:"names" enum:"critical|standard|low" doc:"what others' words mean, beside critical, standard, low and the names of the SRE book"`
}

// Customer is what is known about one customer.
type Customer struct {
	ID     string `yaml:"id" required:"true" doc:"customer, as identify.customer finds it"`
	Class  string `yaml:"class" enum:"|critical|standard|low" doc:"class of its requests; empty: the route's"`
	Weight int    `yaml:"weight" default:"1" min:"1" max:"1000" doc:"its fair share when a pool is overloaded, in relation to others"`
}

// What a limit or quota counts by.
const (
	ByCustomer = "customer"
	ByUser     = "user"
	ByIP       = "ip"
	ByRegion   = "region"
	ByRoute    = "route"
	ByGlobal   = "global"
)

// What a request costs.
const (
	CostRequest  = "request"
	CostBytes    = "bytes"
	CostHeader   = "header"
	CostMeasured = "measured"
)

// How many limits may meet.
const (
	MaxRouteLimits = 63 // of one route: which of them took something is remembered in 64 bits, of which one is taken
	MaxHeldLimits  = 8  // of one route that have to do with a request after its answer: each stands on the stack of every request that waits
	MaxCostHeaders = 2  // different ones of a site: each has a place in every request
)

// Limit bounds how fast requests come, or how many are under way, for each key.
type Limit struct {
	Name        string        `yaml:"name" required:"true" form:"name" doc:"name shown in answers, metrics and logs"`
	By          []string      `yaml:"by" one:"true" required:"true" enum:"customer|user|ip|region|route|global" doc:"what is counted apart: one word, or a list for a combination; a request without such a fact is not counted"`
	Rate        Rate          `yaml:"rate" default:"0/s" doc:"cost per second that is let through; 0/s: no such limit"`
	Burst       int           `yaml:"burst" default:"0" min:"0" max:"1000000000" doc:"cost that may come at once; 0: what the rate gives in one second, at least 1"`
	Concurrency int           `yaml:"concurrency" default:"0" min:"0" doc:"requests under way at once; 0: no such limit"`
	Routes      []string      `yaml:"routes" doc:"only requests of these routes; empty: all"`
	Classes     []string      `yaml:"classes" enum:"critical|standard|low" doc:"only requests of these classes; empty: all"`
	Cost        string        `yaml:"cost" default:"request" enum:"request|bytes|header|measured" doc:"what one request costs: request: the cost of its route; bytes: one per unit_bytes of both bodies; header: the number in cost_header; measured: one per unit of time that the endpoint took, charged after the answer as a debt"`
	CostHeader  string        `yaml:"cost_header" form:"token" doc:"answer header with the cost, taken off before the client sees it"`
	Unit        time.Duration `yaml:"unit" default:"10ms" min:"1us" doc:"endpoint time that costs one, when cost is measured"`
	UnitBytes   Size          `yaml:"unit_bytes" default:"1KiB" min:"1B" doc:"bytes that cost one, when cost is bytes"`
	Adaptive    bool          `yaml:"adaptive" doc:"when the request's pool is overloaded, low classes keep less of this limit: low a quarter, standard half, critical all"`
	Overrides   []Override    `yaml:"overrides" doc:"other numbers for single keys"`
	Keys        int           `yaml:"keys" default:"1000000" min:"1000" max:"100000000" doc:"keys remembered at once; a full table forgets only keys whose budget is whole again"`
	DryRun      bool          `yaml:"dry_run" doc:"count what would be refused, and refuse nothing"`
	Headers     string        `yaml:"headers" default:"auto" enum:"auto|always|refused|off" doc:"which answers carry RateLimit and RateLimit-Policy; auto: all when counted by customer or user, else refusals"`
	Answer      LimitAnswer   `yaml:"answer" doc:"what a refused client is told"`
}

// Override gives single keys other numbers.
type Override struct {
	Key         string `yaml:"key" required:"true" doc:"the key: a customer, user, address, region or route; of a combination the parts in the order of by, with a blank between"`
	Rate        Rate   `yaml:"rate" default:"0/s" doc:"instead of the limit's rate; 0/s: the same"`
	Burst       int    `yaml:"burst" default:"0" min:"0" max:"1000000000" doc:"instead of the limit's burst; 0: the same"`
	Concurrency int    `yaml:"concurrency" default:"0" min:"0" doc:"instead of the limit's concurrency; 0: the same"`
	Calls       int    `yaml:"calls" default:"0" min:"0" doc:"instead of the quota's calls; 0: the same"`
	Bytes       Size   `yaml:"bytes" default:"0B" doc:"instead of the quota's bytes; 0B: the same"`
	Unlimited   bool   `yaml:"unlimited" doc:"this key is not limited at all"`
}

// LimitAnswer is what a refused client is told.
type LimitAnswer struct {
	Status      int    `yaml:"status" default:"0" min:"0" max:"599" doc:"status; 0: 429 for a limit by customer, user or ip, 503 for one that callers share, 403 for a quota"`
	Detail      string `yaml:"detail" doc:"sentence in the answer instead of evenkeel's own"`
	Body        string `yaml:"body" doc:"whole body instead of problem+json"`
	ContentType string `yaml:"content_type" default:"text/plain; charset=utf-8" doc:"type of body"`
	RetryAfter  string `yaml:"retry_after" form:"token" default:"Retry-After" doc:"name of the header with the seconds to wait"`
	Remaining   string `yaml:"remaining" form:"token" doc:"further header with what is left, for clients of older forms, such as X-RateLimit-Remaining"`
}

// Periods of quotas that follow the calendar (UTC).
const (
	PeriodLifetime = "lifetime"
)

// Quota bounds an amount over a period, for each key. Quotas outlive restarts when state_dir is set.
type Quota struct {
	Name      string      `yaml:"name" required:"true" form:"name" doc:"name shown in answers, metrics and logs"`
	By        []string    `yaml:"by" one:"true" required:"true" enum:"customer|user|ip|region|route|global" doc:"what is counted apart: one word, or a list for a combination; a request without such a fact is not counted"`
	Calls     int         `yaml:"calls" default:"0" min:"0" doc:"requests per period; 0: not counted"`
	Bytes     Size        `yaml:"bytes" default:"0B" doc:"bytes of both bodies per period, charged after the answer; 0B: not counted"`
	Period    string      `yaml:"period" required:"true" form:"period" doc:"hour, day, week (from Monday), month or year of the calendar in UTC; lifetime; or a length such as 30d"`
	Sliding   bool        `yaml:"sliding" doc:"count back from now instead of by fixed periods; the period's past is remembered in 60 parts"`
	First     string      `yaml:"first" form:"time" doc:"when the first period began, as 2026-01-31T00:00:00Z: fixed periods count from there, months on its day at its offset from UTC"`
	Routes    []string    `yaml:"routes" doc:"only requests of these routes; empty: all"`
	Classes   []string    `yaml:"classes" enum:"critical|standard|low" doc:"only requests of these classes; empty: all"`
	Overrides []Override  `yaml:"overrides" doc:"other numbers for single keys"`
	Keys      int         `yaml:"keys" default:"1000000" min:"1000" max:"10000000" doc:"keys counted at once; further keys are refused nothing and counted in an event"`
	DryRun    bool        `yaml:"dry_run" doc:"count what would be refused, and refuse nothing"`
	Headers   string      `yaml:"headers" default:"auto" enum:"auto|always|refused|off" doc:"which answers carry RateLimit and RateLimit-Policy; auto: all when counted by customer or user, else refusals"`
	Answer    LimitAnswer `yaml:"answer" doc:"what a refused client is told"`
}

// Modes of protections that can be tried before they bite.
const (
	ModeOn     = "on"
	ModeDryRun = "dry_run"
	ModeOff    = "off"
	ModeDetect = "detect"
	ModeBlock  = "block"
)

// Shed is how a pool protects its endpoints from more requests at once than they can work on. It needs no tuning.
type Shed struct {
	Mode        string  `yaml:"mode" default:"on" enum:"on|dry_run|off" doc:"on: find the right number of requests at once and refuse what is beyond; dry_run: only count what would be refused"`
	Max         int     `yaml:"max" default:"0" min:"0" doc:"never more requests at once than this, whatever the limiter finds; 0: what connections.max allows, and where endpoints speak HTTP/2 no bound"`
	ReserveLow  Percent `yaml:"reserve_low" default:"1%" min:"0%" max:"50%" doc:"share of the places that waiting low requests get before higher classes"`
	ReserveStd  Percent `yaml:"reserve_standard" default:"4%" min:"0%" max:"50%" doc:"share of the places that waiting standard requests get before critical ones"`
	SwitchLow   bool    `yaml:"switch_low" default:"true" doc:"refuse all low requests at once while standard ones have to be refused; they come back by themselves"`
	Fair        string  `yaml:"fair" default:"customer" enum:"customer|user|ip|off" doc:"who shares fairly within a class; who has no such fact counts by ip"`
	Utilisation string  `yaml:"utilisation" form:"token" doc:"answer header with the endpoint's own utilisation, 0 to 1 or ORCA; endpoint-load-metrics is read without being named"`
}

// Guard is how evenkeel protects itself.
type Guard struct {
	Mode      string        `yaml:"mode" default:"on" enum:"on|dry_run|off" doc:"on: refuse before any other work while evenkeel itself is overloaded"`
	Memory    Percent       `yaml:"memory" default:"90%" min:"10%" max:"99%" doc:"share of the memory limit (cgroup or machine) from which low and standard requests are refused; at half the way to all of it critical ones too"`
	Scheduler time.Duration `yaml:"scheduler" default:"50ms" min:"1ms" doc:"99th percentile of the time that runnable work waits for a processor, from which refusals begin"`
	Files     Percent       `yaml:"files" default:"90%" min:"10%" max:"99%" doc:"share of the file descriptors from which idle connections are closed"`
}

// Screen is how requests are checked for attacks: cheap own checks first, then the OWASP Core Rule Set.
type Screen struct {
	Mode        string   `yaml:"mode" default:"off" enum:"off|detect|block" doc:"off, detect (count and log) or block"`
	Paranoia    int      `yaml:"paranoia" default:"1" min:"1" max:"4" doc:"paranoia level of the rule set"`
	Anomaly     int      `yaml:"anomaly" default:"5" min:"1" max:"1000" doc:"anomaly score from which a request is an attack"`
	Exclude     []string `yaml:"exclude" form:"exclusion" doc:"rules that do not hold: numbers, ranges such as 942000-942999, or tags"`
	BodyBytes   Size     `yaml:"body_bytes" default:"16KiB" max:"1MiB" doc:"how much of a request body is looked at; what follows passes unseen"`
	Sample      Percent  `yaml:"sample" default:"100%" min:"0%" max:"100%" doc:"share of requests that the rule set looks at; the cheap checks look at all"`
	Always      bool     `yaml:"always" doc:"never give way: when there is no place in the bulkhead in time, refuse with 503; else such requests pass unscreened and are counted"`
	CheapChecks bool     `yaml:"cheap_checks" default:"true" doc:"method, path, size and obvious injections, before the rule set"`
}

// Screening is the part of screening that is the same for all routes.
type Screening struct {
	Default     Screen        `yaml:"default" doc:"for routes that say nothing of their own"`
	Directives  []string      `yaml:"directives" form:"file" doc:"files of further rules in the language of ModSecurity, read after the rule set"`
	Concurrency int           `yaml:"concurrency" default:"0" min:"0" doc:"requests screened at once; 0: one per processor"`
	Wait        time.Duration `yaml:"wait" default:"20ms" min:"0s" doc:"how long a request may wait for a place"`
	Log         bool          `yaml:"log" default:"true" doc:"log what the rules found, without values of the request"`
}

// Rule blocks or limits what matches a pattern. All that is set must match.
type Rule struct {
	Name      string            `yaml:"name" required:"true" form:"name" doc:"name shown in answers, metrics and logs"`
	Paths     []string          `yaml:"paths" form:"path" doc:"/exact or /prefix/*; empty: all"`
	PathMatch string            `yaml:"path_match" form:"regexp" doc:"regular expression that the path must match"`
	Hosts     []string          `yaml:"hosts" form:"host" doc:"host names, *.name for any sub-domain; empty: all"`
	Methods   []string          `yaml:"methods" form:"method" doc:"request methods; empty: all"`
	Headers   map[string]string `yaml:"headers" form:"patterns" doc:"request headers that must match these regular expressions"`
	UserAgent string            `yaml:"user_agent" form:"regexp" doc:"regular expression that User-Agent must match"`
	Query     string            `yaml:"query" form:"regexp" doc:"regular expression that the query must match"`
	From      []netip.Prefix    `yaml:"from" doc:"addresses of clients; empty: all"`
	Regions   []string          `yaml:"regions" doc:"regions of clients; empty: all"`
	Not       bool              `yaml:"not" doc:"the rule holds where the patterns do not match"`
	Action    string            `yaml:"action" required:"true" enum:"block|allow|count|limit" doc:"block: refuse with 403; allow: no later rule and no screening; count: only count; limit: refuse above count per window"`
	Count     int               `yaml:"count" default:"0" min:"0" doc:"requests per window and group, for limit"`
	Window    time.Duration     `yaml:"window" default:"1m" min:"1s" max:"1h" doc:"length of the window, for limit"`
	By        []string          `yaml:"by" one:"true" enum:"customer|user|ip|region|route|global" doc:"group that is counted apart, for limit; empty: ip"`
	Status    int               `yaml:"status" default:"0" min:"0" max:"599" doc:"status of refusals; 0: 403 for block, 429 for limit"`
}

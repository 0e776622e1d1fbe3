// Package site is the site file as plain data: strict decoding, defaults, validation, and what changed between two of them.
package site

import (
	"net/netip"
	"time"
)

// Site is one whole site file after defaults were applied and every check passed.
// It is never changed after Load returned it; a reload makes a new one.
//
// The struct tags are the single source for the decoder, the printed site and the JSON Schema:
//
//	yaml     key in the file
//	default  value when the key is absent, in the file's own notation ("5s", "16KiB", "99%")
//	enum     allowed words, separated by |
//	min,max  bounds of a number, in the file's own notation
//	required the key must be there and must not be empty
//	form     what a text must look like; see forms.go. A file is resolved against the folder of the file that names it
//	words    words that are taken beside the form, separated by |
//	unit     /s: a size that is a rate and may carry /s
//	doc      one line for `evenkeel check --schema` and for the reference page
type Site struct {
	Name string `yaml:"name" form:"name" default:"evenkeel" doc:"name of this site, shown in the console and in events"`
	Zone string `yaml:"zone" form:"name" doc:"zone this node is in; endpoints of the same zone are preferred"`
	// Include is empty after loading: what the files hold is merged, and Files names them.
	Include   []string             `yaml:"include" doc:"further files or folders (every *.yaml in them) merged into this one; relative to this file"`
	Admin     Admin                `yaml:"admin" doc:"console, JSON API, /metrics, /healthz and /readyz"`
	Listeners map[string]*Listener `yaml:"listeners" form:"name" doc:"addresses that evenkeel serves"`
	Pools     map[string]*Pool     `yaml:"pools" form:"name" doc:"named sets of endpoints"`
	Routes    []*Route             `yaml:"routes" doc:"which request goes to which pool; the first that matches wins"`
	Identify  Identify             `yaml:"identify" doc:"how facts about the sender are found"`
	Limits    []*Limit             `yaml:"limits" doc:"how fast requests may come, and how many at once, by who asks"`
	Quotas    []*Quota             `yaml:"quotas" doc:"how much may be asked in a period, by who asks"`
	Rules     []*Rule              `yaml:"rules" doc:"own patterns that are blocked, allowed, counted or limited, in order, before screening"`
	Screening Screening            `yaml:"screening" doc:"checking requests for attacks (WAF)"`
	Cache     Cache                `yaml:"cache" doc:"what the caches of all routes share"`
	Switches  map[string]*Switch   `yaml:"switches" form:"name" doc:"features that an application can give up, by name; routes name those that they have"`
	Bulkhead  Bulkheads            `yaml:"bulkhead" doc:"how many requests may be under way at once, which pools share"`
	Guard     Guard                `yaml:"guard" doc:"how evenkeel protects itself from overload"`
	Monitor   Monitor              `yaml:"monitor" doc:"what is remembered of figures, and who is asked for them"`
	Traces    *Traces              `yaml:"traces" doc:"record requests as spans by W3C Trace Context, and send them to a collector"`
	Logs      *Logs                `yaml:"logs" doc:"send log records of requests and events to a collector"`
	Events    Events               `yaml:"events" doc:"what is remembered of what happened, and of single requests"`
	AccessLog AccessLog            `yaml:"access_log" doc:"one line per request or connection"`
	Stop      Stop                 `yaml:"stop" doc:"how long stopping may take"`
	StateDir  string               `yaml:"state_dir" form:"file" doc:"folder for what must survive a restart; empty keeps nothing on disk"`

	Objectives []*Objective `yaml:"objectives" doc:"what the service promises: shares of good requests over a window, their error budgets and burn rates"`
	Alerts     Alerts       `yaml:"alerts" doc:"who is told when something needs a person; shipped alerts are on by default"`

	// Files lists every file and included folder that the site was read from, secrets too, as absolute paths in reading
	// order: what must be watched for changes. Certificates are not among them.
	Files []string `yaml:"-"`
}

// Protocols of a listener.
const (
	ProtocolHTTP = "http"
	ProtocolTCP  = "tcp"
	ProtocolUDP  = "udp"
)

// HalfClosedServe is the value of Listener.HalfClosed with which clients that ended their sending side still get their answers.
const HalfClosedServe = "serve"

// Listener is one address that evenkeel serves.
type Listener struct {
	Name          string              `yaml:"-"`
	Listen        string              `yaml:"listen" required:"true" form:"listen" doc:"host:port; an empty host means all addresses"`
	Protocol      string              `yaml:"protocol" default:"http" enum:"http|tcp|udp" doc:"what is spoken here"`
	HTTP2         bool                `yaml:"http2" default:"true" doc:"offer HTTP/2 by ALPN over TLS and by prior knowledge without"`
	TLS           *TLS                `yaml:"tls" doc:"end TLS here"`
	HalfClosed    string              `yaml:"half_closed" default:"leave" enum:"leave|serve" doc:"what is done for an HTTP/1.1 client that ended its sending side while it waits for its answer: most have closed the connection"`
	ProxyProtocol ListenProxyProtocol `yaml:"proxy_protocol" doc:"take the client's address from a PROXY header, v1 or v2"`
	Limits        Limits              `yaml:"limits" doc:"what one listener takes at the most"`

	// Sniff is set by Load on tcp listeners without TLS that have routes with hosts: the server name of TLS
	// clients is then looked for before routing.
	Sniff bool `yaml:"-"`
}

// TLS is how a listener ends TLS.
type TLS struct {
	Certificates []Certificate `yaml:"certificates" required:"true" doc:"pairs of PEM files, chosen by SNI; the first serves clients that name no known host"`
	ClientCA     string        `yaml:"client_ca" form:"file" doc:"file of authorities for client certificates"`
	ClientAuth   string        `yaml:"client_auth" default:"none" enum:"none|request|require" doc:"whether clients show a certificate"`
	MinVersion   string        `yaml:"min_version" default:"1.2" enum:"1.2|1.3" doc:"lowest TLS version"`
}

// Certificate is a pair of PEM files, read again when they change.
type Certificate struct {
	Cert string `yaml:"cert" required:"true" form:"file" doc:"certificate chain file, PEM"`
	Key  string `yaml:"key" required:"true" form:"file" doc:"private key file, PEM"`
}

// ListenProxyProtocol says who may speak for others by a PROXY header.
type ListenProxyProtocol struct {
	Accept string         `yaml:"accept" default:"off" enum:"off|optional|required" doc:"whether connections start with a PROXY header"`
	From   []netip.Prefix `yaml:"from" doc:"senders whose PROXY header is believed; empty with accept on: every sender"`
}

// Limits is what one listener takes at the most. A zero number is no limit, except where said otherwise.
type Limits struct {
	Connections      int           `yaml:"connections" default:"20000" min:"1" doc:"connections at once"`
	ConnectionsPerIP int           `yaml:"connections_per_ip" default:"0" min:"0" doc:"connections at once from one address (IPv6: one /64); 0: half of connections"`
	AcceptRate       Rate          `yaml:"accept_rate" default:"0/s" doc:"new connections per second; 0/s: no limit"`
	HandshakeRate    Rate          `yaml:"handshake_rate" default:"0/s" doc:"TLS handshakes per second; 0/s: no limit"`
	HandshakeTimeout time.Duration `yaml:"handshake_timeout" default:"10s" min:"1ms" doc:"time for the TLS handshake and the PROXY header"`
	HeaderBytes      Size          `yaml:"header_bytes" default:"16KiB" min:"1KiB" max:"1MiB" doc:"size of a request head"`
	Headers          int           `yaml:"headers" default:"100" min:"1" max:"1000" doc:"fields in a request head or trailer"`
	HeaderTimeout    time.Duration `yaml:"header_timeout" default:"5s" min:"1ms" doc:"time from the first byte of a request head to its last"`
	IdleTimeout      time.Duration `yaml:"idle_timeout" default:"60s" min:"1ms" doc:"keep-alive connections and tcp or udp sessions without traffic end after this"`
	MinRate          Size          `yaml:"min_rate" unit:"/s" default:"240B/s" doc:"request bodies that come slower than this, and pieces of an answer (up to 64 KiB) that are taken slower, are ended after a grace of 5s; what stands still is ended by idle_timeout"`
	BodyBytes        Size          `yaml:"body_bytes" default:"0B" doc:"size of a request body; 0B: no limit"`
	Requests         int           `yaml:"requests" default:"0" min:"0" doc:"requests on one connection before it is closed; 0: no limit"`
	Streams          int           `yaml:"streams" default:"100" min:"1" max:"10000" doc:"HTTP/2 streams at once on one connection; each holds up to 64 KiB of a body that nobody takes"`
}

// Methods of a pool.
const (
	MethodRoundRobin    = "round_robin"
	MethodWeighted      = "weighted"
	MethodLeastRequests = "least_requests"
	MethodEWMA          = "ewma"
	MethodHash          = "hash"
	MethodPrequal       = "prequal"
)

// Pool is a named set of endpoints and how one of them is chosen.
type Pool struct {
	Name          string           `yaml:"-"`
	Endpoints     []Endpoint       `yaml:"endpoints" doc:"fixed endpoints: an address, or a mapping with address, weight, zone, priority"`
	Discover      *Discover        `yaml:"discover" doc:"find endpoints by DNS or from a file"`
	Method        string           `yaml:"method" default:"least_requests" enum:"round_robin|weighted|least_requests|ewma|hash|prequal" doc:"how an endpoint is chosen"`
	Hash          Hash             `yaml:"hash" doc:"what the hash method looks at"`
	Affinity      *Affinity        `yaml:"affinity" doc:"keep a client on its endpoint by a cookie"`
	SlowStart     time.Duration    `yaml:"slow_start" default:"30s" min:"0s" doc:"time in which an endpoint that came back or is new gets up to its full share; not at start-up"`
	Panic         Percent          `yaml:"panic" default:"50%" min:"0%" max:"100%" doc:"when less than this share of the pool's capacity (weights) is healthy, all endpoints are used, sick ones too; 0%: never"`
	Overprovision Percent          `yaml:"overprovision" default:"140%" min:"100%" doc:"a priority or the local zone keeps all traffic while its healthy share times this is 100% or more"`
	DrainTimeout  time.Duration    `yaml:"drain_timeout" default:"30s" min:"0s" doc:"how long a draining endpoint may finish what it has"`
	Probe         *Probe           `yaml:"probe" doc:"how health is found out; absent: by tcp connect"`
	HTTP          string           `yaml:"http" default:"auto" enum:"auto|h1|h2" doc:"what is spoken to endpoints: auto is h2 when TLS negotiates it, else HTTP/1.1; h2 without tls is prior knowledge; gRPC needs h2"`
	TLS           *EndpointTLS     `yaml:"tls" doc:"speak TLS to endpoints"`
	Timeouts      Timeouts         `yaml:"timeouts" doc:"how long endpoints may take"`
	Connections   Connections      `yaml:"connections" doc:"connections to each endpoint"`
	Shed          Shed             `yaml:"shed" doc:"protect the endpoints from overload"`
	RetryBudget   Percent          `yaml:"retry_budget" default:"10%" min:"0%" max:"100%" doc:"repeats of failed attempts and hedges, as a share of the pool's requests of the last ten seconds; ten are always allowed"`
	Outliers      Outliers         `yaml:"outliers" doc:"take endpoints out that fail or are slow beside the others"`
	Breaker       Breaker          `yaml:"breaker" doc:"refuse at once while everything behind the pool fails"`
	Spill         Spill            `yaml:"spill" doc:"what endpoints of other zones and priorities take when ours fail"`
	Bulkhead      PoolBulkhead     `yaml:"bulkhead" doc:"the pool's part of the node, and how it is shared"`
	Metrics       *EndpointMetrics `yaml:"metrics" doc:"keep the metrics that each endpoint shows of itself; absent: they are not asked for any"`
	ProxyProtocol string           `yaml:"proxy_protocol" default:"off" enum:"off|v1|v2" doc:"send a PROXY header on connections to endpoints (tcp; http connections are then not shared between clients)"`
}

// Endpoint is one address that does the work.
type Endpoint struct {
	Address  string `yaml:"address" required:"true" form:"address" doc:"host:port"`
	Weight   int    `yaml:"weight" default:"1" min:"0" max:"65535" doc:"share of traffic in relation to the others; 0: none"`
	Zone     string `yaml:"zone" form:"name" doc:"zone the endpoint is in"`
	Priority int    `yaml:"priority" default:"1" min:"1" max:"16" doc:"1 is used first; higher numbers take what lower ones cannot"`
}

// Discover finds endpoints. Exactly one of its fields is set.
type Discover struct {
	DNS  *DiscoverDNS  `yaml:"dns" doc:"by DNS records"`
	File *DiscoverFile `yaml:"file" doc:"from a file in the shape of Prometheus file_sd"`
}

// DiscoverDNS finds endpoints by DNS.
type DiscoverDNS struct {
	Name     string        `yaml:"name" required:"true" form:"domain" doc:"name to ask for"`
	Type     string        `yaml:"type" default:"a" enum:"a|aaaa|srv" doc:"record type; srv brings port, weight and priority"`
	Port     int           `yaml:"port" min:"0" max:"65535" doc:"port of the endpoints; not with srv"`
	Resolver string        `yaml:"resolver" form:"address" doc:"host:port of the resolver; empty: the system's"`
	MinTTL   time.Duration `yaml:"min_ttl" default:"1s" min:"100ms" doc:"records are asked for again after their TTL, but not sooner than this"`
	MaxTTL   time.Duration `yaml:"max_ttl" default:"5m" min:"1s" doc:"and not later than this"`
}

// DiscoverFile finds endpoints in a watched file.
type DiscoverFile struct {
	Path string `yaml:"path" required:"true" form:"file" doc:"JSON or YAML list of {targets: [host:port], labels: {weight, zone, priority}}"`
}

// Sources of a hash.
const (
	HashIP       = "ip"
	HashHeader   = "header"
	HashCookie   = "cookie"
	HashPath     = "path"
	HashTwoTuple = "2-tuple" // client IP, listener IP
	HashTriple   = "3-tuple" // and protocol
	HashFive     = "5-tuple" // and both ports
)

// Hash says what the hash method looks at.
type Hash struct {
	By      string  `yaml:"by" default:"ip" enum:"ip|header|cookie|path|2-tuple|3-tuple|5-tuple" doc:"what is hashed"`
	Name    string  `yaml:"name" form:"token" doc:"name of the header or cookie"`
	Balance Percent `yaml:"balance" default:"150%" min:"100%" doc:"no endpoint takes more than this part of the mean load; the next in the table takes it; 100% is strictest"`
}

// Affinity keeps a client on its endpoint by a cookie that evenkeel sets.
type Affinity struct {
	Cookie string        `yaml:"cookie" form:"token" default:"evenkeel" doc:"name of the cookie"`
	TTL    time.Duration `yaml:"ttl" default:"0s" min:"0s" doc:"life of the cookie; 0s: the browser session"`
}

// Probe is how the health of an endpoint is found out. At most one kind is set; none is tcp.
type Probe struct {
	HTTP    *ProbeHTTP    `yaml:"http" doc:"by an HTTP request"`
	TCP     *ProbeTCP     `yaml:"tcp" doc:"by a TCP connection"`
	TLS     *ProbeTLS     `yaml:"tls" doc:"by a TLS handshake"`
	GRPC    *ProbeGRPC    `yaml:"grpc" doc:"by grpc.health.v1.Health/Check"`
	Exec    *ProbeExec    `yaml:"exec" doc:"by a command; exit code 0 is healthy"`
	Off     bool          `yaml:"off" doc:"do not probe: every endpoint counts as healthy until requests fail; the default of pools that only udp listeners use, which no probe here can ask"`
	Every   time.Duration `yaml:"every" default:"5s" min:"10ms" doc:"time between two probes of one endpoint"`
	Timeout time.Duration `yaml:"timeout" default:"2s" min:"1ms" doc:"a probe that takes longer has failed"`
	Rise    int           `yaml:"rise" default:"1" min:"1" max:"100" doc:"successes in a row that make a sick endpoint healthy"`
	Fall    int           `yaml:"fall" default:"3" min:"1" max:"100" doc:"failures in a row that make a healthy endpoint sick"`
	Port    int           `yaml:"port" default:"0" min:"0" max:"65535" doc:"port to probe; 0: the endpoint's"`
}

// ProbeHTTP asks for a path. TLS follows the pool's tls, unless Scheme says otherwise.
type ProbeHTTP struct {
	Path    string            `yaml:"path" form:"target" default:"/" doc:"path to ask for"`
	Method  string            `yaml:"method" form:"method" default:"GET" doc:"request method"`
	Host    string            `yaml:"host" form:"authority" doc:"Host header; empty: the endpoint's address"`
	Scheme  string            `yaml:"scheme" default:"auto" enum:"auto|http|https" doc:"auto: https when the pool speaks TLS"`
	Headers map[string]string `yaml:"headers" form:"headers" doc:"request headers"`
	Status  []string          `yaml:"status" form:"status" default:"200-399" doc:"statuses that count as healthy: numbers and ranges"`
	Header  map[string]string `yaml:"header" form:"patterns" doc:"answer headers that must match these regular expressions"`
	Body    string            `yaml:"body" form:"regexp" doc:"regular expression that the first 64 KiB of the body must match"`
}

// ProbeTCP connects, and may talk.
type ProbeTCP struct {
	Send   string `yaml:"send" doc:"bytes to send after connecting"`
	Expect string `yaml:"expect" form:"regexp" doc:"regular expression that the answer must match"`
}

// ProbeTLS shakes hands.
type ProbeTLS struct {
	ServerName string        `yaml:"server_name" form:"domain" doc:"SNI; empty: the pool's"`
	Verify     bool          `yaml:"verify" default:"true" doc:"verify the certificate"`
	Expires    time.Duration `yaml:"expires" default:"0s" doc:"fail when the certificate ends within this"`
}

// ProbeGRPC asks the standard health service.
type ProbeGRPC struct {
	Service string `yaml:"service" doc:"service name to ask for; empty: the server as a whole"`
}

// ProbeExec runs a command without a shell. ADDRESS, HOST and PORT are in its environment.
type ProbeExec struct {
	Command []string `yaml:"command" required:"true" doc:"program and arguments"`
}

// EndpointTLS is how evenkeel speaks TLS to endpoints.
type EndpointTLS struct {
	CA         string `yaml:"ca" form:"file" doc:"file of authorities; empty: the system's"`
	ServerName string `yaml:"server_name" form:"domain" doc:"SNI and name to verify; empty: the endpoint's host"`
	Cert       string `yaml:"cert" form:"file" doc:"own certificate for mTLS"`
	Key        string `yaml:"key" form:"file" doc:"own key for mTLS"`
	Verify     bool   `yaml:"verify" default:"true" doc:"verify the endpoint's certificate"`
}

// Timeouts is how long endpoints may take.
type Timeouts struct {
	Connect   time.Duration `yaml:"connect" default:"2s" min:"1ms" doc:"TCP connect and TLS handshake"`
	FirstByte time.Duration `yaml:"first_byte" default:"60s" min:"1ms" doc:"from the whole request sent to the first byte of the answer; 504 after it"`
	Idle      time.Duration `yaml:"idle" default:"60s" min:"1ms" doc:"an answer, upgraded connection or tcp session without bytes for this long is ended"`
	KeepAlive time.Duration `yaml:"keep_alive" default:"30s" min:"0s" doc:"unused connections to endpoints are closed after this"`
}

// Connections bounds the connections to each endpoint.
type Connections struct {
	Max  int `yaml:"max" default:"10000" min:"1" doc:"connections to one endpoint at once; more are refused with 503"`
	Idle int `yaml:"idle" default:"1024" min:"0" doc:"unused connections kept for one endpoint; absent: not more than max"`
}

// Outliers is when an endpoint is ejected because of its answers, although probes find it well: compared with the rest
// of its pool, so that a fault of all is nobody's.
type Outliers struct {
	Mode  string        `yaml:"mode" default:"on" enum:"on|dry_run|off" doc:"on: eject endpoints that fail or are slow beside the others; dry_run: only tell"`
	Slow  Percent       `yaml:"slow" default:"400%" min:"150%" doc:"an endpoint whose typical answer takes this part of the others' is slow; 400%: four times as long"`
	First time.Duration `yaml:"first" default:"30s" min:"1s" doc:"how long the first ejection lasts; each further one lasts longer by this"`
	Max   time.Duration `yaml:"max" default:"5m" min:"1s" doc:"longest ejection"`
}

// Classes of requests, most important first.
const (
	ClassCritical = "critical"
	ClassStandard = "standard"
	ClassLow      = "low"
)

// Route says what becomes of a request. For tcp listeners with hosts, the host is the SNI of a TLS client.
// Exactly one of Pool, Redirect and Respond is set.
type Route struct {
	Name      string            `yaml:"name" form:"name" doc:"name shown in metrics and logs; empty: made from the position"`
	Listeners []string          `yaml:"listeners" doc:"listeners it holds for; empty: all"`
	Hosts     []string          `yaml:"hosts" form:"host" doc:"host names, *.name for any sub-domain; empty: all"`
	Paths     []string          `yaml:"paths" form:"path" doc:"/exact or /prefix/*; empty: all"`
	Methods   []string          `yaml:"methods" form:"method" doc:"request methods; empty: all"`
	Headers   map[string]string `yaml:"headers" form:"headers" doc:"request headers that must have these values; * means present"`
	Pool      string            `yaml:"pool" doc:"pool that answers"`
	Redirect  *Redirect         `yaml:"redirect" doc:"answer with a redirect"`
	Respond   *Respond          `yaml:"respond" doc:"answer with a fixed text"`
	Class     string            `yaml:"class" default:"standard" enum:"critical|standard|low" doc:"how much the requests matter"`
	Deadline  time.Duration     `yaml:"deadline" default:"0s" min:"0s" doc:"the whole request must be answered within this, time in queues and repeats included; clients may ask for less, never for more; 0s: no limit beyond the pool's timeouts"`
	Tell      []string          `yaml:"tell_deadline" default:"evenkeel,grpc" enum:"evenkeel|envoy|grpc" doc:"forms in which endpoints are told how long they may still take: Evenkeel-Deadline, X-Envoy-Expected-Rq-Timeout-Ms, grpc-timeout (for gRPC only); those that the client used are told anyway"`
	Retry     Retry             `yaml:"retry" doc:"trying again what failed, on another endpoint"`
	Hedge     *Hedge            `yaml:"hedge" doc:"send requests that only read and wait for long to a second endpoint too: GET, HEAD, safe_calls; absent: never"`
	SafeCalls []string          `yaml:"safe_calls" doc:"calls of gRPC with one message that only read, such as /shop.Catalogue/Get, or /shop.Search/* for all of a service: they may be tried again, and hedged"`
	Cost      int               `yaml:"cost" default:"1" min:"0" max:"1000000" doc:"what one request costs in limits that count requests; 0: nothing"`
	Bulkhead  *RouteBulkhead    `yaml:"bulkhead" doc:"the route's part of its pool"`
	Screen    *Screen           `yaml:"screen" doc:"check requests for attacks; absent: as screening.default says"`
	BodyBytes Size              `yaml:"body_bytes" default:"0B" doc:"size of a request body; 0B: the listener's limit"`
	Cache     *RouteCache       `yaml:"cache" doc:"keep answers and give them to others; {} keeps what answers allow"`
	Fallback  *Fallback         `yaml:"fallback" doc:"what answers when the pool cannot"`
	Switches  []string          `yaml:"switches" doc:"switches whose names endpoints are told in Evenkeel-Degrade while they are on"`
	Rewrite   Rewrite           `yaml:"rewrite" doc:"what is changed before the request is sent"`
	Request   Edits             `yaml:"request" doc:"request headers added and removed"`
	Response  Edits             `yaml:"response" doc:"response headers added and removed"`
}

// Retry is how attempts that failed are made again: before a byte of the answer went to the client, for methods that may be
// repeated, requests with an Idempotency-Key, and what provably no endpoint saw.
type Retry struct {
	Attempts       int           `yaml:"attempts" default:"3" min:"1" max:"3" doc:"how often a request is tried in all; 1: once, and never hedged"`
	On             []string      `yaml:"on" default:"connect,reset,timeout,502,503,504,429,grpc_unavailable,grpc_resource_exhausted" enum:"connect|reset|timeout|502|503|504|429|grpc_unavailable|grpc_resource_exhausted" doc:"failures that are tried again; timeout is that of attempt_timeout, 429 only counts with a short Retry-After"`
	AttemptTimeout time.Duration `yaml:"attempt_timeout" default:"0s" min:"0s" doc:"time for one attempt, from the request sent to the answer head; 0s: the pool's first_byte, after which nothing is tried again"`
	MaxWait        time.Duration `yaml:"max_wait" default:"1s" min:"0s" max:"30s" doc:"longest Retry-After, or pushback of gRPC, that is waited for"`
	BodyBytes      Size          `yaml:"body_bytes" default:"64KiB" max:"64KiB" doc:"request bodies up to this are kept, so that they can be sent again: read before they are sent on if their length is told, else copied on their way"`
}

// Hedge is when a second endpoint is asked beside the first. The first answer counts; hedges are taken from the retry budget.
type Hedge struct {
	After string `yaml:"after" form:"after" default:"p95" doc:"time without an answer after which a second endpoint is asked: a length, or p50 to p99 of the route's answers of late"`
}

// Redirect sends the client elsewhere. Empty parts are kept as the client sent them.
type Redirect struct {
	Status int    `yaml:"status" default:"308" enum:"301|302|303|307|308" doc:"status of the answer"`
	Scheme string `yaml:"scheme" enum:"|http|https" doc:"new scheme"`
	Host   string `yaml:"host" form:"authority" doc:"new host, may carry a port"`
	Path   string `yaml:"path" form:"target" doc:"new path; the query is kept"`
}

// Respond answers with a fixed text.
type Respond struct {
	Status  int               `yaml:"status" default:"200" min:"200" max:"599" doc:"status of the answer"`
	Body    string            `yaml:"body" doc:"text of the answer"`
	Headers map[string]string `yaml:"headers" form:"headers" doc:"headers of the answer"`
}

// Rewrite changes where a request goes.
type Rewrite struct {
	Host   string `yaml:"host" form:"authority" doc:"Host header for the endpoint; empty: the client's"`
	Prefix string `yaml:"prefix" form:"target" doc:"the matched path prefix is replaced by this"`
	Path   string `yaml:"path" form:"target" doc:"the whole path is replaced by this; the query is kept"`
}

// Edits changes header fields; removal comes first, then set, then add.
type Edits struct {
	Remove []string          `yaml:"remove" form:"token" doc:"fields taken away"`
	Set    map[string]string `yaml:"set" form:"headers" doc:"fields that replace all of the same name"`
	Add    map[string]string `yaml:"add" form:"headers" doc:"fields added beside those of the same name"`
}

// AccessLog is one line per request or connection. Full queues drop lines and count them; they never hold a request.
type AccessLog struct {
	Path   string  `yaml:"path" form:"file" words:"off|stdout|stderr" default:"off" doc:"file to append to, stdout, stderr, or off"`
	Format string  `yaml:"format" default:"json" enum:"json|common" doc:"form of a line"`
	Sample Percent `yaml:"sample" default:"100%" min:"0%" max:"100%" doc:"share of requests that are logged; failed ones always are"`
}

// Stop bounds stopping.
type Stop struct {
	Drain time.Duration `yaml:"drain" default:"30s" min:"0s" doc:"requests and connections may finish for this long after SIGTERM or an upgrade"`
}

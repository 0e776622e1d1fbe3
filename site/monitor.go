package site

import "time"

// Monitor is what the node remembers of itself, its endpoints and its machine.
type Monitor struct {
	Off         bool               `yaml:"off" doc:"keep no history; /metrics stays as it is"`
	ScrapeEvery time.Duration      `yaml:"scrape_every" default:"10s" min:"1s" max:"10m" doc:"time between two looks at the own counters, the machine and endpoints with metrics"`
	Retention   Retention          `yaml:"retention" doc:"how much history is kept; what comes first holds"`
	Series      int                `yaml:"series" default:"20000" min:"1000" max:"2000000" doc:"series in memory at once, about 4 KiB each; further ones are dropped and counted, those of endpoints and senders first"`
	Host        bool               `yaml:"host" default:"true" doc:"keep figures of the machine too, by the names of node_exporter: CPU, memory, pressure, files, sockets, network"`
	Query       MonitorQuery       `yaml:"query" doc:"what one query may cost"`
	RemoteWrite []*RemoteWrite     `yaml:"remote_write" doc:"send every sample on, by the remote-write protocol of Prometheus"`
	OTLP        *OTLP              `yaml:"otlp" doc:"send the node's own figures to a collector"`
	OTLPEvery   time.Duration      `yaml:"otlp_every" default:"30s" min:"1s" max:"10m" doc:"time between two messages to that collector"`
	Prometheus  *MonitorPrometheus `yaml:"prometheus" doc:"ask this Prometheus instead of keeping history here"`
}

// Retention bounds the history.
type Retention struct {
	Time time.Duration `yaml:"time" default:"15d" min:"2h" doc:"samples older than this are deleted; without state_dir never more than 1d"`
	Size Size          `yaml:"size" default:"1GiB" min:"16MiB" doc:"bytes on disk; the oldest blocks are deleted first; without state_dir never more than 256MiB"`
}

// MonitorQuery bounds queries.
type MonitorQuery struct {
	Timeout time.Duration `yaml:"timeout" default:"30s" min:"100ms" max:"10m" doc:"a query that takes longer is ended"`
	Samples int           `yaml:"samples" default:"2000000" min:"1000" max:"100000000" doc:"samples that one query may hold in memory, 16 bytes each"`
}

// RemoteWrite is one place that samples are sent on to.
type RemoteWrite struct {
	URL     string            `yaml:"url" required:"true" form:"url" doc:"URL that takes remote write, such as https://prometheus.internal/api/v1/write"`
	Token   Secret            `yaml:"token" doc:"bearer token to show"`
	User    string            `yaml:"user" doc:"user of basic authorization"`
	Pass    Secret            `yaml:"password" doc:"its password"`
	Headers map[string]string `yaml:"headers" form:"headers" doc:"further request headers"`
	CA      string            `yaml:"ca" form:"file" doc:"file of authorities for https; empty: the system's"`
	Labels  map[string]string `yaml:"labels" doc:"labels added to every sample that has none of that name, so that sites can be told apart"`
	Queue   int               `yaml:"queue" default:"100000" min:"1000" max:"10000000" doc:"samples that wait while the place does not answer; the oldest are dropped first, and counted"`
	Timeout time.Duration     `yaml:"timeout" default:"10s" min:"100ms" max:"5m" doc:"how long one request may take"`
}

// MonitorPrometheus is an existing Prometheus, or what speaks like one.
type MonitorPrometheus struct {
	URL   string `yaml:"url" required:"true" form:"url" doc:"URL of its API without /api/v1, such as http://prometheus.internal:9090"`
	Token Secret `yaml:"token" doc:"bearer token to show"`
	CA    string `yaml:"ca" form:"file" doc:"file of authorities for https; empty: the system's"`
}

// EndpointMetrics says that the endpoints of a pool show metrics of their own.
type EndpointMetrics struct {
	Path    string        `yaml:"path" form:"target" default:"/metrics" doc:"path to ask for, over TLS when the pool has tls"`
	Port    int           `yaml:"port" default:"0" min:"0" max:"65535" doc:"port to ask; 0: the endpoint's"`
	Timeout time.Duration `yaml:"timeout" default:"5s" min:"10ms" max:"1m" doc:"an endpoint that takes longer has not answered"`
	Samples int           `yaml:"samples" default:"5000" min:"1" max:"1000000" doc:"an endpoint that shows more samples than this is not kept"`
}

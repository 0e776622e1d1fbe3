package site

import (
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Traces says which requests are recorded as spans, and where they go.
type Traces struct {
	OTLP    OTLP    `yaml:"otlp" required:"true" doc:"collector that takes spans by OTLP"`
	Sample  Percent `yaml:"sample" default:"1%" min:"0%" max:"100%" doc:"share of the traces that begin here which is recorded"`
	Parents string  `yaml:"parents" default:"all" enum:"all|trusted|none" doc:"whose traceparent says whether a request is recorded: that of all senders, of trusted proxies only, or nobody's: then the share decides"`
	Rate    Rate    `yaml:"rate" default:"100/s" min:"0/s" doc:"no more requests than this are recorded, whoever asks for it; 0/s: no limit"`
}

// Logs says what is told as log records, and where they go.
type Logs struct {
	OTLP   OTLP    `yaml:"otlp" required:"true" doc:"collector that takes log records by OTLP"`
	Sample Percent `yaml:"sample" default:"1%" min:"0%" max:"100%" doc:"share of requests that are told of; refused and failed ones always are"`
	Events bool    `yaml:"events" default:"true" doc:"tell of events too: ejections, breakers, reloads, alerts and the like"`
}

// OTLP is a collector that speaks OpenTelemetry's protocol.
type OTLP struct {
	URL      string            `yaml:"url" required:"true" form:"url" doc:"URL of the collector, such as http://127.0.0.1:4318; over http, /v1/traces, /v1/metrics or /v1/logs is added when it has no path"`
	Protocol string            `yaml:"protocol" default:"http" enum:"http|grpc" doc:"http: protobuf over HTTP, usually port 4318; grpc: usually port 4317"`
	Headers  map[string]string `yaml:"headers" form:"headers" doc:"further request headers"`
	Token    Secret            `yaml:"token" doc:"bearer token to show"`
	CA       string            `yaml:"ca" form:"file" doc:"file of authorities for https; empty: the system's"`
	Timeout  time.Duration     `yaml:"timeout" default:"10s" min:"100ms" max:"1m" doc:"how long one message may take, repeats included; then it is dropped and counted"`
}

// telemetry checks what the fields about collectors say of each other.
func (c *checker) telemetry() {
	if t := c.site.Traces; t != nil {
		c.collector(&t.OTLP, "traces.otlp")
	}
	if l := c.site.Logs; l != nil {
		c.collector(&l.OTLP, "logs.otlp")
	}
	if o := c.site.Monitor.OTLP; o != nil {
		c.collector(o, "monitor.otlp")
	}
}

func (c *checker) collector(o *OTLP, at string) {
	if c.suspect(at) {
		return
	}
	u, err := url.Parse(o.URL)
	switch {
	case err != nil:
		c.wrong(at+".url", "%s is no URL", quote(o.URL))
	case o.Protocol == "grpc" && u.Path != "" && u.Path != "/":
		c.wrong(at+".url", "has the path %s, and gRPC takes none; write protocol: http, or leave it out", quote(u.Path))
	}
	if o.CA != "" && err == nil && u.Scheme != "https" {
		c.wrong(at+".ca", "has no effect without https")
	}
	for _, name := range slices.Sorted(maps.Keys(o.Headers)) {
		if strings.EqualFold(name, "Authorization") && o.Token != "" {
			c.wrong(at, "has both token and the header Authorization; a message carries one authorization")
		}
	}
	c.authorities(o.CA, at+".ca")
}

package node

import (
	"cmp"
	"math/rand/v2"
	"os"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/monitor"
	"github.com/even-keel/evenkeel/monitor/otlp"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/trace"
)

// newOTLP makes what sends to collectors. It sends nothing until a site names one.
func (n *Node) newOTLP(s *site.Site) *otlp.Exporter {
	host, _ := os.Hostname()
	return otlp.New(otlp.ConfigOf(s), otlp.Deps{Site: s.Name, Instance: cmp.Or(host, s.Name), Version: n.opts.Version, Self: n.metrics.registry, Log: n.log})
}

// remembered is what the node keeps of its figures, and what it sends to collectors.
func (n *Node) remembered() any {
	return struct {
		monitor.Status
		OTLP otlp.Status `json:"otlp"`
	}{n.monitor.Status(), n.otlp.Status()}
}

// telling tells a collector of requests.
type telling struct {
	share float64
	to    *otlp.Exporter
}

// useTelling says whether requests of s are told of.
func (n *Node) useTelling(s *site.Site) {
	n.toldEvents.Store(s.Logs != nil && s.Logs.Events)
	if s.Logs == nil {
		n.telling.Store(nil)
		return
	}
	n.telling.Store(&telling{share: float64(s.Logs.Sample), to: n.otlp})
}

// note tells of a request that has ended. Refused and failed ones always are told of, of the others a share. What was traced is told of as it is.
func (t *telling) note(x *exchange.Exchange, refusal *exchange.Refusal, status int) {
	if x.Request == nil || refusal == nil && !failed(x, status) && (t.share <= 0 || t.share < 1 && rand.Float64() >= t.share) || t.to.Full() {
		return
	}
	r := x.Trace.Record
	if r == nil {
		r = &trace.Span{Begun: x.Start, Took: time.Since(x.Start)}
		describe(r, x, refusal)
	}
	t.to.Log(otlp.Record{Request: r})
}

// tellEvent tells a collector of an event.
func (n *Node) tellEvent(at time.Time, kind, text string) {
	if n.toldEvents.Load() {
		n.otlp.Log(otlp.Record{At: at, Kind: kind, Text: text})
	}
}

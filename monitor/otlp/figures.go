package otlp

import (
	"context"
	"time"

	"go.opentelemetry.io/contrib/bridges/prometheus"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/even-keel/evenkeel/site"
)

// sendFigures sends what /metrics shows until ctx ends.
func (e *Exporter) sendFigures(ctx context.Context, cfg *site.OTLP, every time.Duration) {
	p, err := newPlace(cfg, "/v1/metrics")
	if err != nil {
		e.figures.note(0, err, e.deps.Log, "figures")
		<-ctx.Done()
		return
	}
	to, err := p.figures(context.WithoutCancel(ctx))
	if err != nil {
		e.figures.note(0, err, e.deps.Log, "figures")
		<-ctx.Done()
		return
	}
	defer to.Shutdown(context.WithoutCancel(ctx)) //nolint:errcheck // nothing is lost by it
	defer p.client.CloseIdleConnections()
	from, who := prometheus.NewMetricProducer(prometheus.WithGatherer(e.deps.Self)), e.resource()
	send := func(parent context.Context, most time.Duration) {
		inner, cancel := context.WithTimeout(parent, most)
		defer cancel()
		scopes, err := from.Produce(inner)
		n := 0
		for i := range scopes {
			scopes[i].Scope.Name, scopes[i].Scope.Version = scope, e.deps.Version
			n += len(scopes[i].Metrics)
		}
		if n > 0 { // what could be read, when something could not
			err = to.Export(inner, &metricdata.ResourceMetrics{Resource: who, ScopeMetrics: scopes})
		}
		e.figures.note(n, err, e.deps.Log, "figures")
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			send(ctx, cfg.Timeout)
		case <-ctx.Done():
			send(context.WithoutCancel(ctx), min(cfg.Timeout, farewell)) // the last count, so that nothing is missing of what was done
			return
		}
	}
}

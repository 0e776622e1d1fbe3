package monitor

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
)

const (
	scrapers      = 4        // endpoints asked at once
	answerMax     = 16 << 20 // bytes of an endpoint's metrics
	seriesMax     = 1 << 20  // series of one target that are followed
	maxExposition = 64 << 20 // bytes of the own metrics
	accept        = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7," +
		"application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)

// Jobs of what is not an endpoint.
const (
	jobSelf = "evenkeel"
	jobHost = "host"
)

// target is something that is scraped, and what is known of it.
type target struct {
	job, instance, url string
	samples            int  // at the most; 0: as many as there are
	both               bool // a histogram that is shown in classic and native buckets is kept in both
	own                *own // learns its labels; nil: it is an endpoint
	fromZero           bool // a counter that it did not show the round before stood at 0 then
	round              uint64
	before             int64               // when the round before was, in milliseconds; 0: there was none, or it failed
	ended              map[uint64]struct{} // what was followed once: it comes back with what it had
	seed               maphash.Seed
	series             map[uint64]*followed // by the hash of how the target writes them: the text itself would double the memory

	mu     sync.Mutex // guards what follows, which Targets shows
	last   time.Time
	took   time.Duration
	failed string
}

// followed is a series that the last round had: when the next has it not, its end is marked.
type followed struct {
	labels labels.Labels
	ref    storage.SeriesRef
	round  uint64
}

func newTarget(job, instance, url string, samples int) *target {
	return &target{job: job, instance: instance, url: url, samples: samples, seed: maphash.MakeSeed(), series: map[uint64]*followed{}, ended: map[uint64]struct{}{}}
}

// rounds scrapes until ctx ends. The first round comes at once, so that there is something to see.
func (s *session) rounds(ctx context.Context) {
	self := newTarget(jobSelf, s.m.deps.Instance, "", 0)
	host := newTarget(jobHost, s.m.deps.Instance, "", 0)
	self.both, self.fromZero, self.own, host.own = true, true, &s.m.own, &s.m.own
	reader := newHost(s.m.deps.Proc)
	var outer sync.WaitGroup
	defer outer.Wait()
	busy := make(chan struct{}, 1) // endpoints may be slow: they hold up no look at ourselves
	tick := time.NewTicker(s.cfg.ScrapeEvery)
	defer tick.Stop()
	for {
		began := s.m.deps.Now()
		if s.m.deps.Pressed != nil && s.m.deps.Pressed() {
			s.m.counts.pressed.Add(uint64(len(self.series) + len(host.series)))
		} else {
			s.scrape(ctx, self, true, s.self)
			if s.cfg.Host {
				s.scrape(ctx, host, true, reader.write)
			}
			select {
			case busy <- struct{}{}:
				outer.Go(func() {
					defer func() { <-busy }()
					s.endpoints(ctx)
				})
			default:
				s.m.counts.late.Add(1)
			}
			s.m.counts.rounds.Add(1)
			s.m.counts.roundNanos.Store(int64(s.m.deps.Now().Sub(began)))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// self writes the node's own metrics. Between the counters and the store are only bytes: what parses an endpoint's metrics
// parses ours, native histograms and exemplars too.
func (s *session) self(_ context.Context, to *bytes.Buffer) (string, error) {
	families, err := s.m.deps.Self.Gather()
	if err != nil && len(families) == 0 {
		return "", err
	}
	format := expfmt.NewFormat(expfmt.TypeProtoDelim)
	e := expfmt.NewEncoder(to, format)
	for _, f := range families {
		if err := e.Encode(f); err != nil {
			return "", err
		}
		if to.Len() > maxExposition {
			return "", errors.New("there are more metrics than can be kept")
		}
	}
	return string(format), nil
}

// endpoints scrapes all endpoints that show metrics, a few at once.
func (s *session) endpoints(ctx context.Context) {
	if s.m.deps.Endpoints == nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	list := s.m.deps.Endpoints()
	gone := s.changed(list)
	for _, t := range gone {
		b := s.batch(ctx, false)
		t.end(b, s.m.deps.Now())
		_ = b.commit()
	}
	work := make(chan Endpoint)
	var wg sync.WaitGroup
	for range min(scrapers, len(list)) {
		wg.Go(func() {
			for e := range work {
				s.mu.Lock()
				t := s.states[e.Pool+" "+e.Address]
				s.mu.Unlock()
				s.scrape(ctx, t, false, func(ctx context.Context, to *bytes.Buffer) (string, error) { return fetch(ctx, e, to) })
			}
		})
	}
	for _, e := range list {
		select {
		case work <- e:
		case <-ctx.Done():
		}
	}
	close(work)
	wg.Wait()
}

// changed makes targets for endpoints that are new, and returns those of endpoints that are gone.
func (s *session) changed(list []Endpoint) (gone []*target) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := map[string]bool{}
	for _, e := range list {
		key := e.Pool + " " + e.Address
		now[key] = true
		if t := s.states[key]; t == nil || t.url != e.URL {
			if t != nil {
				gone = append(gone, t)
			}
			s.states[key] = newTarget(e.Pool, e.Address, e.URL, e.Samples)
		}
		s.states[key].samples = e.Samples
	}
	for key, t := range s.states {
		if !now[key] {
			gone = append(gone, t)
			delete(s.states, key)
		}
	}
	return gone
}

// fetch asks an endpoint for its metrics.
func fetch(ctx context.Context, e Endpoint, to *bytes.Buffer) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, e.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, e.URL, nil)
	if err != nil {
		return "", err
	}
	r.Header.Set("Accept", accept)
	r.Header.Set("User-Agent", "evenkeel")
	r.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", fmt.Sprint(e.Timeout.Seconds()))
	a, err := e.Client.Do(r)
	if err != nil {
		return "", err
	}
	defer a.Body.Close()
	if a.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status is %s", a.Status)
	}
	n, err := to.ReadFrom(io.LimitReader(a.Body, answerMax+1))
	if n > answerMax {
		return "", fmt.Errorf("metrics have more than %d bytes", answerMax)
	}
	return a.Header.Get("Content-Type"), err
}

// scrape takes one look at a target. read writes what it shows and returns the type of that.
func (s *session) scrape(ctx context.Context, t *target, own bool, read func(context.Context, *bytes.Buffer) (string, error)) {
	at := s.m.deps.Now()
	var body bytes.Buffer
	kind, err := read(ctx, &body)
	if ctx.Err() != nil {
		return
	}
	took := s.m.deps.Now().Sub(at)
	b := s.batch(context.Background(), own)
	seen := 0
	if err == nil {
		if seen, err = t.take(s, b, body.Bytes(), kind, at.UnixMilli()); err != nil {
			b.drop()
			b = s.batch(context.Background(), own)
		}
	}
	if err != nil {
		if !own {
			s.m.counts.failed.Add(1)
		}
		t.end(b, at)
	}
	t.tell(b, at, took, seen, err)
	_ = b.commit() // which counts and tells by itself
}

// take reads an exposition into the batch, and marks the end of series that the round before had and this one has not.
func (t *target) take(s *session, b *batch, body []byte, kind string, at int64) (seen int, err error) {
	p, err := textparse.New(body, kind, nil, textparse.ParserOptions{FallbackContentType: "text/plain", KeepClassicOnClassicAndNativeHistograms: t.both})
	if p == nil {
		return 0, fmt.Errorf("metrics cannot be read: %w", err)
	}
	t.round++
	meta := metadata.Metadata{}
	named := ""
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return seen, fmt.Errorf("metrics cannot be read: %w", err)
		}
		name := ""
		switch entry {
		case textparse.EntryType:
			n, kind := p.Type()
			name, meta = family(&named, n, meta)
			meta.Type = kind
		case textparse.EntryHelp:
			n, help := p.Help()
			name, meta = family(&named, n, meta)
			meta.Help = string(help)
		case textparse.EntryUnit:
			n, unit := p.Unit()
			name, meta = family(&named, n, meta)
			meta.Unit = string(unit)
		case textparse.EntrySeries, textparse.EntryHistogram:
			if seen++; t.samples > 0 && seen > t.samples {
				s.m.counts.refused.Add(uint64(seen))
				return seen, fmt.Errorf("there are more than %d samples", t.samples)
			}
			t.sample(b, p, entry, at, meta.Type)
		}
		if name != "" {
			s.remember(name, meta)
		}
	}
	for key, f := range t.series {
		if f.round != t.round {
			t.mark(b, f, at)
			delete(t.series, key)
			if t.fromZero && len(t.ended) < seriesMax {
				t.ended[key] = struct{}{}
			}
		}
	}
	t.before = at
	return seen, nil
}

// family begins a new one when the name changes.
func family(named *string, name []byte, meta metadata.Metadata) (string, metadata.Metadata) {
	if string(name) != *named {
		*named, meta = string(name), metadata.Metadata{Type: model.MetricTypeUnknown}
	}
	return *named, meta
}

// sample adds what the parser stands at.
func (t *target) sample(b *batch, p textparse.Parser, entry textparse.Entry, at int64, kind model.MetricType) {
	var x sample
	var key []byte
	var own *int64
	if entry == textparse.EntryHistogram {
		key, own, x.h, x.fh = p.Histogram()
	} else {
		key, own, x.v = p.Series()
	}
	id := maphash.Bytes(t.seed, key)
	f := t.series[id]
	begins := f == nil
	if begins {
		f = &followed{}
		p.Labels(&f.labels)
		f.labels = t.label(f.labels)
		if t.own != nil {
			t.own.learn(f.labels)
		}
		if len(t.series) < seriesMax {
			t.series[id] = f
		}
	}
	x.labels, x.ref, x.t, x.start = f.labels, f.ref, at, p.StartTimestamp()
	if own != nil {
		x.t = *own
	}
	for {
		var e exemplar.Exemplar
		if !p.Exemplar(&e) {
			break
		}
		if !e.HasTs {
			e.Ts = x.t
		}
		x.exemplars = append(x.exemplars, e)
	}
	// Those of a native histogram come by their values, and the store takes none that is older than one before.
	slices.SortStableFunc(x.exemplars, func(a, b exemplar.Exemplar) int { return cmp.Compare(a.Ts, b.Ts) })
	ref, err := x.ref, error(nil)
	if begins && (kind == model.MetricTypeCounter || kind == model.MetricTypeHistogram) {
		err = t.begin(b, x, id)
	}
	if err == nil {
		ref, err = b.add(x)
	}
	if err != nil && !errors.Is(err, storage.ErrDuplicateSampleForTimestamp) && !errors.Is(err, storage.ErrOutOfOrderSample) {
		delete(t.series, id) // it is not in the store, so there is no end to mark
		return
	}
	if ref != 0 {
		f.ref = ref
	}
	f.round = t.round
}

// begin puts a 0 where the round before was, ahead of the first sample of a counter: rate and increase see what lies between two samples, and
// the first errors of a route, all that an alert may ever get to see of them, would be nothing.
func (t *target) begin(b *batch, x sample, id uint64) error {
	_, back := t.ended[id]
	if !t.fromZero || back || t.before == 0 || t.before >= x.t || x.fh != nil {
		return nil
	}
	if x.h != nil {
		x.h = &histogram.Histogram{Schema: x.h.Schema, ZeroThreshold: x.h.ZeroThreshold, CustomValues: x.h.CustomValues}
	}
	x.t, x.v, x.exemplars = t.before, 0, nil
	if _, err := b.add(x); errors.Is(err, errBudget) {
		return err // told once
	}
	return nil // without it, the first sample is what it was
}

// label adds job and instance. What the target itself calls so is renamed, as Prometheus does.
func (t *target) label(ls labels.Labels) labels.Labels {
	b := labels.NewBuilder(ls)
	for _, l := range []labels.Label{{Name: "job", Value: t.job}, {Name: "instance", Value: t.instance}} {
		if was := ls.Get(l.Name); was != "" {
			b.Set(model.ExportedLabelPrefix+l.Name, was)
		}
		b.Set(l.Name, l.Value)
	}
	return b.Labels()
}

// mark says that a series has ended, so that queries do not show its last value for another five minutes.
func (t *target) mark(b *batch, f *followed, at int64) {
	x := sample{labels: f.labels, ref: f.ref, t: at, v: math.Float64frombits(value.StaleNaN)}
	_, _ = b.add(x) // a series without an end is the worst that comes of it
}

// end marks the end of all series.
func (t *target) end(b *batch, at time.Time) {
	for _, f := range t.series {
		t.mark(b, f, at.UnixMilli())
	}
	clear(t.series)
	t.before = 0
}

// tell adds what Prometheus keeps of each scrape, and notes it for people.
func (t *target) tell(b *batch, at time.Time, took time.Duration, seen int, err error) {
	up := 1.0
	t.mu.Lock()
	t.last, t.took, t.failed = at, took, ""
	if err != nil {
		up, t.failed = 0, err.Error()
	}
	t.mu.Unlock()
	for _, one := range []struct {
		name string
		v    float64
	}{{"up", up}, {"scrape_duration_seconds", took.Seconds()}, {"scrape_samples_scraped", float64(seen)}} {
		ls := labels.FromStrings(model.MetricNameLabel, one.name, "job", t.job, "instance", t.instance)
		_, _ = b.add(sample{labels: ls, t: at.UnixMilli(), v: one.v})
	}
}

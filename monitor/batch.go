package monitor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"

	"github.com/even-keel/evenkeel/site"
)

// ownShare is the part of the budget of series that only the node's own figures may use: they are what alerts look at.
const ownShare = 0.1

// maxNames is how many metrics a help text is remembered of.
const maxNames = 10000

// session is the monitor under one version of its settings.
type session struct {
	m       *Monitor
	cfg     *site.Monitor
	q       storage.Queryable // what is asked; nil: outside is
	store   *store            // nil: an existing Prometheus is asked, and samples are only sent on
	remotes []*remote
	outside *outside // the existing Prometheus; nil: none

	over  context.Context // ends with the session
	end   func()
	users sync.WaitGroup // who reads the store

	mu     sync.Mutex // guards what follows
	names  map[string]metadata.Metadata
	states map[string]*target // of scraped endpoints, by pool and address
}

func newSession(m *Monitor, cfg *site.Monitor) (*session, error) {
	s := &session{m: m, cfg: cfg, names: map[string]metadata.Metadata{}, states: map[string]*target{}}
	s.over, s.end = context.WithCancel(context.Background())
	for _, w := range cfg.RemoteWrite {
		r, err := newRemote(w, m.deps.Log)
		if err != nil {
			return nil, err
		}
		s.remotes = append(s.remotes, r)
	}
	if cfg.Prometheus != nil {
		var err error
		if s.outside, err = newOutside(cfg.Prometheus); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// run scrapes and sends until ctx ends.
func (s *session) run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, r := range s.remotes {
		wg.Go(func() { r.run(ctx) })
	}
	if s.store != nil || len(s.remotes) > 0 {
		s.rounds(ctx)
	} else {
		<-ctx.Done()
	}
	wg.Wait()
}

// remember keeps what a metric is.
func (s *session) remember(name string, meta metadata.Metadata) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.names[name]; known || len(s.names) < maxNames {
		s.names[name] = meta
	}
}

// sample is one value of one series. Of v, h and fh one is set.
type sample struct {
	labels    labels.Labels
	ref       storage.SeriesRef // 0: not known
	start, t  int64             // milliseconds; start 0: not known
	v         float64
	h         *histogram.Histogram
	fh        *histogram.FloatHistogram
	exemplars []exemplar.Exemplar
}

// batch is what one scrape, or one request of a sender, brings. It goes into the store as a whole and is sent on.
type batch struct {
	s     *session
	app   storage.AppenderV2 // nil: there is no store
	room  int                // series that may be new
	most  int64              // time of a sample, in milliseconds
	added int
	out   []sample // to be sent on
}

// aheadMost is how far ahead of this node's clock a sample may be, as in Prometheus. The store takes nothing much older than the newest sample it has: one
// clock that is a day ahead would keep everything else out for that day.
const aheadMost = 10 * time.Minute

var (
	errBudget = errors.New("the store has as many series as monitor.series allows")
	errAhead  = fmt.Errorf("out of bounds: more than %v ahead of this node's clock", aheadMost)
)

// batch begins one. own samples may use the whole budget.
func (s *session) batch(ctx context.Context, own bool) *batch {
	b := &batch{s: s, most: s.m.deps.Now().Add(aheadMost).UnixMilli()}
	if s.store == nil {
		return b
	}
	b.app = s.store.db.AppenderV2(ctx)
	budget := s.cfg.Series
	if !own {
		budget -= int(ownShare * float64(budget))
	}
	b.room = budget - int(s.store.db.Head().NumSeries())
	return b
}

// add takes one sample. The reference it returns makes the next one of the series cheaper.
func (b *batch) add(x sample) (storage.SeriesRef, error) {
	if x.t > b.most {
		b.s.m.counts.invalid.Add(1)
		return 0, errAhead
	}
	if b.app != nil {
		if x.ref == 0 && !b.known(x.labels) {
			if b.room <= 0 {
				b.s.m.counts.overBudget.Add(1)
				return 0, errBudget
			}
			b.room--
		}
		ref, err := b.app.Append(x.ref, x.labels, x.start, x.t, x.v, x.h, x.fh, storage.AppendV2Options{Exemplars: x.exemplars})
		var partly *storage.AppendPartialError
		if err != nil && !errors.As(err, &partly) {
			b.s.m.counts.invalid.Add(1)
			return 0, err
		}
		x.ref = ref
	}
	b.added++
	if len(b.s.remotes) > 0 {
		b.out = append(b.out, x)
	}
	return x.ref, nil
}

// known says whether the store has the series in memory.
func (b *batch) known(ls labels.Labels) bool {
	g, is := b.app.(storage.GetRef)
	if !is {
		return false
	}
	ref, _ := g.GetRef(ls, ls.Hash())
	return ref != 0
}

// commit makes the batch count. What the store could not write is sent on all the same.
func (b *batch) commit() error {
	for _, r := range b.s.remotes {
		r.push(b.out)
	}
	c := &b.s.m.counts
	if b.app != nil {
		if err := b.app.Commit(); err != nil {
			c.unstored.Add(uint64(b.added))
			if !c.full.Swap(true) {
				text := fmt.Sprintf("the store cannot write, samples are dropped until it can: %v", err)
				b.s.m.deps.Log.Error(text)
				b.s.m.deps.Event("monitor", text)
			}
			return err
		}
		if c.full.Swap(false) {
			// What was being written when there was no more room stands half in the log, and whatever follows would be lost
			// with it in a crash. Opening the store anew cuts it off.
			b.s.m.deps.Event("monitor", "the store can write again; it is opened anew")
			b.s.m.again()
		}
	}
	c.samples.Add(uint64(b.added))
	return nil
}

// drop gives the batch up.
func (b *batch) drop() {
	if b.app != nil {
		_ = b.app.Rollback()
	}
}

package otlp

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/site"
)

// Bounds of what waits for a collector: seconds of a busy node, in a few MiB. What comes then is dropped: old spans are as good as new ones.
const (
	spansWaiting   = 2048
	recordsWaiting = 4096
	batchMost      = 512             // of one message
	batchWait      = time.Second     // how long the first of a message waits for others
	farewell       = 3 * time.Second // to send what waits when the node stops
)

// tally counts what was sent of one signal.
type tally struct {
	sent, full, unsent atomic.Uint64
	problem            atomic.Pointer[string]
}

// note counts a message of n that ended with err.
func (t *tally) note(n int, err error, log *slog.Logger, signal string) {
	was := t.problem.Load()
	if err == nil {
		t.sent.Add(uint64(n))
		if t.problem.Store(nil); was != nil {
			log.Info("the collector takes "+signal+" again", "event", "otlp")
		}
		return
	}
	t.unsent.Add(uint64(n))
	text := err.Error()
	if t.problem.Store(&text); was == nil { // once, not with every message
		log.Warn("the collector does not take "+signal+"; they are dropped and counted until it does", "event", "otlp", "err", err)
	}
}

func (t *tally) status() SignalStatus {
	s := SignalStatus{Sent: t.sent.Load(), Full: t.full.Load(), Unsent: t.unsent.Load()}
	if p := t.problem.Load(); p != nil {
		s.Problem = *p
	}
	return s
}

// lane carries what is recorded from requests to a collector.
type lane[T any] struct {
	tally
	queue chan bound[T]
	early *bound[T] // taken out by who sent before, and meant for who does now; the two never run at the same time
}

// bound is what is bound for a collector.
type bound[T any] struct {
	what T
	to   *site.OTLP
}

// offer queues v, or drops it. It never waits.
func (l *lane[T]) offer(v T, to *site.OTLP) {
	select {
	case l.queue <- bound[T]{v, to}:
	default:
		l.full.Add(1)
	}
}

func (l *lane[T]) status() SignalStatus {
	s := l.tally.status()
	s.Waiting = len(l.queue)
	return s
}

// run makes messages for a collector of what comes until ctx ends, and then of what waits, save for what was recorded since another is the present one.
func (l *lane[T]) run(ctx context.Context, to *site.OTLP, present func() *site.OTLP, send func(context.Context, []T)) {
	timeout := to.Timeout
	batch := make([]T, 0, batchMost)
	flush := func(parent context.Context, most time.Duration) {
		if len(batch) == 0 {
			return
		}
		inner, cancel := context.WithTimeout(parent, most)
		send(inner, batch)
		cancel()
		clear(batch)
		batch = batch[:0]
	}
	timer := time.NewTimer(batchWait)
	timer.Stop()
	mine := func(b bound[T]) bool {
		if b.to != to && b.to == present() { // ctx is about to end
			l.early = &b
			return false
		}
		batch = append(batch, b.what)
		return true
	}
	if b := l.early; b != nil {
		if l.early = nil; mine(*b) {
			timer.Reset(batchWait)
		}
	}
	for l.early == nil {
		select {
		case b := <-l.queue:
			if mine(b) && len(batch) == 1 {
				timer.Reset(batchWait)
			}
			if len(batch) < batchMost {
				continue
			}
			timer.Stop()
			// A message under way is not given up as the node stops: it has its own bound.
			flush(context.WithoutCancel(ctx), timeout)
		case <-timer.C:
			flush(context.WithoutCancel(ctx), timeout)
		case <-ctx.Done():
			end, cancel := context.WithTimeout(context.Background(), farewell)
			defer cancel()
			for range len(l.queue)/batchMost + 1 {
				for l.early == nil && len(batch) < batchMost && len(l.queue) > 0 {
					mine(<-l.queue)
				}
				flush(end, min(timeout, farewell))
			}
			return
		}
	}
	flush(context.WithoutCancel(ctx), timeout)
}

package otlp

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
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
	queue chan T
}

// offer queues v, or drops it. It never waits.
func (l *lane[T]) offer(v T) {
	select {
	case l.queue <- v:
	default:
		l.full.Add(1)
	}
}

func (l *lane[T]) status() SignalStatus {
	s := l.tally.status()
	s.Waiting = len(l.queue)
	return s
}

// run makes messages of what comes until ctx ends, and then of what waits.
func (l *lane[T]) run(ctx context.Context, timeout time.Duration, send func(context.Context, []T)) {
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
	for {
		select {
		case v := <-l.queue:
			if batch = append(batch, v); len(batch) == 1 {
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
				for len(batch) < batchMost && len(l.queue) > 0 {
					batch = append(batch, <-l.queue)
				}
				flush(end, min(timeout, farewell))
			}
			return
		}
	}
}

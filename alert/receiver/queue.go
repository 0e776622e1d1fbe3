package receiver

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/even-keel/evenkeel/alert"
)

// Bounds of a queue: receivers that cannot be reached must cost neither memory nor time.
const (
	queueMost  = 100           // notifications that wait; when there are more, the oldest are dropped: the newest say how it is
	firstPause = time.Second   // before the second attempt; it doubles
	lastPause  = time.Minute   // and then stays
	giveUp     = 2 * time.Hour // a notification that old is of no use
)

// Queue tells one receiver, one notification after the other. Add never waits. Its methods may be called by any goroutine, Run once.
type Queue struct {
	name  string
	send  Sender
	site  func() Site
	event func(text string)

	mu      sync.Mutex
	waiting []alert.Notification
	current *alert.Notification // under way
	wake    chan struct{}
	status  QueueStatus
}

// QueueStatus is how a receiver fares.
type QueueStatus struct {
	Name    string
	Waiting int
	Sent    uint64
	Failed  uint64 // attempts
	Lost    uint64 // notifications that were given up, refused or dropped
	Trouble string // why the last attempt failed; empty: it did not
	Since   time.Time
}

// NewQueue starts nothing.
func NewQueue(name string, send Sender, site func() Site, event func(text string)) *Queue {
	return &Queue{name: name, send: send, site: site, event: event, wake: make(chan struct{}, 1), status: QueueStatus{Name: name}}
}

// Add takes a notification.
func (q *Queue) Add(n alert.Notification) {
	q.mu.Lock()
	if len(q.waiting) >= queueMost {
		q.waiting = append(q.waiting[:0], q.waiting[1:]...)
		q.status.Lost++
	}
	q.waiting = append(q.waiting, n)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Status is how the receiver fares.
func (q *Queue) Status() QueueStatus {
	q.mu.Lock()
	defer q.mu.Unlock()
	st := q.status
	st.Waiting = len(q.waiting)
	return st
}

// Run tells until ctx ends.
func (q *Queue) Run(ctx context.Context) error {
	for {
		n, ok := q.next()
		if !ok {
			select {
			case <-q.wake:
				continue
			case <-ctx.Done():
				return nil
			}
		}
		q.deliver(ctx, n)
		if ctx.Err() != nil {
			return nil
		}
	}
}

func (q *Queue) next() (alert.Notification, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		return alert.Notification{}, false
	}
	n := q.waiting[0]
	q.waiting = append(q.waiting[:0], q.waiting[1:]...)
	q.current = &n
	return n, true
}

// Untold are the notifications that the receiver has not got.
func (q *Queue) Untold() (all []alert.Notification) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.current != nil {
		all = append(all, *q.current)
	}
	return append(all, q.waiting...)
}

// deliver tries until the notification is taken, refused for good, or too old.
func (q *Queue) deliver(ctx context.Context, n alert.Notification) {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		attempt, cancel := context.WithTimeout(ctx, 3*sendTimeout) // some receivers take one alert at a time
		err := q.send(attempt, q.site(), n)
		cancel()
		if err != nil && ctx.Err() != nil {
			return // the node stops; what was not told is told after the next start, because it still fires
		}
		lost := errors.Is(err, errPermanent) || err != nil && time.Since(n.At) > giveUp
		q.note(err, lost)
		if err == nil || lost {
			return
		}
		// Up to a quarter more or less, so that many nodes do not come back together.
		wait := time.NewTimer(pause*3/4 + rand.N(pause/2))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return
		}
	}
}

// note counts an attempt, and tells of the first that fails and of the first that does not any more.
func (q *Queue) note(err error, lost bool) {
	q.mu.Lock()
	was := q.status.Trouble
	q.status.Trouble = ""
	if err == nil || lost {
		q.current = nil
	}
	if err == nil {
		q.status.Sent++
		q.status.Since = time.Time{}
	} else {
		q.status.Failed++
		q.status.Trouble = err.Error()
		if was == "" {
			q.status.Since = time.Now()
		}
	}
	if lost {
		q.status.Lost++
	}
	q.mu.Unlock()
	switch {
	case err != nil && was == "":
		q.event(fmt.Sprintf("receiver %s cannot be told of alerts: %v", q.name, err))
	case err == nil && was != "":
		q.event(fmt.Sprintf("receiver %s is told of alerts again", q.name))
	}
}

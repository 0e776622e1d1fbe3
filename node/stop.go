package node

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// step is one step of stopping: bounded, and reported when it did not end in time.
type step struct {
	name  string
	bound time.Duration
	waits bool // only for others: Abort ends it
	do    func(ctx context.Context) error
}

// stop ends everything in order. Its error names what had to be cut off.
func (n *Node) stop() error {
	n.mu.Lock()
	was := n.phase
	n.phase = phaseDraining
	drain := n.site.Stop.Drain
	n.mu.Unlock()
	notify("STOPPING=1", "STATUS=draining")
	if was == phaseServing {
		n.event("drain", fmt.Sprintf("draining: listeners closed, what is open may finish within %s", drain))
	}
	var left []error
	for _, s := range []step{
		// A reload under way would open what is about to be closed.
		{"reload", partStop, true, n.awaitReload},
		// Only after a successor took over: it waits for the history, which one process at a time can have.
		{"history", partStop, false, n.releaseStore},
		{"admin", partStop, false, n.giveUpAdmin},
		// First nothing new comes in, and what came in is answered.
		{"drain", drain, true, n.drain},
		// Listeners, connections, pools, prober, access log: nobody needs them any more.
		{"parts", partStop, false, n.stopParts},
		// Last, so that people could watch.
		{"admin", partStop, false, n.closeAdmin},
	} {
		if err := n.step(s); err != nil {
			left = append(left, fmt.Errorf("stop: %s: %w", s.name, err))
		}
	}
	n.tasks.wg.Wait()
	return errors.Join(left...)
}

// drain lets work finish. What is left when the time is over is cut off by the next step: that is what the bound
// is for, and so no error.
func (n *Node) drain(ctx context.Context) error {
	if err := n.front.Drain(ctx); err != nil {
		n.event("drain", "the drain ended with work left: "+err.Error())
	}
	return nil
}

// step does one step within its bound, or at once after Abort.
func (n *Node) step(s step) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), s.bound)
	defer cancel()
	if s.waits {
		defer n.cutOnAbort(cancel)()
	}
	err := s.do(ctx)
	n.log.Debug("stop step ended", "step", s.name, "took", time.Since(began), "err", err)
	return err
}

// cutOnAbort calls cancel when Abort is called before the returned function, which ends that.
func (n *Node) cutOnAbort(cancel func()) (end func()) {
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-n.abort:
			cancel()
		case <-over:
		}
	}()
	return func() {
		close(over)
		<-done
	}
}

// awaitReload waits for a reload or upgrade under way. Later ones see that the node stops, and do nothing.
func (n *Node) awaitReload(ctx context.Context) error {
	for !n.reloading.TryLock() {
		select {
		case <-ctx.Done():
			return errors.New("a reload is still under way")
		case <-time.After(readyTick):
		}
	}
	n.reloading.Unlock()
	return nil
}

// stopParts ends all parts but the admin listener, the last that was started first: whoever is needed by others ends
// after them.
func (n *Node) stopParts(ctx context.Context) error {
	var late []error
	for _, k := range n.tasks.newestFirst() {
		if n.admin != nil && k == n.admin.task {
			continue
		}
		k.cancel()
		select {
		case <-k.done:
		case <-ctx.Done():
			late = append(late, fmt.Errorf("%s has not ended", k.name))
		}
	}
	return errors.Join(late...)
}

// stopPools ends pools that were started for nothing.
func (n *Node) stopPools(pools map[string]*runningPool) {
	for _, p := range pools {
		p.task.stop(partStop)
	}
}

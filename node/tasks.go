package node

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// tasks are the parts that run: each has one owner goroutine, and none outlives the node.
type tasks struct {
	wg     sync.WaitGroup
	failed chan error // the first part that ended by itself with an error

	mu   sync.Mutex
	list []*task // that have not ended, in the order of their start
}

func newTasks() *tasks { return &tasks{failed: make(chan error, 1)} }

// task is one part that runs.
type task struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{}
}

// start runs a part until its task is stopped.
func (t *tasks) start(name string, run func(context.Context) error) *task {
	ctx, cancel := context.WithCancel(context.Background())
	k := &task{name: name, cancel: cancel, done: make(chan struct{})}
	t.mu.Lock()
	t.list = append(t.list, k)
	t.mu.Unlock()
	t.wg.Go(func() {
		defer close(k.done)
		defer t.forget(k)
		if err := run(ctx); err != nil && ctx.Err() == nil {
			select {
			case t.failed <- fmt.Errorf("%s ended: %w", name, err):
			default:
			}
		}
	})
	return k
}

// forget takes a part that ended off the list.
func (t *tasks) forget(k *task) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.list = slices.DeleteFunc(t.list, func(o *task) bool { return o == k })
}

// newestFirst are the parts that run, the last started first.
func (t *tasks) newestFirst() []*task {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := slices.Clone(t.list)
	slices.Reverse(list)
	return list
}

// stop ends the part and reports whether it ended in time.
func (k *task) stop(within time.Duration) bool {
	k.cancel()
	t := time.NewTimer(within)
	defer t.Stop()
	select {
	case <-k.done:
		return true
	case <-t.C:
		return false
	}
}

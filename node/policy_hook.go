package node

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"time"

	"github.com/even-keel/evenkeel/alert/receiver"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/slo"
)

// Waits of a hook whose program fails.
const (
	hookFirst = time.Second   // before the second attempt; it doubles
	hookLast  = time.Minute   // and then stays
	hookMost  = 2 * time.Hour // what is that old is of no use
)

// hook tells a program what the policy of an objective asks for. Only the newest is told: what was asked for before does not count any more.
type hook struct {
	objective string
	cfg       *site.Hook
	event     func(text string)
	exec      func(ctx context.Context, body []byte) error
	task      *task
	last      slo.Actions // that were told; only judge looks

	mu   sync.Mutex
	next *policyAsks // nil: all was told
	wake chan struct{}
}

// policyAsks is what a program is told.
type policyAsks struct {
	Site      string    `json:"site"`
	Objective string    `json:"objective"`
	At        time.Time `json:"at"`
	Freeze    bool      `json:"freeze"`
	Tighten   bool      `json:"tighten"`
	Abort     bool      `json:"abort"`
	Left      float64   `json:"budget_left"` // share; below 0: overspent
	Burn      float64   `json:"burn_rate"`
}

func policyNow(siteName string, st slo.Status, now time.Time) policyAsks {
	return policyAsks{siteName, st.Objective.Name, now, st.Policy.Freeze, st.Policy.Tighten, st.Policy.Abort, st.Left, st.Burn}
}

func newHook(objective string, cfg *site.Hook, event func(text string)) *hook {
	return &hook{objective: objective, cfg: cfg, event: event, wake: make(chan struct{}, 1),
		exec: func(ctx context.Context, body []byte) error {
			return receiver.Exec(ctx, cfg.Command, cfg.Timeout, body)
		}}
}

// useHooks makes the hooks of s those that are told. One that has not changed goes on with what it was telling.
func (n *Node) useHooks(s *site.Site) {
	p := n.promised
	p.mu.Lock()
	old := p.hooks
	p.hooks = map[string]*hook{}
	for _, o := range s.Objectives {
		cfg := o.Policy.Hook
		if cfg == nil {
			continue
		}
		if h := old[o.Name]; h != nil && reflect.DeepEqual(h.cfg, cfg) {
			p.hooks[o.Name] = h
			delete(old, o.Name)
			continue
		}
		h := newHook(o.Name, cfg, func(text string) { n.event("objectives", text) })
		h.task = n.tasks.start("policy of "+o.Name, h.run)
		p.hooks[o.Name] = h
	}
	p.mu.Unlock()
	for _, h := range old {
		h.task.stop(partStop)
	}
}

// tell never waits.
func (h *hook) tell(p policyAsks) {
	h.mu.Lock()
	h.next = &p
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// run tells until ctx ends.
func (h *hook) run(ctx context.Context) error {
	for {
		select {
		case <-h.wake:
			h.deliver(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// deliver tries until the newest was taken.
func (h *hook) deliver(ctx context.Context) {
	failing := false
	for pause := hookFirst; ; pause = min(2*pause, hookLast) {
		h.mu.Lock()
		p := h.next
		h.mu.Unlock()
		if p == nil {
			return
		}
		body, err := json.Marshal(p)
		if err == nil {
			err = h.exec(ctx, body)
		}
		if ctx.Err() != nil {
			return // it is told after the next start
		}
		h.mu.Lock()
		if h.next == p && (err == nil || time.Since(p.At) > hookMost) {
			h.next = nil
		}
		h.mu.Unlock()
		switch {
		case err == nil && failing:
			h.event("objective " + h.objective + ": the hook of its policy is told again")
		case err != nil && !failing:
			h.event(fmt.Sprintf("objective %s: the hook of its policy cannot be told: %v", h.objective, err))
		}
		if failing = err != nil; !failing {
			pause = hookFirst / 2
			continue
		}
		wait := time.NewTimer(pause*3/4 + rand.N(pause/2))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return
		}
	}
}

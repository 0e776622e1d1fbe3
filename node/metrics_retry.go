package node

import (
	"maps"
	"time"

	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/contain/retry"
)

var (
	descAttempts = desc("attempts_total", "Attempts at endpoints, the first of each request and all repeats.", "pool")
	descRetries  = desc("retries_total", "Attempts that were made again, by what had failed.", "pool", "reason")
	descDenied   = desc("retries_denied_total", "Failed attempts that were not made again though their failure is of a kind that may be, and why.", "pool", "why")
	descBudget   = desc("retry_budget", "Repeats that the pool's retry budget has left now.", "pool")
	descReplay   = desc("replay_bytes", "Memory held for request bodies that may have to be sent again.")
	descExpired  = desc("deadline_expired_total", "Requests that ended by their deadline, and where they were: answer is after its first byte.", "route", "stage")
)

// retries shows what became of failed attempts at one pool.
func (s sink) retries(pool string, r *retries) {
	v := r.view(time.Now())
	s.counter(descAttempts, v.Attempts, pool)
	s.gauge(descBudget, v.BudgetLeft, pool)
	for reason, n := range v.Repeats {
		s.counter(descRetries, n, pool, reason)
	}
	for why, n := range v.Denied {
		s.counter(descDenied, n, pool, why)
	}
}

// deadlines shows where deadlines passed. Before an answer that is a refusal like others.
func (s sink) deadlines(n *Node) {
	s.gauge(descReplay, float64(n.held.Load()))
	for route, stages := range n.expired() {
		for stage, count := range stages {
			s.counter(descExpired, count, route, stage)
		}
	}
}

// expired is how many requests of each route ended by their deadline, by stage.
func (n *Node) expired() map[string]map[string]uint64 {
	out := map[string]map[string]uint64{}
	add := func(route, stage string, count uint64) {
		if out[route] == nil {
			out[route] = map[string]uint64{}
		}
		out[route][stage] += count
	}
	for route, kinds := range n.tallies.refusedAll() {
		for key, count := range kinds {
			if key.reason == "deadline" {
				add(route, key.stage, count)
			}
		}
	}
	n.mu.Lock()
	cut := maps.Clone(n.cut)
	n.mu.Unlock()
	for route, c := range cut {
		if count := c.Load(); count > 0 {
			add(route, "answer", count)
		}
	}
	return out
}

// view is what the console shows of a pool's repeats. Reasons and denials that never came are left out.
func (r *retries) view(now time.Time) console.Retries {
	v := console.Retries{Attempts: r.budget.Requests(), BudgetLeft: r.budget.Left(now), Repeats: map[string]uint64{}, Denied: map[string]uint64{}}
	for i := range r.done {
		if n := r.done[i].Load(); n > 0 {
			v.Repeats[retry.Reason(i).String()] = n
			v.Attempts += n
		}
	}
	for i := range r.denied {
		if n := r.denied[i].Load(); n > 0 {
			v.Denied[retry.Denial(i).String()] = n
		}
	}
	return v
}

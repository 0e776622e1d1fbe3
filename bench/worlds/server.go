package worlds

import (
	"container/heap"
	"time"

	"github.com/even-keel/evenkeel/admit/shed"
)

// server is one endpoint. It works for clients that have left, too.
type server struct {
	workers float64
	service float64 // seconds, in the mean
	sharing bool
	busy    int
	queue   []*job
	head    int
	inside  int // queued and served
	quick   shed.Quick

	// Sharing: all get the same part, at the most one worker each. Work is measured on a clock of its own.
	work    float64 // seconds of work that each has had
	at      time.Duration
	jobs    workHeap
	version int
}

// job is one request at a server.
type job struct {
	*request
	size float64 // seconds
	end  float64 // on the clock of work
}

type workHeap []*job

func (h workHeap) Len() int           { return len(h) }
func (h workHeap) Less(i, j int) bool { return h[i].end < h[j].end }
func (h workHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *workHeap) Push(x any)        { *h = append(*h, x.(*job)) }
func (h *workHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

// take lets a job in.
func (s *server) take(p *play, j *job) {
	s.inside++
	if s.sharing {
		s.turn(p.now)
		j.end = s.work + j.size
		heap.Push(&s.jobs, j)
		s.plan(p)
		return
	}
	s.queue = append(s.queue, j)
	if p.world.Jumps > 0 && s.head < len(s.queue)-1 && p.rand.Float64() < p.world.Jumps {
		copy(s.queue[s.head+1:], s.queue[s.head:])
		s.queue[s.head] = j
	}
	s.dispatch(p)
}

// dispatch gives free workers what waits.
func (s *server) dispatch(p *play) {
	for s.busy < int(s.workers) && s.head < len(s.queue) {
		j := s.queue[s.head]
		s.queue[s.head] = nil
		s.head++
		if s.head > 1000 && 2*s.head > len(s.queue) {
			s.queue = append(s.queue[:0], s.queue[s.head:]...)
			s.head = 0
		}
		s.busy++
		size := j.size * p.slow
		p.at(p.now+seconds(size), event{kind: served, server: s, request: j.request, took: size})
	}
}

// turn lets the clock of work run until now.
func (s *server) turn(now time.Duration) {
	if n := float64(len(s.jobs)); n > 0 {
		s.work += (now - s.at).Seconds() * min(1, s.workers/n)
	}
	s.at = now
}

// plan sets the time of the next completion.
func (s *server) plan(p *play) {
	s.version++
	if len(s.jobs) == 0 {
		return
	}
	n := float64(len(s.jobs))
	left := max(0, s.jobs[0].end-s.work) / min(1, s.workers/n)
	p.at(p.now+seconds(left)+1, event{kind: shared, server: s, version: s.version})
}

// done takes out the jobs that have had their work.
func (s *server) done(p *play) {
	s.turn(p.now)
	for len(s.jobs) > 0 && s.jobs[0].end <= s.work+1e-9 {
		j := heap.Pop(&s.jobs).(*job)
		s.inside--
		p.answered(j.request, 200, j.size)
	}
	s.plan(p)
}

// resize changes the number of workers.
func (s *server) resize(p *play, workers float64) {
	if s.sharing {
		s.turn(p.now)
		s.workers = workers
		s.plan(p)
		return
	}
	s.workers = workers
	s.dispatch(p)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

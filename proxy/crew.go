package proxy

import "sync"

// crewKept bounds the goroutines of a crew that wait for work. At 10,000 short sessions per second of
// 2 ms each about 20 are at work at a time.
const crewKept = 64

// crew is goroutines for short tcp sessions. A new goroutine's stack grows twice on its way through the stages,
// which costs more than the rest of starting it; these keep theirs. Goroutines beyond crewKept end with their work.
type crew struct {
	mu   sync.Mutex
	idle []*hand
	done bool
	all  sync.WaitGroup

	ferries ferries
}

// hand is one goroutine of a crew.
type hand struct{ next chan job }

// job is a connection to be served, or the second half of a relay.
type job struct {
	client *client
	relay  *relayRun
}

func (j job) do(p *Proxy) {
	if j.client != nil {
		p.serve(j.client)
		return
	}
	j.relay.runDown()
}

// give has j done by a waiting goroutine, or by a new one.
func (c *crew) give(p *Proxy, j job) {
	c.mu.Lock()
	if n := len(c.idle); n > 0 {
		h := c.idle[n-1]
		c.idle = c.idle[:n-1]
		c.mu.Unlock()
		h.next <- j
		return
	}
	c.mu.Unlock()
	c.all.Add(1)
	go (&hand{next: make(chan job, 1)}).work(c, p, j)
}

func (h *hand) work(c *crew, p *Proxy, j job) {
	defer c.all.Done()
	for ok := true; ok; j, ok = <-h.next {
		j.do(p)
		c.mu.Lock()
		full := c.done || len(c.idle) >= crewKept
		if !full {
			c.idle = append(c.idle, h)
		}
		c.mu.Unlock()
		if full {
			return
		}
	}
}

// dismiss ends the crew and waits for it. Its last job has been given before.
func (c *crew) dismiss() {
	c.mu.Lock()
	c.done = true
	for _, h := range c.idle {
		close(h.next)
	}
	c.idle = nil
	c.mu.Unlock()
	c.all.Wait()
	c.ferries.close()
}

// Package throttle decides at the caller which requests are not worth sending, because the server has refused so many of late.
//
// It is the client-side throttling of the SRE book ("Handling overload"): with the requests and the accepts of a window, a request is
// refused with the chance
//
//	max(0, (requests - K*accepts) / (requests + 1))
//
// so that a server which accepts A a second is asked about K*A times a second, however much its callers want. A server that refuses everything and says
// for how long is left alone for that long, but for the part that always goes out. Time and randomness are arguments.
package throttle

import "time"

// Config is how a Throttle decides. Zero values are replaced by those told.
type Config struct {
	Window time.Duration // what is remembered; 0: 5 seconds
	K      float64       // requests sent for each that is accepted, at least 1; 0: 2
	Most   float64       // most that is refused, from 0 to 1; 0: 0.9. What still goes out finds that the server is well again
	Least  int           // below so many requests in the window nothing is refused; 0: 5. One failure says little
}

// The defaults of Config. The book has a window of two minutes. With that long a memory clients that ask seldom hold requests back for minutes after
// the server is well again, and begin to only after a minute of overload (bench clients, 1,000 clients that ask once in seven seconds).
const (
	defaultWindow = 5 * time.Second
	defaultK      = 2
	defaultMost   = 0.9
	defaultLeast  = 5
)

// buckets is how many parts a window has: what is forgotten at once is 4 % of it.
const buckets = 24

// Throttle is the memory of one server and one class of requests. It is not for concurrent use.
type Throttle struct {
	c       Config
	width   time.Duration
	at      int64 // number of the newest bucket since the epoch
	parts   [buckets]part
	sum     part
	started bool
	silence silence
}

// part is what was counted in one bucket, or in all.
type part struct{ requests, accepts uint32 }

// New makes a Throttle that has seen nothing.
func New(c Config) *Throttle {
	if c.Window <= 0 {
		c.Window = defaultWindow
	}
	if c.K < 1 {
		c.K = defaultK
	}
	if c.Most <= 0 || c.Most > 1 {
		c.Most = defaultMost
	}
	if c.Least <= 0 {
		c.Least = defaultLeast
	}
	return &Throttle{c: c, width: max(c.Window/buckets, 1)}
}

// Refuse says whether a request shall not be sent, for a random number from [0, 1). One that is refused counts as a request, as the formula wants it:
// one that is sent counts when it is done, since until then nobody knows what it was.
func (t *Throttle) Refuse(now time.Time, random float64) bool {
	if chance := t.Chance(now); chance == 0 || random >= chance {
		return false
	}
	t.count(part{requests: 1})
	return true
}

// Done counts a request that was sent, and whether the server accepted it. What its caller gave up for reasons of its own is not told.
func (t *Throttle) Done(now time.Time, accepted bool) {
	t.forget(now)
	p := part{requests: 1}
	if accepted {
		p.accepts = 1
		t.silence = silence{}
	}
	t.count(p)
}

// Ask notes that a request that was refused, and is told to Done as well, came with the server's word not to be asked again for so long. While it refuses
// everything with such words, requests are held back as much as they ever are; the first that is accepted ends it.
func (t *Throttle) Ask(now time.Time, long time.Duration) {
	if long > 0 {
		t.silence.ask(now, long, t.c.Window)
	}
}

// Silence is for how long the server still wants not to be asked, 0 when it does not, or has accepted something since: what need not be sent, such as
// repeats, waits for its end.
func (t *Throttle) Silence(now time.Time) time.Duration { return t.silence.left(now) }

// Chance is how likely a request is refused now.
func (t *Throttle) Chance(now time.Time) float64 {
	t.forget(now)
	chance := t.c.Most * t.silence.held(now)
	if int(t.sum.requests) < t.c.Least {
		return chance
	}
	requests, accepts := float64(t.sum.requests), float64(t.sum.accepts)
	return min(t.c.Most, max(chance, (requests-t.c.K*accepts)/(requests+1)))
}

// Seen is how many requests the window holds, those refused here too, and how many of them were accepted.
func (t *Throttle) Seen(now time.Time) (requests, accepts int) {
	t.forget(now)
	return int(t.sum.requests), int(t.sum.accepts)
}

func (t *Throttle) count(p part) {
	newest := &t.parts[t.at%buckets]
	newest.requests += p.requests
	newest.accepts += p.accepts
	t.sum.requests += p.requests
	t.sum.accepts += p.accepts
}

// forget takes out what has left the window. A clock that goes back changes nothing.
func (t *Throttle) forget(now time.Time) {
	at := now.UnixNano() / int64(t.width)
	if !t.started {
		t.started, t.at = true, at
	}
	if at-t.at >= buckets {
		t.parts, t.sum, t.at = [buckets]part{}, part{}, at
		return
	}
	for t.at < at {
		t.at++
		old := &t.parts[t.at%buckets]
		t.sum.requests -= old.requests
		t.sum.accepts -= old.accepts
		*old = part{}
	}
}

package node

import "github.com/even-keel/evenkeel/console/login"

var (
	descSignIns  = desc("admin_tries_total", "Who came to the admin listener: entered with a browser, denied for what they showed, or blocked after too many tries.", "result")
	descSessions = desc("admin_sessions", "Sessions of browsers that are open.")
)

// door shows how often people sign in, and try to.
func (s sink) door(d *login.Door) {
	if d == nil || !d.Closed() {
		return
	}
	c, open := d.Counts()
	s.counter(descSignIns, c.Entered, "entered")
	s.counter(descSignIns, c.Denied, "denied")
	s.counter(descSignIns, c.Blocked, "blocked")
	s.gauge(descSessions, float64(open))
}

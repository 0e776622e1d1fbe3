package overload

import "time"

// counts is what became of the requests that were due in a window.
type counts struct {
	long                   time.Duration
	sent, good, refused    int
	answered               int // a 200, in time for the goal or not
	critical, criticalGood int
	admitted               []time.Duration // what was not refused; a client that left counts with its patience
	attempts               int
}

// window counts the requests due from one phase on, some time later, to the end of another.
func (d *drive) window(first, last int, skip time.Duration) counts {
	return d.between(d.began[first]+skip, d.began[last+1], nil)
}

// between counts the requests due in a time that only holds for; nil: all.
func (d *drive) between(from, to time.Duration, only func(*request) bool) counts {
	c := counts{long: to - from}
	for i := range d.requests {
		r := &d.requests[i]
		if r.due < from || r.due >= to || only != nil && !only(r) {
			continue
		}
		c.sent++
		c.attempts += r.attempts
		if r.class == "critical" {
			c.critical++
		}
		if r.status == 200 {
			c.answered++
		}
		if r.good() {
			c.good++
			if r.class == "critical" {
				c.criticalGood++
			}
		}
		if r.refused {
			c.refused++
		} else {
			c.admitted = append(c.admitted, r.took)
		}
	}
	return c
}

// share is a part; of nothing it is 1, as nothing went wrong.
func share(part, all int) float64 {
	if all == 0 {
		return 1
	}
	return float64(part) / float64(all)
}

// perSecond is how many good answers came a second.
func (c counts) perSecond() float64 { return float64(c.good) / max(c.long.Seconds(), 1e-9) }

// recovery is the time from one moment until three seconds in a row have good answers to at least 95% of what was due in them; ok is
// false when that never is.
func (d *drive) recovery(from, to time.Duration) (took time.Duration, ok bool) {
	const row, enough = 3, 0.95
	n := 0
	for at := from; at+time.Second <= to; at += time.Second {
		c := d.between(at, at+time.Second, nil)
		if share(c.good, c.sent) < enough {
			n = 0
			continue
		}
		if n++; n == row {
			return at - (row-1)*time.Second - from, true
		}
	}
	return to - from, false
}

// reaches is the time from one moment until three seconds in a row have at least so many good answers a second.
func (d *drive) reaches(from, to time.Duration, rate float64) (took time.Duration, ok bool) {
	const row = 3
	for at := from; at+row*time.Second <= to; at += time.Second {
		if d.between(at, at+row*time.Second, nil).perSecond() >= rate {
			return at - from, true
		}
	}
	return to - from, false
}

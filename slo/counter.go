package slo

import (
	"encoding/json"
	"errors"
	"time"
)

// Count is how many events there were, and how many of them were good.
type Count struct{ Good, Total uint64 }

// Bad is how many events were not good.
func (c Count) Bad() uint64 { return c.Total - min(c.Good, c.Total) }

func (c Count) plus(o Count) Count { return Count{c.Good + o.Good, c.Total + o.Total} }

// badShare is the share of bad events; 0 when there were none.
func (c Count) badShare() float64 {
	if c.Total == 0 {
		return 0
	}
	return float64(c.Bad()) / float64(c.Total)
}

// finest and middle say in how many parts the widest buckets are divided for short windows: for a window of 30 days, buckets of an
// hour, a minute and ten seconds.
const (
	coarseParts = 720
	middleParts = 60
	finestParts = 360
)

// counter counts over time in fixed memory: the same events in buckets of three widths, of which the finer ones reach less far
// back. For a window of 30 days these are 1,446 buckets of 16 bytes, 23 KB.
type counter struct{ tiers [3]tier }

// tier is a ring of buckets of one width.
type tier struct {
	width  time.Duration
	ring   []Count
	newest int64 // number of the newest bucket, counted from 1970
}

func newCounter(w Window) *counter {
	nominal, most := w.lengths()
	coarse := atLeast(nominal / coarseParts)
	c := new(counter)
	for i, part := range []time.Duration{finestParts, middleParts, 1} {
		width := max(coarse/part, time.Second)
		reach := most
		if part > 1 {
			// The finest serve the windows of the first alert, the next those of the second and the short one of the third.
			reach = nominal / coarseParts * map[time.Duration]time.Duration{finestParts: 1, middleParts: 6}[part]
		}
		c.tiers[i] = tier{width: width, ring: make([]Count, reach/width+2)}
	}
	return c
}

// add counts events that ended at a time.
func (c *counter) add(at time.Time, n Count) {
	for i := range c.tiers {
		c.tiers[i].add(floorDiv(at.UnixNano(), int64(c.tiers[i].width)), n)
	}
}

// add counts in bucket number k. A clock that was set back counts in the bucket of its time, if that is remembered; else all that is
// remembered was counted by a wrong clock, and is given up.
func (t *tier) add(k int64, n Count) {
	size := int64(len(t.ring))
	if ahead := k - t.newest; ahead >= size || ahead <= -size {
		clear(t.ring)
		t.newest = k
	}
	for t.newest < k {
		t.newest++
		t.ring[slot(t.newest, size)] = Count{}
	}
	at := &t.ring[slot(k, size)]
	*at = at.plus(n)
}

func slot(k, size int64) int64 { return ((k % size) + size) % size }

// sum is what was counted after a time until another, in whole buckets of the finest width that reaches back far enough: up to
// one bucket at the beginning is left out.
func (c *counter) sum(from, to time.Time) (all Count) {
	for i := range c.tiers {
		t := &c.tiers[i]
		size := int64(len(t.ring))
		first, last := floorDiv(from.UnixNano(), int64(t.width))+1, floorDiv(to.UnixNano(), int64(t.width))
		if last-first >= size && i < len(c.tiers)-1 {
			continue
		}
		for k := max(first, t.newest-size+1, last-size+1); k <= min(last, t.newest); k++ {
			all = all.plus(t.ring[slot(k, size)])
		}
		return all
	}
	return all
}

// take adds what another counter of the same window has counted.
func (c *counter) take(o *counter) {
	for i := range c.tiers {
		from, to := &o.tiers[i], &c.tiers[i]
		size := int64(len(from.ring))
		for k := from.newest - size + 1; k <= from.newest; k++ {
			n := from.ring[slot(k, size)]
			// What is too old for the other is left out; what is newer moves it on.
			if n != (Count{}) && k > to.newest-int64(len(to.ring)) {
				to.add(k, n)
			}
		}
	}
}

// savedTier is a tier in a file: the numbers of buckets that counted something, and what.
type savedTier struct {
	Width   time.Duration `json:"width"`
	Numbers []int64       `json:"numbers"` // the first from 1970, the others from the one before
	Good    []uint64      `json:"good"`
	Total   []uint64      `json:"total"`
}

// MarshalJSON writes what was counted.
func (c *counter) MarshalJSON() ([]byte, error) {
	var out [len(c.tiers)]savedTier
	for i := range c.tiers {
		t := &c.tiers[i]
		s := savedTier{Width: t.width, Numbers: []int64{}, Good: []uint64{}, Total: []uint64{}}
		before := int64(0)
		size := int64(len(t.ring))
		for k := t.newest - size + 1; k <= t.newest; k++ {
			if n := t.ring[slot(k, size)]; n != (Count{}) {
				s.Numbers, s.Good, s.Total = append(s.Numbers, k-before), append(s.Good, n.Good), append(s.Total, n.Total)
				before = k
			}
		}
		out[i] = s
	}
	return json.Marshal(out)
}

var errForeignCounts = errors.New("the buckets are of other widths, or out of order")

// UnmarshalJSON takes what MarshalJSON wrote, into a counter of the same window.
func (c *counter) UnmarshalJSON(b []byte) error {
	var in [len(c.tiers)]savedTier
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	for i, s := range in {
		if s.Width != c.tiers[i].width || len(s.Good) != len(s.Numbers) || len(s.Total) != len(s.Numbers) || len(s.Numbers) > len(c.tiers[i].ring) {
			return errForeignCounts
		}
		at := int64(0)
		for j, step := range s.Numbers {
			if at += step; j > 0 && step <= 0 {
				return errForeignCounts
			}
			c.tiers[i].add(at, Count{s.Good[j], s.Total[j]})
		}
	}
	return nil
}

// floorDiv divides towards minus infinity.
func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

package quota

import (
	"math"
	"time"

	"github.com/even-keel/evenkeel/site"
)

// slidingParts is in how many parts the past of a sliding period is remembered: what is counted comes back with an
// accuracy of a 60th of the period.
const slidingParts = 60

// Nominal lengths of the calendar's words, for sliding periods and for RateLimit-Policy, which knows only seconds.
const (
	day   = 24 * time.Hour
	month = 30 * day
	year  = 365 * day
)

// span is one period, or one part of a sliding one, in nanoseconds since 1970: start is its name.
type span struct{ start, end int64 }

// holds says whether a time lies within.
func (s span) holds(at int64) bool { return at >= s.start && at < s.end }

// period says how time is divided: a pure function of its fields. All of it is UTC, or at the constant offset of first, so that no clock
// change makes an hour last two or none.
type period struct {
	months  int           // a period has so many months; 0: length counts
	length  time.Duration // of one period, or of one part of a sliding one; 0 with months 0: lifetime
	sliding bool
	first   time.Time // periods count from here
	nominal time.Duration
}

// monday is a Monday, from which weeks count.
const monday = 4 * int64(day)

// newPeriod makes a period of a checked quota.
func newPeriod(q *site.Quota) period {
	p := period{first: time.Unix(0, 0).UTC(), sliding: q.Sliding}
	switch q.Period {
	case site.PeriodLifetime:
		return p
	case "hour":
		p.length, p.nominal = time.Hour, time.Hour
	case "day":
		p.length, p.nominal = day, day
	case "week":
		p.length, p.nominal, p.first = 7*day, 7*day, time.Unix(0, monday).UTC()
	case "month":
		p.months, p.nominal = 1, month
	case "year":
		p.months, p.nominal = 12, year
	default:
		p.length, _ = q.PeriodLength()
		p.nominal = p.length
	}
	if q.First != "" {
		if t, err := time.Parse(time.RFC3339, q.First); err == nil {
			// Not in UTC, where midnight of the 1st at +01:00 is on the last day of a month, and its 28th would be the day of all that
			// follow; and not in the machine's zone, which Parse takes when it is at that offset now, and which may know summer time.
			_, offset := t.Zone()
			p.first = t.In(time.FixedZone("", offset))
		}
	}
	if q.Sliding {
		p.months, p.length, p.first = 0, p.nominal/slidingParts, time.Unix(0, 0).UTC()
	}
	return p
}

// at is the period, or the part, that a time lies in.
func (p period) at(now time.Time) span {
	switch {
	case p.months > 0:
		return p.calendar(now.In(p.first.Location()))
	case p.length == 0:
		return span{0, math.MaxInt64}
	}
	from, length := p.first.UnixNano(), int64(p.length)
	k := floorDiv(now.UnixNano()-from, length)
	return span{from + k*length, from + (k+1)*length}
}

// before is the span right before one.
func (p period) before(s span) span { return p.at(time.Unix(0, s.start-1)) }

// calendar is the period of whole months that a time lies in.
func (p period) calendar(now time.Time) span {
	k := (now.Year()-p.first.Year())*12 + int(now.Month()) - int(p.first.Month())
	k = int(floorDiv(int64(k), int64(p.months))) * p.months
	begin := p.shift(k)
	if begin.After(now) {
		k -= p.months
		begin = p.shift(k)
	}
	return span{begin.UnixNano(), p.shift(k + p.months).UnixNano()}
}

// shift is first, k months later on its day, or on the last day of a shorter month.
func (p period) shift(k int) time.Time {
	f := p.first
	y, m := f.Year(), int(f.Month())-1+k
	y, m = y+int(floorDiv(int64(m), 12)), int(((int64(m)%12)+12)%12)+1
	last := time.Date(y, time.Month(m)+1, 0, 0, 0, 0, 0, f.Location()).Day()
	return time.Date(y, time.Month(m), min(f.Day(), last), f.Hour(), f.Minute(), f.Second(), f.Nanosecond(), f.Location())
}

// floorDiv divides towards minus infinity, so that times before 1970 and before first fall into the right period.
func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// reach is from when on spans still count at the span now: a sliding period reaches back over its parts. It keeps one part more
// than its length, so that no stretch of time of that length ever holds more than the quota.
func (p period) reach(now span) int64 {
	if p.sliding {
		return now.start - slidingParts*int64(p.length)
	}
	return now.start
}

// leaves is when what was counted in the span that begins at start does not count any more. end is the end of the present span.
func (p period) leaves(start, end int64) int64 {
	if p.sliding {
		return start + (slidingParts+1)*int64(p.length)
	}
	return end
}

// settled is the span that counting goes on in at a time, when counted is the newest that was counted in. A clock that went
// back across one boundary changes nothing: what was begun goes on. When it went back further, so that counted would
// not come for a whole period or more, the clock was wrong before: moved says that what was counted belongs to the present span.
func (p period) settled(now time.Time, counted int64) (s span, moved bool) {
	s = p.at(now)
	if counted <= s.start {
		return s, false
	}
	ahead := p.at(time.Unix(0, counted))
	near := p.before(ahead).start <= s.start
	if p.sliding {
		near = counted-s.start <= slidingParts*int64(p.length)
	}
	if near {
		return ahead, false
	}
	return s, true
}

// again says that s is the span from, or for a sliding period one that from still counts in: the clock, which had gone back from there by more
// than a period, was right before and is right again. Had it been wrong, time would have come by the spans between.
func (p period) again(s span, from int64) bool {
	return from != 0 && (from == s.start || p.sliding && from < s.start && from >= p.reach(s))
}

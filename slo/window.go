package slo

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// day is one in UTC, where no clock change makes it longer or shorter.
const day = 24 * time.Hour

// Window is the time over which an objective holds: a length that rolls with the clock, or a period of the calendar in UTC.
type Window struct {
	Length   time.Duration // of a rolling window; 0: Calendar counts
	Calendar string        // day, week (from Monday), month, quarter or year
}

// calendars are the words of the calendar, how long their periods are called, and how long they last at the most.
var calendars = []struct {
	word          string
	nominal, most time.Duration
}{{"day", day, day}, {"week", 7 * day, 7 * day}, {"month", 30 * day, 31 * day}, {"quarter", 90 * day, 92 * day}, {"year", 365 * day, 366 * day}}

// ParseWindow takes what a site file says; rolling is how long a text is that is no word of the calendar.
func ParseWindow(text string, rolling func(string) (time.Duration, bool)) (Window, error) {
	for _, c := range calendars {
		if c.word == text {
			return Window{Calendar: text}, nil
		}
	}
	if d, ok := rolling(text); ok {
		return Window{Length: d}, nil
	}
	return Window{}, fmt.Errorf("%q is no window", text)
}

// lengths are the nominal length, from which alert windows are scaled, and the most that a window reaches back.
func (w Window) lengths() (nominal, most time.Duration) {
	for _, c := range calendars {
		if w.Calendar == c.word {
			return c.nominal, c.most
		}
	}
	return w.Length, w.Length
}

// Begin is from when on what was counted belongs to the window at now.
func (w Window) Begin(now time.Time) time.Time {
	u := now.UTC()
	y, m, d := u.Date()
	switch w.Calendar {
	case "":
		return now.Add(-w.Length)
	case "week":
		d -= (int(u.Weekday()) + 6) % 7
	case "month":
		d = 1
	case "quarter":
		m, d = m-(m-1)%3, 1
	case "year":
		m, d = 1, 1
	}
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
}

// End is when the period of the calendar is over; of a rolling window it is now.
func (w Window) End(now time.Time) time.Time {
	b := w.Begin(now)
	switch w.Calendar {
	case "day":
		return b.AddDate(0, 0, 1)
	case "week":
		return b.AddDate(0, 0, 7)
	case "month":
		return b.AddDate(0, 1, 0)
	case "quarter":
		return b.AddDate(0, 3, 0)
	case "year":
		return b.AddDate(1, 0, 0)
	}
	return now
}

// String is the window as a site file says it.
func (w Window) String() string {
	if w.Calendar != "" {
		return w.Calendar
	}
	return Span(w.Length)
}

// Span is a duration without parts that are zero: 30d, 6h, 1h30m.
func Span(d time.Duration) string {
	if d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// widths that divide a day, so that periods of the calendar begin where a bucket does.
var widths = []time.Duration{
	time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute,
	10 * time.Minute, 15 * time.Minute, 20 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 3 * time.Hour, 4 * time.Hour, 6 * time.Hour, 8 * time.Hour, 12 * time.Hour, day,
}

// atLeast is the narrowest width that is not below d.
func atLeast(d time.Duration) time.Duration {
	i, _ := slices.BinarySearch(widths, d)
	return widths[min(i, len(widths)-1)]
}

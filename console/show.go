package console

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// The page, the terminal view and the plain text write figures in one manner: short, and of a width that moves little.

// none stands where a figure is unknown.
const none = "–"

// rateText is a rate per second: one decimal below ten, groups of three above.
func rateText(v float64) string {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0) || v < 0:
		return none
	case v < 0.05:
		return "0"
	case v < 9.95:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case v < 1e6:
		return grouped(uint64(math.Round(v)))
	}
	return short(v)
}

// countText is a count: groups of three below a million, short above.
func countText(n uint64) string {
	if n < 1e6 {
		return grouped(n)
	}
	return short(float64(n))
}

// short is a large number with three digits: 1.23M.
func short(v float64) string {
	units := []string{"", "k", "M", "G", "T", "P", "E"}
	i := 0
	for v >= 999.5 && i < len(units)-1 {
		v /= 1000
		i++
	}
	return digits(v) + units[i]
}

// digits is a number below 1000 with up to three digits.
func digits(v float64) string {
	switch {
	case v < 9.995:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 99.95:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

// grouped writes groups of three: 12,345.
func grouped(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// bytesText is a size in decimal units.
func bytesText(n uint64) string {
	if n < 1000 {
		return strconv.FormatUint(n, 10) + " B"
	}
	v, units := float64(n), []string{"B", "kB", "MB", "GB", "TB", "PB", "EB"}
	i := 0
	for v >= 999.5 && i < len(units)-1 {
		v /= 1000
		i++
	}
	return strings.TrimSuffix(digits(v), ".00") + " " + units[i]
}

// msText is a latency given in milliseconds; 0 is unknown.
func msText(v float64) string {
	switch {
	case !(v > 0):
		return none
	case v < 0.095:
		return strconv.FormatFloat(v*1000, 'f', 0, 64) + " µs"
	case v < 9.95:
		return strconv.FormatFloat(v, 'f', 1, 64) + " ms"
	case v < 999.5:
		return strconv.FormatFloat(v, 'f', 0, 64) + " ms"
	}
	return strconv.FormatFloat(v/1000, 'f', 1, 64) + " s"
}

// spanText is a length of time in its two largest units.
func spanText(d time.Duration) string {
	if d < 0 {
		d = 0
	}
	s := int64(d / time.Second)
	switch {
	case s < 60:
		return strconv.FormatInt(s, 10) + " s"
	case s < 3600:
		return two(s/60, "min", s%60, "s")
	case s < 86400:
		return two(s/3600, "h", s%3600/60, "min")
	}
	return two(s/86400, "d", s%86400/3600, "h")
}

func two(a int64, unit string, b int64, lesser string) string {
	s := strconv.FormatInt(a, 10) + " " + unit
	if b > 0 {
		s += " " + strconv.FormatInt(b, 10) + " " + lesser
	}
	return s
}

// percentText is a share without false precision: 99.9% must not read 100%.
func percentText(v float64) string {
	switch {
	case math.IsNaN(v) || v < 0:
		return none
	case v == 0 || v >= 1:
		return strconv.FormatFloat(v*100, 'f', 0, 64) + "%"
	case v > 0.995:
		return strconv.FormatFloat(math.Floor(v*1000)/10, 'f', 1, 64) + "%"
	case v < 0.01:
		return "<1%"
	}
	return strconv.FormatFloat(v*100, 'f', 0, 64) + "%"
}

// shareOf is what part of a pool's requests an endpoint takes now, 0 to 1.
func shareOf(p Pool, e Endpoint) float64 {
	sum := 0.0
	for _, o := range p.Endpoints {
		sum += o.RPS
	}
	if !(sum > 0) {
		return 0
	}
	return e.RPS / sum
}

// dueOf is what part an endpoint should take by its effective weight, 0 to 1.
func dueOf(p Pool, e Endpoint) float64 {
	sum := 0.0
	for _, o := range p.Endpoints {
		sum += o.EffectiveWeight
	}
	if !(sum > 0) {
		return 0
	}
	return e.EffectiveWeight / sum
}

// latencyOf is the latency to show of an endpoint: the median when it is known, else the pool's moving mean.
func latencyOf(e Endpoint) float64 {
	if e.P50MS > 0 {
		return e.P50MS
	}
	return e.EWMAMS
}

// glyph is the shape of a state, so that colour is never the only sign.
func glyph(state string) string {
	switch state {
	case StateUp:
		return "●"
	case StateSlow:
		return "◐"
	case StateSick, StateEjected:
		return "▲"
	case StateDraining:
		return "◇"
	case StateDown:
		return "■"
	}
	return "○"
}

// tone is how good a state is, in one of four words: the colours of page and terminal follow it.
func tone(state string) string {
	switch state {
	case StateUp:
		return "good"
	case StateSick, StateEjected:
		return "bad"
	case StateSlow, StateDraining:
		return "warn"
	}
	return "calm"
}

// nodeState is the node in one word, and its tone.
func nodeState(n Node) (word, tone string) {
	switch {
	case n.Draining:
		return "draining", "warn"
	case n.Ready:
		return "ready", "good"
	}
	return "not ready", "bad"
}

// upCount is how many endpoints take traffic.
func upCount(p Pool) (n int) {
	for _, e := range p.Endpoints {
		if e.State == StateUp || e.State == StateSlow {
			n++
		}
	}
	return n
}

// reasons lists counts by reason, largest first, as one line.
func reasons(m map[string]uint64) string {
	keys := make([]string, 0, len(m))
	for k, n := range m {
		if n > 0 {
			keys = append(keys, k)
		}
	}
	sortBy(keys, func(a, b string) bool { return m[a] > m[b] || m[a] == m[b] && a < b })
	for i, k := range keys {
		keys[i] = k + " " + countText(m[k])
	}
	return strings.Join(keys, ", ")
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

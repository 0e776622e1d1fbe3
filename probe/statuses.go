package probe

import (
	"fmt"
	"strconv"
	"strings"
)

// Bounds of an HTTP status (RFC 9110 section 15).
const (
	statusMin = 100
	statusMax = 599
)

// statuses is a set of HTTP statuses.
type statuses struct {
	text string
	in   [(statusMax + 64) / 64]uint64
}

// parseStatuses reads numbers and ranges: "204", "200-299", "200-299,301". Parts may be given as elements
// or be parted by commas; none at all means 200-399.
func parseStatuses(parts []string) (statuses, error) {
	var s statuses
	if len(parts) == 0 {
		parts = []string{"200-399"}
	}
	s.text = strings.Join(parts, ",")
	for part := range strings.SplitSeq(s.text, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			last = first
		}
		from, ok1 := parseStatus(first)
		to, ok2 := parseStatus(last)
		if !ok1 || !ok2 || from > to {
			return statuses{}, fmt.Errorf("status %q: allowed are numbers from 100 to 599 and ranges of them, such as 200-299", tidy(part, 40))
		}
		for n := from; n <= to; n++ {
			s.in[n/64] |= 1 << (n % 64)
		}
	}
	return s, nil
}

func parseStatus(s string) (int, bool) {
	s = strings.TrimSpace(s)
	if len(s) != 3 || s[0] < '1' || s[0] > '9' {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= statusMin && n <= statusMax
}

func (s *statuses) has(n int) bool {
	return n >= statusMin && n <= statusMax && s.in[n/64]&(1<<(n%64)) != 0
}

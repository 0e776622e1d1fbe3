package site

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// checkAfter checks a share of answers, such as p95, or a length of time.
func checkAfter(s string) (string, error) {
	if len(s) == 3 && s[0] == 'p' {
		if n, err := strconv.Atoi(s[1:]); err == nil && n >= 50 && n <= 99 {
			return s, nil
		}
		return s, fmt.Errorf("%s is not a share of answers; allowed is p50 to p99", quote(s))
	}
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return s, fmt.Errorf("%s is neither p50 to p99 nor a length of time such as 50ms", quote(s))
	case d < time.Millisecond:
		return s, errors.New("a second endpoint is asked after 1ms at the soonest")
	}
	return s, nil
}

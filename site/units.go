package site

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes. In the file: 512B, 16KiB, 10MB, 1GiB; a rate in bytes carries /s.
type Size int64

// Rate is events per second. In the file: 100/s, 6000/m, 1000/h.
type Rate float64

// Percent is a share, 0.5 for 50%. In the file: 99.9%.
type Percent float64

// Secret is a text that is never printed. In the file: ${NAME} for an environment
// variable or file:PATH for the trimmed content of a file.
type Secret string

// masked is what a secret looks like wherever it would be printed.
const masked = "***"

// String masks the secret, so that a log line or a printed structure never shows it.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return masked
}

// GoString masks the secret for %#v.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// MarshalText masks the secret for JSON and the like.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// unit is one suffix and what it multiplies by.
type unit struct {
	name  string
	times float64
}

// Units, largest first where a printer looks for the one that fits.
var (
	sizeUnits = []unit{{"GiB", 1 << 30}, {"GB", 1e9}, {"MiB", 1 << 20}, {"MB", 1e6}, {"KiB", 1 << 10}, {"KB", 1e3}, {"B", 1}}
	rateUnits = []unit{{"/s", 1}, {"/m", 60}, {"/h", 3600}}
)

// Bounds of what a number can say, far above sense and far below overflow.
const (
	maxNumber  = 1e15    // whole numbers without a unit
	maxSize    = 1 << 50 // a pebibyte
	maxRate    = 1e9     // per second
	maxPercent = 1e4     // a million percent
	maxDays    = 36500   // a century; time.Duration ends at 292 years
)

// number reads digits with at most places decimals: no sign, exponent, infinity or underscore, which files have no use for.
func number(s string, places int) (float64, bool) {
	whole, part, point := strings.Cut(s, ".")
	if whole == "" || len(whole) > 16 || len(part) > places || point && part == "" {
		return 0, false
	}
	for _, c := range whole + part {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil
}

// decimal prints f with the fewest decimals, up to places, for which same holds.
func decimal(f float64, places int, same func(string) bool) (string, bool) {
	for p := 0; p <= places; p++ {
		if s := strconv.FormatFloat(f, 'f', p, 64); same(s) {
			return s, true
		}
	}
	return "", false
}

func parseSize(s string, perSecond bool) (Size, error) {
	t := s
	if perSecond {
		t = strings.TrimSuffix(s, "/s")
	}
	for _, u := range sizeUnits {
		digits, ok := strings.CutSuffix(t, u.name)
		if !ok {
			continue
		}
		f, ok := number(digits, 6)
		if !ok {
			break
		}
		bytes := f * u.times
		if bytes != math.Trunc(bytes) {
			return 0, fmt.Errorf("%s is not a whole number of bytes", quote(s))
		}
		if bytes > maxSize {
			return 0, fmt.Errorf("%s is too large; at most %s is allowed", quote(s), Size(maxSize))
		}
		return Size(bytes), nil
	}
	return 0, sizeError(s, perSecond)
}

func sizeError(s string, perSecond bool) error {
	rate, example := "", "16KiB"
	if perSecond {
		rate, example = ", and /s if you like", "240B/s"
	}
	text := fmt.Sprintf("%s is not a size; write a number with B, KB, KiB, MB, MiB, GB or GiB%s, such as %s", quote(s), rate, example)
	if !perSecond && strings.HasSuffix(s, "/s") {
		return fmt.Errorf("%s is a rate, but a size is wanted; leave out /s", quote(s))
	}
	t := strings.TrimSuffix(s, "/s")
	digits := strings.TrimRight(t, "KMGTIBkmgtib ")
	if _, ok := number(digits, 6); !ok {
		return errors.New(text)
	}
	guess, ok := map[string]string{"": "B", "k": "KiB", "m": "MiB", "g": "GiB", "kb": "KB", "mb": "MB", "gb": "GB",
		"ki": "KiB", "mi": "MiB", "gi": "GiB", "kib": "KiB", "mib": "MiB", "gib": "GiB", "b": "B"}[strings.ToLower(strings.TrimSpace(t[len(digits):]))]
	if !ok {
		return errors.New(text)
	}
	if perSecond {
		guess += "/s"
	}
	return fmt.Errorf("%s; did you mean %s%s?", text, digits, guess)
}

// String is the size in the largest unit that takes it whole.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if n := int64(u.times); s != 0 && int64(s)%n == 0 {
			return strconv.FormatInt(int64(s)/n, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

func parseRate(s string) (Rate, error) {
	for _, u := range rateUnits {
		digits, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		f, ok := number(digits, 3)
		if !ok {
			break
		}
		if f/u.times > maxRate {
			return 0, fmt.Errorf("%s is too large; at most %s is allowed", quote(s), Rate(maxRate))
		}
		return Rate(f / u.times), nil
	}
	text := fmt.Sprintf("%s is not a rate; write a number with /s, /m or /h, such as 100/s", quote(s))
	if _, ok := number(s, 3); ok {
		text += "; did you mean " + s + "/s?"
	}
	return 0, errors.New(text)
}

// String is the rate in the first of /s, /m and /h that says it exactly.
func (r Rate) String() string {
	for _, u := range rateUnits {
		s, ok := decimal(float64(r)*u.times, 3, func(s string) bool {
			back, err := parseRate(s + u.name)
			return err == nil && back == r
		})
		if ok {
			return s + u.name
		}
	}
	return strconv.FormatFloat(float64(r), 'f', -1, 64) + "/s"
}

func parsePercent(s string) (Percent, error) {
	digits, ok := strings.CutSuffix(s, "%")
	f, isNumber := number(digits, 4)
	switch {
	case ok && isNumber && f/100 <= maxPercent:
		return Percent(math.Round(f*1e4) / 1e6), nil
	case ok && isNumber:
		return 0, fmt.Errorf("%s is too large; at most %s is allowed", quote(s), Percent(maxPercent))
	case isNumber && f <= 1 && f != 0 && strings.Contains(s, "."):
		return 0, fmt.Errorf("%s is not a percentage; did you mean %s?", quote(s), Percent(math.Round(f*1e6)/1e6))
	case isNumber:
		return 0, fmt.Errorf("%s has no unit; did you mean %s%%?", quote(s), s)
	}
	return 0, fmt.Errorf("%s is not a percentage; write a number with up to four decimals and %%, such as 99.9%%", quote(s))
}

// String is the share as a percentage, 99.9%.
func (p Percent) String() string {
	s, ok := decimal(float64(p)*100, 4, func(s string) bool {
		back, err := parsePercent(s + "%")
		return err == nil && back == p
	})
	if !ok {
		s = strconv.FormatFloat(float64(p)*100, 'f', -1, 64)
	}
	return s + "%"
}

// ParseDuration reads a duration as site files write it, of 0s or more: 500ms, 1h30m, 30d.
func ParseDuration(s string) (time.Duration, error) {
	rest, days := s, time.Duration(0)
	if head, tail, ok := strings.Cut(s, "d"); ok {
		n, isNumber := number(head, 3)
		if !isNumber {
			return 0, durationError(s)
		}
		if n > maxDays {
			return 0, fmt.Errorf("%s is too long; at most %dd is allowed", quote(s), maxDays)
		}
		days, rest = time.Duration(math.Round(n*24*float64(time.Hour))), tail
		if rest == "" {
			return days, nil
		}
	}
	if rest == "" || rest[0] < '0' || rest[0] > '9' { // no sign, and no bare point
		return 0, durationError(s)
	}
	d, err := time.ParseDuration(rest)
	if err != nil {
		return 0, durationError(s)
	}
	if d > maxDays*24*time.Hour || d+days > maxDays*24*time.Hour {
		return 0, fmt.Errorf("%s is too long; at most %dd is allowed", quote(s), maxDays)
	}
	return d + days, nil
}

func durationError(s string) error {
	if _, ok := number(s, 3); ok {
		return fmt.Errorf("%s has no unit; did you mean %ss?", quote(s), s)
	}
	if strings.HasPrefix(s, "-") {
		return fmt.Errorf("%s is negative; a duration is 0s or more", quote(s))
	}
	return fmt.Errorf("%s is not a duration; write numbers with ms, s, m, h or d, such as 500ms, 5s or 1h30m", quote(s))
}

// FormatDuration is time.Duration.String without its zero tail, and whole days as d: 1m, 1h30m, 30d.
func FormatDuration(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
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

func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap() // ::ffff:10.0.0.1 would never match: addresses of connections are unmapped
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return p, fmt.Errorf("%s is not an address or network; write one such as 10.0.0.1, 10.0.0.0/8 or 2001:db8::/32", quote(s))
	case p.Addr().Is4In6():
		return p, fmt.Errorf("%s is an IPv4 network in IPv6 clothes; write it as IPv4", quote(s))
	case p != p.Masked():
		return p, fmt.Errorf("%s has bits set beyond its /%d; did you mean %s?", quote(s), p.Bits(), p.Masked())
	}
	return p, nil
}

// formatPrefix leaves out the length of a single address.
func formatPrefix(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// format is the text of a scalar in the file's own notation. Secrets come out masked.
func format(v reflect.Value, f field) string {
	switch x := v.Interface().(type) {
	case Size:
		if f.rate {
			return x.String() + "/s"
		}
		return x.String()
	case time.Duration:
		return FormatDuration(x)
	case netip.Prefix:
		return formatPrefix(x)
	}
	return fmt.Sprint(v.Interface())
}

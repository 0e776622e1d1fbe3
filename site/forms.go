package site

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// form is what a text must look like. check returns the text as it is kept.
type form struct {
	check   func(string) (string, error)
	pattern string // for the JSON Schema: lets through at least what check lets through
	says    string // for the reference page
}

// forms by the word in a field's form tag. headers and patterns are forms of a mapping's values; its keys are tokens.
var forms = map[string]form{
	"name":      {checkName, `^[A-Za-z0-9][A-Za-z0-9._-]*$`, "letters, digits and . _ -"},
	"listen":    {checkListen, `^[^/\s]*:[0-9]+$`, "host:port or :port"},
	"address":   {checkAddress, `^[^/\s]+:[0-9]+$`, "host:port"},
	"authority": {checkAuthority, `^[^/\s@]+$`, "host or host:port"},
	"domain":    {checkDomain, `^[^/\s:]+$`, "a host name"},
	"host":      {checkHost, `^(\*\.)?[^/\s*]+$`, "a host name, *.name or an IP address"},
	"path":      {checkPath, `^/[^*?#\s]*(/\*)?$|^/\*$`, "/exact or /prefix/*"},
	"target":    {checkTarget, `^/[^\s#]*$`, "starts with /"},
	"token":     {checkToken, "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", "a word without spaces or separators"},
	"method":    {checkMethod, "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", "a request method, such as GET"},
	"status":    {checkStatus, `^[1-5][0-9][0-9](-[1-5][0-9][0-9])?$`, "200 or 200-399"},
	"regexp":    {checkRegexp, "", "a regular expression"},
	"patterns":  {checkRegexp, "", "header name: regular expression"},
	"headers":   {checkHeaderValue, "", "header name: value"},
	"period":    {checkPeriod, `^(hour|day|week|month|year|lifetime|[0-9].*)$`, "hour, day, week, month, year, lifetime or a length"},
	"window":    {checkWindow, `^(day|week|month|quarter|year|[0-9].*)$`, "day, week, month, quarter, year or a length"},
	"url":       {checkURL, `^(https?://.+)?$`, "a URL"},
	"page":      {checkPage, `^(https?://.+)?$`, "a URL"},
	"mailbox":   {checkMailbox, `^[^@\s]+@[^@\s]+$`, "a mail address"},
	"after":     {checkAfter, `^(p[5-9][0-9]|[0-9].*)$`, "p50 to p99, or a length of time"},
	"time":      {checkTime, `^[0-9]{4}-[0-9]{2}-[0-9]{2}T.*$`, "a time, 2026-01-31T00:00:00Z"},
	"exclusion": {checkExclusion, `^([1-9][0-9]*(-[1-9][0-9]*)?|[A-Za-z][A-Za-z0-9_./:-]*)$`, "942100, 942000-942999 or a tag"},
	"file":      {checkFile, "", "a path, relative to the file that names it"},
	"place":     {checkPlace, "", "a URL, or a path relative to the file that names it"},
}

func checkName(s string) (string, error) {
	const longest = 64 // names become metric labels and columns on a terminal
	if len(s) > longest {
		return s, fmt.Errorf("%s is too long; a name has at most %d characters", quote(s), longest)
	}
	for i, c := range []byte(s) {
		if !alphanumeric(c) && (i == 0 || !strings.ContainsRune("._-", rune(c))) {
			return s, fmt.Errorf("%s is not a name; letters, digits and . _ - are allowed, the first a letter or digit", quote(s))
		}
	}
	return s, nil
}

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

func checkListen(s string) (string, error) {
	host, port, err := hostPort(s, ":8080")
	if err != nil {
		return s, err
	}
	if host == "*" {
		return s, fmt.Errorf("%s has * for a host; write :%s for all addresses", quote(s), port)
	}
	if host != "" {
		if err := hostName(host); err != nil {
			return s, err
		}
	}
	return net.JoinHostPort(host, port), nil
}

func checkAddress(s string) (string, error) {
	host, port, err := hostPort(s, "10.0.0.1:8080")
	switch {
	case err != nil:
		return s, err
	case host == "":
		return s, fmt.Errorf("%s has no host; write host:port, such as 127.0.0.1:%s", quote(s), port)
	case port == "0":
		return s, fmt.Errorf("%s has port 0; allowed is 1 to 65535", quote(s))
	}
	return strings.ToLower(net.JoinHostPort(host, port)), hostName(host)
}

// hostPort splits and says in words what net.SplitHostPort says in its own.
func hostPort(s, example string) (host, port string, err error) {
	if scheme, rest, ok := strings.Cut(s, "://"); ok {
		return "", "", fmt.Errorf("%s carries the scheme %s://; write only host:port%s", quote(s), scheme, withoutScheme(scheme, rest))
	}
	if strings.ContainsAny(s, "/?#@ \t\r\n") {
		return "", "", fmt.Errorf("%s is not an address; write only host:port, such as %s", quote(s), example)
	}
	if a, e := netip.ParseAddr(s); e == nil && a.Is6() {
		return "", "", fmt.Errorf("%s has no port; write [%s]:PORT", quote(s), s)
	}
	host, port, e := net.SplitHostPort(s)
	switch {
	case e != nil && strings.Count(s, ":") > 1 && !strings.HasPrefix(s, "["):
		return "", "", fmt.Errorf("%s is not an address; put an IPv6 address in brackets: [2001:db8::1]:8080", quote(s))
	case e != nil && !strings.Contains(strings.TrimLeft(s, "[]0123456789abcdefABCDEF:."), ":") && !strings.Contains(s, ":"):
		if n, err := strconv.Atoi(s); err == nil && n > 0 && n < 65536 {
			return "", "", fmt.Errorf("%s has no host; write host:port, such as :%s for all addresses or 127.0.0.1:%s", quote(s), s, s)
		}
		return "", "", fmt.Errorf("%s has no port; write host:port, such as %s:8080", quote(s), s)
	case e != nil:
		return "", "", fmt.Errorf("%s is not an address; write host:port, such as %s", quote(s), example)
	}
	n, e := strconv.ParseUint(port, 10, 16)
	if e != nil || len(port) > 5 {
		return "", "", fmt.Errorf("%s is not a port in %s; allowed is a number up to 65535", quote(port), quote(s))
	}
	return host, strconv.FormatUint(n, 10), nil
}

// withoutScheme is what was probably meant by a URL where an address is wanted.
func withoutScheme(scheme, rest string) string {
	rest, _, _ = strings.Cut(rest, "/")
	if port := map[string]string{"http": ":80", "https": ":443"}[scheme]; !strings.Contains(rest, ":") {
		rest += port
	}
	if _, _, err := net.SplitHostPort(rest); err != nil {
		return ""
	}
	return "; did you mean " + rest + "?"
}

// hostName takes IP addresses and host names (RFC 1123 section 2.1, with the underscore that service names carry).
func hostName(s string) error {
	if _, err := netip.ParseAddr(s); err == nil {
		return nil
	}
	const longest = 253 // RFC 1035 section 2.3.4, without the length octets
	switch {
	case s == "":
		return errors.New("the host is empty")
	case len(s) > longest:
		return fmt.Errorf("%s is too long; a host name has at most %d characters", quote(s), longest)
	case strings.IndexFunc(s, func(r rune) bool { return r > 127 }) >= 0:
		return fmt.Errorf("%s is not ASCII; write the name in its punycode form, xn--…", quote(s))
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		ok := label != "" && len(label) <= 63 && label[0] != '-' && label[len(label)-1] != '-'
		for _, c := range []byte(label) {
			ok = ok && (alphanumeric(c) || c == '-' || c == '_')
		}
		if !ok {
			return fmt.Errorf("%s is not a host name; letters, digits and - between dots are allowed", quote(s))
		}
	}
	return nil
}

func checkDomain(s string) (string, error) {
	if strings.Contains(s, "://") || strings.ContainsAny(s, "/:") && hostName(s) != nil {
		return s, fmt.Errorf("%s is not a host name; leave out scheme, port and path", quote(s))
	}
	return s, hostName(s)
}

func checkAuthority(s string) (string, error) {
	if scheme, _, ok := strings.Cut(s, "://"); ok {
		return s, fmt.Errorf("%s carries the scheme %s://; write only the host, or host:port", quote(s), scheme)
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host = s
		if inner, ok := strings.CutPrefix(s, "["); ok && strings.HasSuffix(inner, "]") {
			host = strings.TrimSuffix(inner, "]")
		}
	} else if n, e := strconv.ParseUint(port, 10, 16); e != nil || n == 0 {
		return s, fmt.Errorf("%s is not a port in %s; allowed is 1 to 65535", quote(port), quote(s))
	}
	return s, hostName(host)
}

// checkHost keeps hosts in lower case: they are compared without regard to case (RFC 9110 section 4.2.3).
func checkHost(s string) (string, error) {
	low := strings.ToLower(s)
	bare := strings.TrimPrefix(low, "*.")
	switch {
	case s == "*":
		return s, errors.New(`"*" stands for every host; leave hosts out to take all`)
	case strings.Contains(s, "://") || strings.Contains(s, "/"):
		return s, fmt.Errorf("%s is more than a host; leave out the scheme, and put the path into paths", quote(s))
	case strings.Contains(bare, "*"):
		return s, fmt.Errorf("%s has its * in the wrong place; a wildcard stands only as *. at the start, such as *.shop.example", quote(s))
	case strings.HasSuffix(bare, "."):
		return s, fmt.Errorf("%s ends in a dot; did you mean %s?", quote(s), strings.TrimSuffix(low, "."))
	}
	if host, _, err := net.SplitHostPort(bare); err == nil {
		return s, fmt.Errorf("%s carries a port; routes look at the host alone: did you mean %s?", quote(s), host)
	}
	return low, hostName(strings.TrimSuffix(strings.TrimPrefix(bare, "["), "]"))
}

// checkPath takes a star only as the last segment: /shop* would take /shopping too, which nobody means.
func checkPath(s string) (string, error) {
	star := strings.IndexByte(s, '*')
	switch {
	case !strings.HasPrefix(s, "/"):
		return s, fmt.Errorf("%s does not start with /; did you mean %s?", quote(s), "/"+s)
	case star >= 0 && star == len(s)-1 && !strings.HasSuffix(s, "/*"):
		base := strings.TrimSuffix(s, "*")
		return s, fmt.Errorf("%s would take %ss too; write %s for the path itself and %s/* for all below it", quote(s), base, base, base)
	case star >= 0 && star != len(s)-1:
		return s, fmt.Errorf("%s has a * in its middle; a * stands only at the end, as in /shop/*", quote(s))
	}
	return targetChars(s, "?#")
}

func checkTarget(s string) (string, error) {
	if !strings.HasPrefix(s, "/") {
		return s, fmt.Errorf("%s does not start with /; did you mean %s?", quote(s), "/"+s)
	}
	return targetChars(s, "#")
}

func targetChars(s, without string) (string, error) {
	for _, c := range s {
		if c <= ' ' || c > '~' || strings.ContainsRune(without, c) {
			return s, fmt.Errorf("%s holds %q, which a path cannot; write it percent-encoded", quote(s), c)
		}
	}
	return s, nil
}

// checkToken is the token of RFC 9110 section 5.6.2.
func checkToken(s string) (string, error) {
	for _, c := range s {
		if c > 127 || !alphanumeric(byte(c)) && !strings.ContainsRune("!#$%&'*+-.^_`|~", c) {
			return s, fmt.Errorf("%s is not a valid name: it holds %q; letters, digits and - are safe", quote(s), c)
		}
	}
	return s, nil
}

func checkMethod(s string) (string, error) {
	known := []string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}
	if up := strings.ToUpper(s); up != s && slices.Contains(known, up) {
		return s, fmt.Errorf("%s is not a method; methods are in capitals: did you mean %s?", quote(s), up)
	}
	return checkToken(s)
}

func checkStatus(s string) (string, error) {
	low, high, ok := strings.Cut(s, "-")
	if !ok {
		high = low
	}
	from, err1 := strconv.Atoi(low)
	to, err2 := strconv.Atoi(high)
	switch {
	case err1 != nil || err2 != nil || len(low) != 3 || len(high) != 3:
		if len(s) == 3 && strings.HasSuffix(strings.ToLower(s), "xx") && s[0] >= '1' && s[0] <= '5' {
			return s, fmt.Errorf("%s is not a status; did you mean %c00-%c99?", quote(s), s[0], s[0])
		}
		return s, fmt.Errorf("%s is not a status; write 200 or a range such as 200-399", quote(s))
	case from < 100 || to > 599:
		return s, fmt.Errorf("%s is not a status; allowed is 100 to 599", quote(s))
	case from > to:
		return s, fmt.Errorf("%s is an empty range; did you mean %s-%s?", quote(s), high, low)
	}
	return s, nil
}

// checkRegexp takes RE2 expressions: no input makes them slow.
func checkRegexp(s string) (string, error) {
	const longest = 4096 // bytes: a longer one was generated and belongs into a program
	if len(s) > longest {
		return s, fmt.Errorf("%s is too long; a regular expression has at most %d characters", quote(s), longest)
	}
	if _, err := regexp.Compile(s); err != nil {
		return s, fmt.Errorf("%s is not a regular expression: %s", quote(s), strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	return s, nil
}

// checkHeaderValue follows RFC 9110 section 5.5. The value is not shown: headers carry credentials.
func checkHeaderValue(s string) (string, error) {
	for _, c := range []byte(s) {
		if c < ' ' && c != '\t' || c == 127 {
			return s, fmt.Errorf("the value holds the control character %q, which a header cannot", c)
		}
	}
	if strings.Trim(s, " \t") != s {
		return s, errors.New("the value has blanks at an end, which a header loses on its way")
	}
	return s, nil
}

// Bounds of a quota's period given as a length.
const (
	shortestPeriod = time.Minute // below it, a rate is meant
	longestPeriod  = 10 * 366 * 24 * time.Hour
)

func checkPeriod(s string) (string, error) {
	words := []string{"hour", "day", "week", "month", "year", PeriodLifetime}
	if slices.Contains(words, s) {
		return s, nil
	}
	d, err := ParseDuration(s)
	switch {
	case err != nil:
		return s, fmt.Errorf("%s is not a period; write %s, or a length such as 30d%s", quote(s), either(words), didYouMean(s, words))
	case d < shortestPeriod:
		return s, fmt.Errorf("%s is shorter than a minute; use a limit with a rate", quote(s))
	case d > longestPeriod:
		return s, fmt.Errorf("%s is longer than ten years; write lifetime", quote(s))
	}
	return s, nil
}

func checkTime(s string) (string, error) {
	t, err := time.Parse(time.RFC3339, s)
	switch {
	case err != nil:
		return s, fmt.Errorf("%s is not a time; write it as 2026-01-31T00:00:00Z", quote(s))
	case t.Year() < 1700 || t.Year() > 2200: // nanoseconds since 1970 do not reach further
		return s, fmt.Errorf("%s is too far away; allowed are the years 1700 to 2200", quote(s))
	}
	return s, nil
}

// isURL reports whether a place is a URL and no path.
func isURL(s string) bool { return strings.Contains(s, "://") }

func checkPlace(s string) (string, error) {
	if !isURL(s) {
		return checkFile(s)
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return s, fmt.Errorf("%s is no URL; write https://host/path, or the path of a file", quote(s))
	case u.User != nil:
		return s, errors.New("a URL with a password in it would stand in logs; leave out what is before the @")
	case u.Fragment != "":
		return s, fmt.Errorf("%s has a fragment, which is never sent; leave out #%s", quote(s), u.Fragment)
	}
	return u.String(), nil
}

func checkFile(s string) (string, error) {
	if strings.ContainsRune(s, 0) {
		return s, fmt.Errorf("%s holds a zero byte, which a path cannot", quote(s))
	}
	return s, nil
}

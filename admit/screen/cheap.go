package screen

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"github.com/corazawaf/libinjection-go"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// Bounds of a target that a proper client keeps: URLs beyond 2,000 characters did not work everywhere for decades, and forms with
// more than 256 fields are sent as bodies.
const (
	maxPath  = 2 << 10
	maxQuery = 8 << 10
	maxArgs  = 256
)

// finding is what a cheap check found: made once, shared by all exchanges.
type finding struct {
	found   []string // one name
	refusal *exchange.Refusal
}

// What the cheap checks find.
var (
	foundMethod   = &finding{[]string{"check-method"}, refuseMalformed}
	foundPath     = &finding{[]string{"check-path"}, refuseMalformed}
	foundEncoding = &finding{[]string{"check-encoding"}, refuseMalformed}
	foundSize     = &finding{[]string{"check-size"}, refuseMalformed}
	foundSQL      = &finding{[]string{"check-sqli"}, refuseAttack}
	foundXSS      = &finding{[]string{"check-xss"}, refuseAttack}
)

// knownMethods are those of RFC 9110, PATCH (RFC 5789) and WebDAV (RFC 4918, 3253, 5323).
var knownMethods = []string{"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "PROPFIND", "PROPPATCH", "MKCOL",
	"COPY", "MOVE", "LOCK", "UNLOCK", "REPORT", "SEARCH", "CHECKOUT", "CHECKIN", "UNCHECKOUT", "MKACTIVITY", "MERGE", "VERSION-CONTROL", "QUERY"}

// cheap are the checks that look at all requests, in some microseconds each.
type cheap struct {
	sqli, xss bool
	bufs      sync.Pool // *[]byte for decoded arguments: libinjection makes them escape
}

// Rules of the core rule set that decide by libinjection alone, with their tags. Where they do not hold, or do not suffice to call
// a request an attack, the cheap checks do not either.
var (
	sqliTags = []string{"942100", "attack-sqli", "language-multi", "application-multi", "platform-multi", "paranoia-level/1", "OWASP_CRS"}
	xssTags  = []string{"941100", "attack-xss", "language-multi", "application-multi", "platform-multi", "paranoia-level/1", "OWASP_CRS"}
)

// criticalScore is what one critical rule of the core rule set adds to the anomaly score.
const criticalScore = 5

func newCheap(cfg *site.Screen) *cheap {
	holds := func(rule int, tags []string) bool {
		if cfg.Anomaly > criticalScore {
			return false
		}
		for _, word := range cfg.Exclude {
			e, err := parseExclusion(word)
			if err == nil && (e.covers(rule) || slices.ContainsFunc(tags, func(t string) bool { return strings.Contains(t, e.tag) && e.tag != "" })) {
				return false
			}
		}
		return true
	}
	return &cheap{sqli: holds(942100, sqliTags), xss: holds(941100, xssTags)}
}

// check says what is wrong with x; nil: nothing that can be seen cheaply.
func (c *cheap) check(x *exchange.Exchange) *finding {
	r := x.Request
	if !slices.ContainsFunc(knownMethods, func(m string) bool { return m == string(r.Method) }) {
		return foundMethod
	}
	query := queryOf(r.Target)
	if len(x.Path) > maxPath || len(query) > maxQuery {
		return foundSize
	}
	if f := checkPath(x.Path); f != nil {
		return f
	}
	if len(query) == 0 {
		return nil
	}
	return c.arguments(query)
}

// checkPath looks for encodings that hide what a path names.
func checkPath(path []byte) *finding {
	if bytes.IndexByte(path, '%') < 0 {
		return nil
	}
	var buf [maxPath]byte
	once := appendDecoded(buf[:0], path, false)
	if badOctets(once) {
		return foundEncoding
	}
	for i := 0; i+2 < len(once); i++ {
		if once[i] != '%' {
			continue
		}
		// Encoded twice is what only an endpoint that decodes twice understands. A file name may have a percent
		// sign in it; it is what steers paths and queries that nobody encodes twice by accident.
		hi, lo := unhex(once[i+1]), unhex(once[i+2])
		if c := byte(hi<<4 | lo); hi >= 0 && lo >= 0 && (c < 0x20 || strings.IndexByte(`./\%<>'"`, c) >= 0) {
			return foundEncoding
		}
	}
	if climbs(once) {
		return foundPath
	}
	return nil
}

// climbs reports whether a path has a segment that leads up.
func climbs(path []byte) bool {
	for i := 0; i+1 < len(path); i++ {
		if path[i] == '.' && path[i+1] == '.' && (i == 0 || isSlash(path[i-1])) && (i+2 == len(path) || isSlash(path[i+2]) || path[i+2] == ';') {
			return true
		}
	}
	return false
}

func isSlash(c byte) bool { return c == '/' || c == '\\' }

// badOctets reports a NUL, or a character of UTF-8 that is longer than it need be: both exist to be read differently by two programs
// (RFC 3629 §10).
func badOctets(b []byte) bool {
	for i, c := range b {
		switch {
		case c == 0:
			return true
		case c < 0xc0 || i+1 == len(b) || b[i+1]&0xc0 != 0x80:
		case c == 0xc0 || c == 0xc1 || c == 0xe0 && b[i+1] < 0xa0 || c == 0xf0 && b[i+1] < 0x90:
			return true
		}
	}
	return false
}

// arguments looks at names and values of a query.
func (c *cheap) arguments(query []byte) *finding {
	buf, _ := c.bufs.Get().(*[]byte)
	if buf == nil {
		buf = new(make([]byte, maxQuery))
	}
	defer c.bufs.Put(buf)
	out := *buf
	for n := 0; len(query) > 0; n++ {
		if n == maxArgs {
			return foundSize
		}
		var arg []byte
		arg, query, _ = bytes.Cut(query, []byte("&"))
		name, value, _ := bytes.Cut(arg, []byte("="))
		for _, part := range [...][]byte{name, value} {
			if isWord(part) {
				continue
			}
			out = appendDecoded(out[:0], part, true)
			if f := c.injection(out); f != nil {
				return f
			}
		}
	}
	return nil
}

// isWord reports whether b consists of letters, digits, underscores, dots and hyphens: no injection does.
func isWord(b []byte) bool {
	for _, c := range b {
		if !('a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || c == '_' || c == '.' || c == '-') {
			return false
		}
	}
	return true
}

// injection asks libinjection. The text is only looked at during the call: no copy is needed.
func (c *cheap) injection(text []byte) *finding {
	if badOctets(text) {
		return foundEncoding
	}
	s := unsafe.String(unsafe.SliceData(text), len(text))
	if c.xss && strings.ContainsAny(s, "<>\"'`=:") && libinjection.IsXSS(s) {
		return foundXSS
	}
	if c.sqli {
		if is, _ := libinjection.IsSQLi(s); is {
			return foundSQL
		}
	}
	return nil
}

package screen

import (
	"bytes"
	"cmp"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

// Actions of rules.
const (
	actionBlock = "block"
	actionAllow = "allow"
	actionCount = "count"
	actionLimit = "limit"
)

// maxInput is how many bytes of a path, query or header value a rule looks at: what a whole head may have by default. Regular expressions
// take time in proportion to it.
const maxInput = 16 << 10

// rule is a rule of the site made ready. Regular expressions are compiled once; what is cheap is asked first.
type rule struct {
	name    string
	action  string
	not     bool
	from    []netip.Prefix
	regions []string
	methods []string
	hosts   []string
	exact   []string
	under   []string // prefixes of paths, with their last slash
	path    *regexp.Regexp
	query   *regexp.Regexp
	agent   *regexp.Regexp
	headers []pattern

	window  *counted // nil: the action is not limit
	most    uint32
	refusal *exchange.Refusal

	hits *atomic.Uint64 // outlives the rule
	bufs sync.Pool      // *[]byte for what is decoded: regular expressions make it escape
}

type pattern struct {
	name string
	re   *regexp.Regexp
}

// newRule makes a rule ready. The site was checked: its regular expressions compile.
func newRule(cfg *site.Rule, w *counted, hits *atomic.Uint64) *rule {
	r := &rule{
		name: cfg.Name, action: cfg.Action, not: cfg.Not, from: cfg.From, regions: cfg.Regions, methods: cfg.Methods,
		path: compiled(cfg.PathMatch), query: compiled(cfg.Query), agent: compiled(cfg.UserAgent), window: w, most: uint32(cfg.Count), hits: hits,
	}
	for _, h := range cfg.Hosts {
		r.hosts = append(r.hosts, strings.ToLower(h))
	}
	for _, p := range cfg.Paths { // spelled as paths are when they are matched: else /a%20b would be no path ever
		prefix, under := strings.CutSuffix(p, "*")
		if plain := string(plainPath([]byte(prefix), nil)); under {
			r.under = append(r.under, plain)
		} else {
			r.exact = append(r.exact, plain)
		}
	}
	for name, text := range cfg.Headers {
		r.headers = append(r.headers, pattern{name, compiled(text)})
	}
	r.refusal = &exchange.Refusal{Stage: "screen", Reason: "rule", Status: cmp.Or(cfg.Status, 403), Limit: cfg.Name, Detail: "A rule of this site does not let the request through."}
	if cfg.Action == actionLimit {
		r.refusal.Status = cmp.Or(cfg.Status, 429)
		r.refusal.Problem, r.refusal.RetryAfter = exchange.ProblemAbnormal, time.Second
		r.refusal.Detail = "More of these requests came than this site allows in a window of time."
	}
	return r
}

func compiled(text string) *regexp.Regexp {
	if text == "" {
		return nil
	}
	return regexp.MustCompile(text)
}

// apply acts on x when the rule holds. done: no later rule and no screening.
func (r *rule) apply(x *exchange.Exchange, now func() time.Time) (refusal *exchange.Refusal, done bool) {
	if r.holds(x) == r.not {
		return nil, false
	}
	switch r.action {
	case actionBlock:
		r.hits.Add(1)
		return r.refusal, true
	case actionAllow:
		r.hits.Add(1)
		return nil, true
	case actionLimit:
		k, ok := r.window.by.Hash(x)
		if !ok { // a request without the fact is in no group
			return nil, false
		}
		over, wait := r.window.add(k, time.Duration(now().UnixNano()), r.most)
		if over {
			r.hits.Add(1)
			x.RetryAfter = max(wait, time.Second)
			return r.refusal, true
		}
	default:
		r.hits.Add(1)
	}
	return nil, false
}

// holds reports whether all patterns of the rule match x.
func (r *rule) holds(x *exchange.Exchange) bool {
	if len(r.methods) > 0 && !slices.ContainsFunc(r.methods, func(m string) bool { return m == string(x.Request.Method) }) {
		return false
	}
	if len(r.from) > 0 && !slices.ContainsFunc(r.from, func(p netip.Prefix) bool { return p.Contains(x.IP) }) {
		return false
	}
	if len(r.regions) > 0 && !slices.ContainsFunc(r.regions, func(s string) bool { return s == string(x.Region) }) {
		return false
	}
	if len(r.hosts) > 0 && !slices.ContainsFunc(r.hosts, func(h string) bool { return hostIs(x.Host, h) }) {
		return false
	}
	if r.agent != nil && !r.agentHolds(x.Request.Fields) {
		return false
	}
	for i := range r.headers {
		if !r.headers[i].holds(x.Request) {
			return false
		}
	}
	return r.holdsTarget(x)
}

// agentHolds reports whether any User-Agent matches, or the empty text when there is none. Endpoints disagree about which of two they read: who puts a harmless
// one first meets the same rules.
func (r *rule) agentHolds(fields []wire.Field) bool {
	seen := false
	for i := range fields {
		if fields[i].ID != wire.UserAgent {
			continue
		}
		if r.agent.Match(bounded(fields[i].Value)) {
			return true
		}
		seen = true
	}
	return !seen && r.agent.Match(nil)
}

// holdsTarget matches path and query as endpoints read them, the query as sent too: who writes %61dmin for admin meets the same rules.
func (r *rule) holdsTarget(x *exchange.Exchange) bool {
	if len(r.exact)+len(r.under) > 0 || r.path != nil {
		if path := bounded(x.Path); isPlain(path) {
			if !r.holdsPath(path) {
				return false
			}
		} else {
			buf := r.buf()
			holds := r.holdsPath(plainPath(path, (*buf)[:0]))
			r.bufs.Put(buf)
			if !holds {
				return false
			}
		}
	}
	if r.query == nil {
		return true
	}
	query := bounded(queryOf(x.Request.Target))
	if r.query.Match(query) {
		return true
	}
	if bytes.IndexByte(query, '%') < 0 && bytes.IndexByte(query, '+') < 0 {
		return false
	}
	buf := r.buf()
	defer r.bufs.Put(buf)
	return r.query.Match(appendDecoded((*buf)[:0], query, true))
}

// buf lends a buffer that a whole input fits into.
func (r *rule) buf() *[]byte {
	if b, _ := r.bufs.Get().(*[]byte); b != nil {
		return b
	}
	return new(make([]byte, maxInput))
}

func (r *rule) holdsPath(path []byte) bool {
	if r.path != nil && !r.path.Match(path) {
		return false
	}
	if len(r.exact)+len(r.under) == 0 {
		return true
	}
	for _, p := range r.exact {
		if string(path) == p {
			return true
		}
	}
	for _, p := range r.under {
		if len(path) >= len(p) && string(path[:len(p)]) == p || len(path) == len(p)-1 && string(path) == p[:len(p)-1] {
			return true
		}
	}
	return false
}

// holds reports whether any field of the name matches. HTTP/2 has its host elsewhere.
func (p *pattern) holds(q *wire.Request) bool {
	seen := false
	for i := range q.Fields {
		if f := &q.Fields[i]; len(f.Name) == len(p.name) && wire.EqualFold(f.Name, p.name) {
			if p.re.Match(bounded(f.Value)) {
				return true
			}
			seen = true
		}
	}
	return !seen && len(q.Host) > 0 && strings.EqualFold(p.name, "host") && p.re.Match(bounded(q.Host))
}

// hostIs matches a host name, or *.name for names under it.
func hostIs(host []byte, want string) bool {
	if under, wild := strings.CutPrefix(want, "*"); wild {
		return len(host) > len(under) && string(host[len(host)-len(under):]) == under
	}
	return string(host) == want
}

func bounded(b []byte) []byte { return b[:min(len(b), maxInput)] }

// queryOf is the query of a target without its question mark.
func queryOf(target []byte) []byte {
	_, query, _ := bytes.Cut(target, []byte("?"))
	return query
}

// plainPath is a path as endpoints read it: percent-encoding undone, backslashes as slashes, runs of slashes as one, dot segments resolved. It
// is path itself when there is nothing to change, else built on buf.
func plainPath(path, buf []byte) []byte {
	if isPlain(path) {
		return path
	}
	in := appendDecoded(buf, path, false)
	out := in[:0] // never longer than what was read
	for i := 0; i < len(in); {
		if in[i] == '/' || in[i] == '\\' {
			i++
			if n := len(out); n == 0 || out[n-1] != '/' {
				out = append(out, '/')
			}
			continue
		}
		end := i
		for end < len(in) && in[end] != '/' && in[end] != '\\' {
			end++
		}
		switch part := in[i:end]; string(part) {
		case ".":
		case "..":
			if len(out) > 1 {
				out = out[:bytes.LastIndexByte(out[:len(out)-1], '/')+1]
			}
		default:
			out = append(out, part...)
		}
		i = end
	}
	return out
}

// isPlain reports whether there is only one way to read path.
func isPlain(path []byte) bool {
	for i, c := range path {
		if c == '%' || c == '\\' || i > 0 && path[i-1] == '/' && (c == '/' || c == '.') {
			return false
		}
	}
	return true
}

// appendDecoded appends b with its percent-encoding undone once; plus: a plus sign is a blank.
func appendDecoded(dst, b []byte, plus bool) []byte {
	for i := 0; i < len(b); i++ {
		c := b[i]
		switch {
		case c == '%' && i+2 < len(b):
			if hi, lo := unhex(b[i+1]), unhex(b[i+2]); hi >= 0 && lo >= 0 {
				c = byte(hi<<4 | lo)
				i += 2
			}
		case c == '+' && plus:
			c = ' '
		}
		dst = append(dst, c)
	}
	return dst
}

// unhex is the value of a hexadecimal digit, -1 for anything else.
func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

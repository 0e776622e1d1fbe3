package cache

import (
	"time"

	"github.com/even-keel/evenkeel/wire"
)

// deltaMost is what a number of seconds counts as that is larger (RFC 9111 §1.2.2): about 68 years.
const deltaMost = 1 << 31 * time.Second

// given is a time that a directive may give.
type given struct {
	d   time.Duration
	set bool
	bad bool // it is there and no number of seconds: what it says is not known
}

// Control is what Cache-Control fields say, of a request or of an answer (RFC 9111 §5.2, RFC 5861). The zero value says nothing.
type Control struct {
	MaxAge, SMaxAge, MinFresh, MaxStale, WhileRevalidate, IfError given
	NoStore, NoCache, Private, Public                             bool
	MustRevalidate, ProxyRevalidate, MustUnderstand, OnlyIfCached bool
	AnyStale                                                      bool // max-stale without a number
	Said                                                          bool // there was a field at all
}

// Read takes in one field value. Directives that are not known are passed over (§5.2.3); of one that comes twice the first counts (§4.2.1).
func (c *Control) Read(v []byte) {
	c.Said = true
	for len(v) > 0 {
		var name, arg []byte
		var has bool
		name, arg, has, v = directive(v)
		c.take(name, arg, has)
	}
}

func (c *Control) take(name, arg []byte, has bool) {
	switch len(name) {
	case 6:
		c.Public = c.Public || wire.EqualFold(name, "public")
	case 7:
		switch {
		case wire.EqualFold(name, "max-age"):
			c.MaxAge.seconds(arg)
		case wire.EqualFold(name, "private"): // with field names too: what remains without those fields is rarely worth keeping
			c.Private = true
		}
	case 8:
		switch {
		case wire.EqualFold(name, "s-maxage"):
			c.SMaxAge.seconds(arg)
		case wire.EqualFold(name, "no-store"):
			c.NoStore = true
		case wire.EqualFold(name, "no-cache"):
			c.NoCache = true
		}
	case 9:
		switch {
		case wire.EqualFold(name, "min-fresh"):
			c.MinFresh.seconds(arg)
		case wire.EqualFold(name, "max-stale") && !has:
			c.AnyStale = true
		case wire.EqualFold(name, "max-stale"):
			c.MaxStale.seconds(arg)
		}
	case 14:
		switch {
		case wire.EqualFold(name, "stale-if-error"):
			c.IfError.seconds(arg)
		case wire.EqualFold(name, "only-if-cached"):
			c.OnlyIfCached = true
		}
	case 15:
		switch {
		case wire.EqualFold(name, "must-revalidate"):
			c.MustRevalidate = true
		case wire.EqualFold(name, "must-understand"):
			c.MustUnderstand = true
		}
	case 16:
		c.ProxyRevalidate = c.ProxyRevalidate || wire.EqualFold(name, "proxy-revalidate")
	case 22:
		if wire.EqualFold(name, "stale-while-revalidate") {
			c.WhileRevalidate.seconds(arg)
		}
	}
}

// seconds takes the first value that is given.
func (g *given) seconds(arg []byte) {
	if g.set || g.bad {
		return
	}
	g.d, g.set = seconds(arg)
	g.bad = !g.set
}

// seconds reads a number of seconds.
func seconds(v []byte) (time.Duration, bool) {
	if len(v) == 0 {
		return 0, false
	}
	n := int64(0)
	for _, c := range v {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = min(n*10+int64(c-'0'), int64(deltaMost/time.Second))
	}
	return time.Duration(n) * time.Second, true
}

// directive cuts the first directive off a list: name, name=token or name="text". What is malformed is passed over up to the next comma.
func directive(v []byte) (name, arg []byte, has bool, rest []byte) {
	i := 0
	for i < len(v) && (v[i] == ' ' || v[i] == '\t' || v[i] == ',') {
		i++
	}
	start := i
	for i < len(v) && v[i] != '=' && v[i] != ',' {
		i++
	}
	name = trim(v[start:i])
	if i == len(v) || v[i] == ',' {
		return name, nil, false, v[i:]
	}
	i++
	for i < len(v) && (v[i] == ' ' || v[i] == '\t') {
		i++
	}
	if i < len(v) && v[i] == '"' {
		end := i + 1
		for end < len(v) && v[end] != '"' {
			if v[end] == '\\' {
				end++
			}
			end++
		}
		if end < len(v) { // one that never ends hides nothing of what follows
			arg, v = v[i+1:end], v[end+1:]
			for i = 0; i < len(v) && v[i] != ','; i++ {
			}
			return name, arg, true, v[i:]
		}
	}
	start = i
	for i < len(v) && v[i] != ',' {
		i++
	}
	return name, trim(v[start:i]), true, v[i:]
}

// trim takes white space off both ends.
func trim(v []byte) []byte {
	for len(v) > 0 && (v[0] == ' ' || v[0] == '\t') {
		v = v[1:]
	}
	for len(v) > 0 && (v[len(v)-1] == ' ' || v[len(v)-1] == '\t') {
		v = v[:len(v)-1]
	}
	return v
}

// member cuts the first member off a comma-separated list without quotes.
func member(v []byte) (one, rest []byte) {
	for i, c := range v {
		if c == ',' {
			return trim(v[:i]), v[i+1:]
		}
	}
	return trim(v), nil
}

package facts

import (
	"hash/maphash"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

var (
	refuseNoToken = &exchange.Refusal{Stage: "identify", Reason: "no_token", Status: 401,
		Detail: "The request carries no token.", Challenge: []byte("Bearer")}
	refuseBadToken = &exchange.Refusal{Stage: "identify", Reason: "bad_token", Status: 401,
		Detail: "The token does not hold.", Challenge: []byte(`Bearer error="invalid_token"`)}
	refuseNoKeys = &exchange.Refusal{Stage: "identify", Reason: "no_keys", Status: 503,
		Detail: "The keys that tokens are checked with are not there yet.", RetryAfter: time.Second}
	refuseBusy = &exchange.Refusal{Stage: "identify", Reason: "token_checks", Status: 503,
		Detail: "Too many tokens are to be checked.", RetryAfter: time.Second}
)

// verifier checks the tokens of one jwt source. It outlives reloads that leave the source as it is, with all that it remembers.
type verifier struct {
	rules
	set    *keySet
	memory *memory
	checks *checks

	hits               [hitShards]paddedCount
	good, bad, skipped atomic.Uint64
}

// hitShards spreads the one counter that every request with a token counts in.
const hitShards = 16

// paddedCount is a counter that shares its cache line with no other.
type paddedCount struct {
	n atomic.Uint64
	_ [56]byte
}

// known is how many tokens were remembered.
func (v *verifier) known() (sum uint64) {
	for i := range v.hits {
		sum += v.hits[i].n.Load()
	}
	return sum
}

func newVerifier(cfg *site.JWT, set *keySet, checks *checks) *verifier {
	return &verifier{
		rules: rules{claim: cfg.Claim, issuer: cfg.Issuer, audience: cfg.Audience, leeway: cfg.Leeway},
		set:   set, memory: newMemory(), checks: checks,
	}
}

// ask is what is known of the token of x; nil: it could not be checked, and refusal says why.
func (v *verifier) ask(token []byte, x *exchange.Exchange) (j *judged, refusal *exchange.Refusal) {
	r := v.set.ring.Load()
	if r == nil {
		v.skipped.Add(1)
		return nil, refuseNoKeys
	}
	if j = v.memory.find(token, x.Start.UnixNano(), r.gen); j != nil {
		v.hits[x.Shard%hitShards].n.Add(1)
		return j, nil
	}
	return v.check(r, token, x.IP, x.Start)
}

// check checks a token that nothing is known of. It is not inlined, so that its work is not on the stack of an exchange that waits.
//
//go:noinline
func (v *verifier) check(r *ring, token []byte, from netip.Addr, now time.Time) (*judged, *exchange.Refusal) {
	if v.checks.forgers.many(from, now) {
		v.skipped.Add(1)
		return nil, refuseBusy
	}
	// The text is only looked at during the call: what is kept of it is copied.
	text := unsafe.String(unsafe.SliceData(token), len(token))
	t, keys, err := r.candidates(text)
	for late := time.Now().Add(fetchAwait); err == errUnknownKey && v.set.await(late); { // again after a fetch that failed, or had begun before
		r = v.set.ring.Load()
		t, keys, err = r.candidates(text)
	}
	var says verdict
	if err == nil {
		if !v.checks.enter() {
			v.skipped.Add(1)
			return nil, refuseBusy
		}
		says, err = v.verify(t, keys, now)
		v.checks.leave()
	}
	j := &judged{until: now.Add(badMemory).UnixNano(), gen: r.gen}
	switch err {
	case nil:
		j.token, j.value, j.until, j.by = append([]byte(nil), token...), says.value, says.until.UnixNano(), says.by
		v.good.Add(1)
	case errUnknownKey:
		v.bad.Add(1)
		if v.set.remote() { // the key may come with the next fetch, which a token that is remembered would not ask for
			return j, nil
		}
	case errSignature:
		v.checks.forgers.add(from, now)
		v.bad.Add(1)
	default:
		v.bad.Add(1)
	}
	v.memory.put(j, token, now.UnixNano())
	return j, nil
}

// Limits of checking signatures.
const (
	checkWait  = 50 * time.Millisecond // for a place; a check takes 0.03 to 0.3 ms
	checkQueue = 256                   // who waits for one
)

// checks bounds how many signatures are checked at once to half the processors, so that a flood of tokens leaves the rest to
// requests. It is shared by all verifiers of a node.
type checks struct {
	places  chan struct{}
	waiting atomic.Int32
	full    atomic.Uint64
	forgers forgers
}

func newChecks() *checks {
	return &checks{places: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), forgers: forgers{seed: maphash.MakeSeed()}}
}

// enter takes a place, and waits for it a moment. False: there was none.
func (c *checks) enter() bool {
	select {
	case c.places <- struct{}{}:
		return true
	default:
	}
	if c.waiting.Add(1) > checkQueue {
		c.waiting.Add(-1)
		c.full.Add(1)
		return false
	}
	defer c.waiting.Add(-1)
	late := time.NewTimer(checkWait)
	defer late.Stop()
	select {
	case c.places <- struct{}{}:
		return true
	case <-late.C:
		c.full.Add(1)
		return false
	}
}

// leave gives the place back.
func (c *checks) leave() { <-c.places }

// inToken is a claim of a token.
type inToken struct {
	*verifier
	name    fieldName
	cookie  string // instead of a header
	require bool
}

func newInToken(cfg *site.JWT, v *verifier) *inToken {
	return &inToken{verifier: v, name: newFieldName(cfg.Header), cookie: cfg.Cookie, require: cfg.Require}
}

func (s *inToken) find(x *exchange.Exchange) ([]byte, *exchange.Refusal) {
	token, refusal := s.token(x)
	switch {
	case refusal != nil:
		return nil, refusal
	case len(token) == 0 && s.require:
		return nil, refuseNoToken
	case len(token) == 0:
		return nil, nil
	}
	j, refusal := s.ask(token, x)
	switch {
	case !s.require && (j == nil || j.token == nil):
		return nil, nil
	case refusal != nil:
		return nil, refusal
	case j.token == nil:
		return nil, refuseBadToken
	}
	return j.value, nil
}

// token is the token of x; empty: it has none.
func (s *inToken) token(x *exchange.Exchange) ([]byte, *exchange.Refusal) {
	if s.cookie != "" {
		return cookie(x.Request.Fields, s.cookie)
	}
	v, refusal := s.name.value(x)
	if scheme, rest := cut(v, ' '); wire.EqualFold(scheme, "bearer") {
		for len(rest) > 0 && rest[0] == ' ' {
			rest = rest[1:]
		}
		return rest, refusal
	}
	if s.name.id == wire.Authorization {
		return nil, refusal // credentials of another scheme
	}
	return v, refusal
}

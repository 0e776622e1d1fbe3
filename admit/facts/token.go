package facts

import (
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

// Limits of tokens.
const (
	maxToken  = 16 << 10  // octets; the default size of a request head
	maxTries  = 4         // keys that one signature is checked with, when the token names none
	maxFact   = 256       // octets of a claim's value; who has more has no name but a document
	maxMemory = time.Hour // a token is looked at again after this, even if it holds for longer
	badMemory = 10 * time.Second
)

// Why a token does not hold.
var (
	errMalformed  = errors.New("it is no signed token")
	errUnknownKey = errors.New("it names a key that is not in the set")
	errAlgorithm  = errors.New("no key of the set is for its algorithm")
	errSignature  = errors.New("its signature does not hold")
	errClaims     = errors.New("its claims cannot be read")
	errExpired    = errors.New("it has expired")
	errNotYet     = errors.New("it does not hold yet")
	errIssuer     = errors.New("it was issued by somebody else")
	errAudience   = errors.New("it is for somebody else")
)

// rules is what a token must say.
type rules struct {
	claim, issuer, audience string
	leeway                  time.Duration
}

// verdict is what a token that holds says.
type verdict struct {
	value []byte    // of the claim; nil: none, or one that is no text and no number
	until time.Time // when it must be looked at again
	by    *signer
}

// candidates are the keys that may have signed the token, and the token as it was parsed. No signature is checked yet.
func (r *ring) candidates(token string) (*jose.JSONWebSignature, []*signer, error) {
	if len(token) > maxToken {
		return nil, nil, errMalformed
	}
	t, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil || len(t.Signatures) != 1 {
		return nil, nil, errMalformed
	}
	head := &t.Signatures[0].Header
	var fit []*signer
	named := head.KeyID == ""
	for _, k := range r.keys {
		named = named || k.id == head.KeyID
		if (k.id == "" || head.KeyID == "" || k.id == head.KeyID) && slices.Contains(k.algs, jose.SignatureAlgorithm(head.Algorithm)) {
			fit = append(fit, k)
		}
	}
	switch {
	case len(fit) == 0 && !named:
		return nil, nil, errUnknownKey
	case len(fit) == 0:
		return nil, nil, errAlgorithm
	case len(fit) > maxTries:
		fit = fit[:maxTries]
	}
	return t, fit, nil
}

// verify checks the signature of a token with keys that may have made it, and then what it says.
func (u *rules) verify(t *jose.JSONWebSignature, keys []*signer, now time.Time) (verdict, error) {
	for _, k := range keys {
		if payload, err := t.Verify(k.check); err == nil {
			v, err := u.judge(payload, now)
			v.by = k
			return v, err
		}
	}
	return verdict{}, errSignature
}

// judge checks the claims of a token whose signature holds.
func (u *rules) judge(payload []byte, now time.Time) (verdict, error) {
	var claims map[string]json.RawMessage // which tells upper from lower case, and refuses a name that comes twice
	if err := json.Unmarshal(payload, &claims); err != nil {
		return verdict{}, errClaims
	}
	v := verdict{until: now.Add(maxMemory)}
	if raw, is := claims["exp"]; is {
		exp, ok := date(raw)
		if !ok {
			return verdict{}, errClaims
		}
		if exp = exp.Add(u.leeway); !now.Before(exp) {
			return verdict{}, errExpired
		}
		if exp.Before(v.until) {
			v.until = exp
		}
	}
	if raw, is := claims["nbf"]; is {
		nbf, ok := date(raw)
		switch {
		case !ok:
			return verdict{}, errClaims
		case now.Before(nbf.Add(-u.leeway)):
			return verdict{}, errNotYet
		}
	}
	if u.issuer != "" {
		if iss, ok := text(claims["iss"]); !ok || iss != u.issuer {
			return verdict{}, errIssuer
		}
	}
	if u.audience != "" && !slices.Contains(texts(claims["aud"]), u.audience) {
		return verdict{}, errAudience
	}
	raw := claims[u.claim]
	value, ok := text(raw)
	if !ok && isNumber(raw) {
		value = string(raw)
	}
	if len(value) > maxFact {
		return verdict{}, errClaims
	}
	if value != "" {
		v.value = []byte(value)
	}
	return v, nil
}

// text is raw as a JSON string.
func text(raw json.RawMessage) (s string, ok bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}

// texts is raw as one string or a list of them (RFC 7519 §4.1.3).
func texts(raw json.RawMessage) (list []string) {
	if s, ok := text(raw); ok {
		return []string{s}
	}
	if json.Unmarshal(raw, &list) != nil {
		return nil
	}
	return list
}

// isNumber reports whether raw, which is JSON, is a number.
func isNumber(raw json.RawMessage) bool {
	return len(raw) > 0 && (raw[0] == '-' || '0' <= raw[0] && raw[0] <= '9')
}

// maxDate is the last second of the year 9999; what is later does not matter.
const maxDate = 253402300799

// date is raw as a NumericDate (RFC 7519 §2): seconds since 1970, perhaps with a fraction.
func date(raw json.RawMessage) (time.Time, bool) {
	if !isNumber(raw) {
		return time.Time{}, false
	}
	s, err := strconv.ParseFloat(string(raw), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(min(max(s, -maxDate), maxDate) * 1000)), true
}

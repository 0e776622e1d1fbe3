package facts

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

// Limits of keys.
const (
	maxKeys     = 100     // of one set; the largest public ones have some ten
	maxKeyBytes = 1 << 20 // of a key set's or a key's text
	minRSABits  = 2048    // RFC 7518 §3.3
	minSecret   = 32      // octets, for HS256 (RFC 7518 §3.2)
)

// algorithms are all signatures that are ever believed; none is not among them.
var algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
	jose.ES256, jose.ES384, jose.ES512, jose.EdDSA, jose.HS256, jose.HS384, jose.HS512}

// signer is a key that signatures are checked with. What it is allowed for follows from what it is, never from what a token says: else a public key
// would do as the secret of an HMAC.
type signer struct {
	id    string // empty: fits every token
	algs  []jose.SignatureAlgorithm
	check any // *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey, or a secret as []byte
	print [sha256.Size]byte
	gone  atomic.Bool // its set does not have it any more: what it signed holds no longer
}

// ring is the keys of one set at one time. It is never changed.
type ring struct {
	keys []*signer
	gen  uint64 // another one for other keys
}

// next is the ring after r with these keys. Keys that both have stay the same values, so that what they signed need not be checked
// again. changed is false when nothing did.
func (r *ring) next(keys []*signer) (_ *ring, changed bool) {
	var old []*signer
	n := &ring{gen: 1}
	if r != nil {
		old, n.gen = r.keys, r.gen+1
	}
	for _, k := range keys {
		if i := slices.IndexFunc(old, func(o *signer) bool { return o.print == k.print }); i >= 0 {
			k = old[i]
		}
		n.keys = append(n.keys, k)
	}
	if slices.Equal(n.keys, old) {
		return r, false
	}
	for _, k := range old {
		k.gone.Store(!slices.Contains(n.keys, k))
	}
	return n, true
}

// newSigner makes a key ready. alg is the only algorithm that its owner allows; empty: all that fit it.
func newSigner(id, alg string, check any) (*signer, error) {
	k := &signer{id: id, check: check}
	var raw []byte
	switch c := check.(type) {
	case *rsa.PublicKey:
		if c.N.BitLen() < minRSABits {
			return nil, fmt.Errorf("an RSA key of %d bits is too short, %d are needed", c.N.BitLen(), minRSABits)
		}
		k.algs = algorithms[:6]
	case *ecdsa.PublicKey:
		switch c.Curve {
		case elliptic.P256():
			k.algs = algorithms[6:7]
		case elliptic.P384():
			k.algs = algorithms[7:8]
		case elliptic.P521():
			k.algs = algorithms[8:9]
		default:
			return nil, fmt.Errorf("no signature of tokens uses the curve %s", c.Params().Name)
		}
	case ed25519.PublicKey:
		k.algs = algorithms[9:10]
	case []byte:
		if len(c) < minSecret {
			return nil, fmt.Errorf("a secret of %d bytes is too short, HMAC signatures need at least %d (RFC 7518)", len(c), minSecret)
		}
		k.algs, raw = algorithms[10:], c
	default:
		return nil, fmt.Errorf("a key of the kind %T signs no tokens", check)
	}
	if raw == nil {
		var err error
		if raw, err = x509.MarshalPKIXPublicKey(check); err != nil {
			return nil, err
		}
	}
	if alg != "" {
		i := slices.Index(k.algs, jose.SignatureAlgorithm(alg))
		if i < 0 {
			return nil, fmt.Errorf("a key of the kind %T is not for %q", check, alg)
		}
		k.algs = k.algs[i : i+1]
	}
	k.print = sha256.Sum256(fmt.Appendf(nil, "%q %q %x", id, k.algs, raw))
	return k, nil
}

// parseSet reads a key set (RFC 7517). Keys that are not for signatures, and those of kinds that are not known here, are left out,
// as the RFC wants it; secrets too, since a set that others can read has none.
func parseSet(text []byte) ([]*signer, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, fmt.Errorf("it is no key set: %w", err)
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("it has %d keys, at most %d are taken", len(set.Keys), maxKeys)
	}
	var keys []*signer
	var wrong []error
	for i, one := range set.Keys {
		var j jose.JSONWebKey
		if err := json.Unmarshal(one, &j); err != nil {
			wrong = append(wrong, fmt.Errorf("key %d: %w", i+1, err))
			continue
		}
		if j.Use != "" && j.Use != "sig" || !j.Valid() || !j.IsPublic() {
			wrong = append(wrong, fmt.Errorf("key %d: it is no public key for signatures", i+1))
			continue
		}
		k, err := newSigner(j.KeyID, j.Algorithm, j.Key)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("key %d: %w", i+1, err))
			continue
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("it has no key that can be used: %w", errors.Join(append(wrong, errors.New("of "+fmt.Sprint(len(set.Keys))+" keys"))...))
	}
	return keys, nil
}

// parsePEM reads one public key or certificate.
func parsePEM(text []byte) ([]*signer, error) {
	block, rest := pem.Decode(text)
	if block == nil {
		return nil, errors.New("it has no PEM block; a public key or a certificate is needed")
	}
	if more, _ := pem.Decode(rest); more != nil && block.Type != "CERTIFICATE" {
		return nil, errors.New("it has several PEM blocks; one public key or certificate is needed")
	}
	var public crypto.PublicKey
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		public, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		public, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE": // the first of a chain is the signer's
		var cert *x509.Certificate
		if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
			public = cert.PublicKey
		}
	default:
		return nil, fmt.Errorf("it has a PEM block %q; a public key or a certificate is needed", block.Type)
	}
	if err != nil {
		return nil, err
	}
	k, err := newSigner("", "", public)
	if err != nil {
		return nil, err
	}
	return []*signer{k}, nil
}

// parseKeys reads a file with a key set or with PEM.
func parseKeys(text []byte) ([]*signer, error) {
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		return parseSet(text)
	}
	return parsePEM(text)
}

package facts

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/netip"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/even-keel/evenkeel/site"
)

// selfSigned is a certificate for a key, as PEM.
func selfSigned(t testing.TB, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: today.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// Somebody who sends forged tokens has few of them checked, others are served, and what is known stays known.
func TestForgers(t *testing.T) {
	m := newMint(t)
	f := newFinder(t, jwtSite(site.JWT{JWKS: file(t, "keys.json", m.all()), Require: true}))
	v := f.customer.(*inToken).verifier
	forger := netip.MustParseAddr("203.0.113.66")
	good := m.sign(jose.ES256, m.es, "es", claims(nil))
	known := bearer(t, good)
	known.IP = forger
	if r := find(f, known); r != nil {
		t.Fatal(r)
	}
	reasons := map[string]int{}
	for i := range 1000 {
		x := bearer(t, fmt.Sprintf("%sAA%04d", good[:len(good)-6], i))
		x.IP = forger
		if r := find(f, x); r != nil {
			reasons[r.Reason]++
		}
	}
	if reasons["bad_token"] != forgerRate || reasons["token_checks"] != 1000-forgerRate || v.bad.Load() != forgerRate {
		t.Errorf("forged tokens were answered with %v, want %d checked", reasons, forgerRate)
	}
	if r := find(f, known); r != nil {
		t.Errorf("a known token of the same network is refused: %v", r)
	}
	fresh := m.sign(jose.ES256, m.es, "es", claims(map[string]any{"jti": 1}))
	if r := find(f, bearer(t, fresh)); r != nil {
		t.Errorf("a new token of another network is refused: %v", r)
	}
	later := bearer(t, m.sign(jose.ES256, m.es, "es", claims(map[string]any{"jti": 2})))
	later.IP, later.Start = forger, today.Add(time.Second)
	if r := find(f, later); r != nil {
		t.Errorf("a second later a new token of the same network is refused: %v", r)
	}
}

// When all places are taken and nobody leaves, tokens that are not known are refused in time, and known ones are not.
func TestChecksAreBounded(t *testing.T) {
	m := newMint(t)
	f := newFinder(t, jwtSite(site.JWT{Secret: secret, Require: true}))
	soft := newFinder(t, jwtSite(site.JWT{Secret: secret}))
	c := f.customer.(*inToken).checks
	soft.customer.(*inToken).checks = c
	good := m.sign(jose.HS256, []byte(secret), "", claims(nil))
	if r := find(f, bearer(t, good)); r != nil {
		t.Fatal(r)
	}
	for range cap(c.places) {
		c.places <- struct{}{}
	}
	if r := find(f, bearer(t, good)); r != nil {
		t.Errorf("a known token is refused: %v", r)
	}
	fresh := m.sign(jose.HS256, []byte(secret), "", claims(map[string]any{"jti": 1}))
	if r := find(f, bearer(t, fresh)); r != refuseBusy {
		t.Errorf("a new token without a place: %v, want %v", r, refuseBusy)
	}
	x := bearer(t, fresh)
	if r := find(soft, x); r != nil || x.Customer != nil {
		t.Errorf("where no token is required: customer %q, %v", x.Customer, r)
	}
	c.waiting.Store(checkQueue)
	if r := find(f, bearer(t, fresh)); r != refuseBusy || c.waiting.Load() != checkQueue {
		t.Errorf("a new token behind a full queue: %v, %d wait", r, c.waiting.Load())
	}
	c.waiting.Store(0)
	for range cap(c.places) {
		c.leave()
	}
	if r := find(f, bearer(t, fresh)); r != nil {
		t.Errorf("a new token with free places is refused: %v", r)
	}
	if c.full.Load() != 3 {
		t.Errorf("%d were counted as refused for want of a place, want 3", c.full.Load())
	}
}

func TestHotTokenAllocatesNothing(t *testing.T) {
	m := newMint(t)
	f := newFinder(t, jwtSite(site.JWT{JWKS: file(t, "keys.json", m.all()), Require: true}))
	x := bearer(t, m.sign(jose.RS256, m.rs, "rs", claims(nil)))
	if r := find(f, x); r != nil {
		t.Fatal(r)
	}
	if n := testing.AllocsPerRun(100, func() { find(f, x) }); n != 0 {
		t.Errorf("%v allocations for a known token, want 0", n)
	}
	bad := bearer(t, "x.y.z")
	find(f, bad)
	if n := testing.AllocsPerRun(100, func() { find(f, bad) }); n != 0 {
		t.Errorf("%v allocations for a known bad token, want 0", n)
	}
}

package facts

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/even-keel/evenkeel/site"
)

// issuer answers fetches of key sets in place of the net.
type issuer struct {
	mu      sync.Mutex
	text    []byte
	err     error
	hangs   bool
	fetches atomic.Int64
}

func (s *issuer) says(text []byte, err error, hangs bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text, s.err, s.hangs = text, err, hangs
}

// RoundTrip implements http.RoundTripper.
func (s *issuer) RoundTrip(r *http.Request) (*http.Response, error) {
	s.fetches.Add(1)
	s.mu.Lock()
	text, err, hangs := s.text, s.err, s.hangs
	s.mu.Unlock()
	if hangs {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	if err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	w.Write(text)
	return w.Result(), nil
}

// running is a store whose fetches go to the issuer, in fake time.
func running(t *testing.T, s *issuer) *Store {
	store := NewStore(slog.New(slog.DiscardHandler))
	store.client = &http.Client{Transport: s}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- store.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return store
}

// issuing is an issuer of m's key "1", and a store and a finder that have it; a token is required.
func issuing(t *testing.T, m *mint) (*issuer, *Store, *Finder) {
	t.Helper()
	iss := &issuer{text: m.set(jose.JSONWebKey{Key: m.es.Public(), KeyID: "1"})}
	store := running(t, iss)
	f, err := store.Finder(jwtSite(site.JWT{JWKS: keysURL, Require: true}))
	if err != nil {
		t.Fatal(err)
	}
	store.Await(t.Context(), f)
	store.Use(f)
	return iss, store, f
}

// pass lets fake time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

const keysURL = "https://issuer.example/keys"

func TestKeyRotation(t *testing.T) {
	m, next := newMint(t), newMint(t)
	synctest.Test(t, func(t *testing.T) {
		iss, _, f := issuing(t, m)
		ask := func(token string) string {
			x := bearer(t, token)
			if r := find(f, x); r != nil {
				return r.Reason
			}
			return string(x.Customer)
		}
		old := m.sign(jose.ES256, m.es, "1", claims(nil))
		fresh := next.sign(jose.ES256, next.es, "2", claims(map[string]any{"sub": "fresh"}))
		if got := ask(old); got != "acme" {
			t.Fatalf("with the first keys: %s", got)
		}
		iss.says(m.set(jose.JSONWebKey{Key: m.es.Public(), KeyID: "1"}, jose.JSONWebKey{Key: next.es.Public(), KeyID: "2"}), nil, false)
		if got := ask(fresh); got != "fresh" {
			t.Errorf("a token that names a key which was published since: %s", got)
		}
		if got := ask(old); got != "acme" {
			t.Errorf("the old key beside the new one: %s", got)
		}
		v := f.customer.(*inToken).verifier
		if v.good.Load() != 2 {
			t.Errorf("%d signatures were checked, want 2: a key that stays keeps what it signed", v.good.Load())
		}
		iss.says(next.set(jose.JSONWebKey{Key: next.es.Public(), KeyID: "2"}), nil, false)
		pass(11 * time.Minute)
		if got := ask(old); got != "bad_token" {
			t.Errorf("a key that was withdrawn: %s", got)
		}
		pass(2 * fetchRest) // what that token asked for
		before := iss.fetches.Load()
		for range 60 { // algorithms that a known key is not for
			ask(m.sign(jose.HS256, []byte(secret), "2", claims(map[string]any{"n": time.Now()})))
			pass(100 * time.Millisecond)
		}
		if n := iss.fetches.Load() - before; n > 0 {
			t.Errorf("%d fetches in 6 s because of algorithms", n)
		}
		before = iss.fetches.Load()
		for range 60 { // names of keys that nobody has
			ask(m.sign(jose.ES256, m.es, "who", claims(map[string]any{"n": time.Now()})))
			pass(100 * time.Millisecond)
		}
		if n := iss.fetches.Load() - before; n > 2 {
			t.Errorf("%d fetches in 6 s because of unknown keys", n)
		}
	})
}

// A token whose key is not published yet is bad, but not for longer than until it is: those who bring it ask for the key, too, as often as may be, and
// wait no longer for it than a moment.
func TestKeyThatComesLate(t *testing.T) {
	m, next := newMint(t), newMint(t)
	synctest.Test(t, func(t *testing.T) {
		iss, store, f := issuing(t, m)
		fresh := next.sign(jose.ES256, next.es, "2", claims(nil))
		for range 3 {
			if r := find(f, bearer(t, fresh)); r != refuseBadToken {
				t.Errorf("before its key is published: %v", r)
			}
			pass(time.Second)
		}
		if n := iss.fetches.Load(); n != 2 {
			t.Errorf("%d fetches, want one at the start and one for three tokens within the rest", n)
		}
		iss.says(nil, nil, true)
		pass(fetchRest)
		var wait sync.WaitGroup
		for range 2 * fetchQueue {
			wait.Go(func() {
				start := time.Now()
				if r := find(f, bearer(t, fresh)); r != refuseBadToken || time.Since(start) > fetchAwait {
					t.Errorf("while the issuer hangs: %v after %v", r, time.Since(start))
				}
			})
		}
		synctest.Wait()
		if n := store.sets[keysURL].waiting.Load(); n != fetchQueue {
			t.Errorf("%d wait for a key, want %d", n, fetchQueue)
		}
		wait.Wait()
		iss.says(next.set(jose.JSONWebKey{Key: next.es.Public(), KeyID: "2"}), nil, false)
		pass(fetchTime - fetchAwait - time.Second)
		start := time.Now()
		if r := find(f, bearer(t, fresh)); r != nil || time.Since(start) > fetchAwait {
			t.Errorf("after its key was published: %v after %v", r, time.Since(start))
		}
	})
}

func TestKeysStayWhenFetchesFail(t *testing.T) {
	m := newMint(t)
	good := m.sign(jose.ES256, m.es, "es", claims(nil))
	for name, c := range map[string]struct {
		text  string
		err   error
		hangs bool
	}{
		"refused": {"", errors.New("connection refused"), false}, "hangs": {"", nil, true}, "text": {"<html>", nil, false},
		"no keys": {`{"keys":[]}`, nil, false}, "endless": {strings.Repeat(" ", maxKeyBytes+1), nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				iss := &issuer{}
				iss.says([]byte(c.text), c.err, c.hangs)
				store := running(t, iss)
				f, err := store.Finder(jwtSite(site.JWT{JWKS: keysURL, Require: true}))
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				store.Await(t.Context(), f)
				if took := time.Since(start); took > awaitKeys {
					t.Errorf("the start waited %v for keys", took)
				}
				if r := find(f, bearer(t, good)); r != refuseNoKeys {
					t.Errorf("without keys: %v, want %v", r, refuseNoKeys)
				}
				iss.says(m.all(), nil, false)
				pass(time.Minute)
				if r := find(f, bearer(t, good)); r != nil {
					t.Fatalf("when the issuer is back: %v", r)
				}
				iss.says([]byte(c.text), c.err, c.hangs)
				pass(time.Hour)
				if r := find(f, bearer(t, m.sign(jose.ES256, m.es, "es", claims(map[string]any{"jti": 1})))); r != nil {
					t.Errorf("after an hour of failures: %v, want the old keys", r)
				}
				if st := store.Status(); len(st.Tokens) != 1 || st.Tokens[0].Wrong == "" || st.Tokens[0].Keys != 3 {
					t.Errorf("the status does not tell: %+v", st)
				}
			})
		})
	}
}

func TestStoreOutlivesReloads(t *testing.T) {
	m := newMint(t)
	synctest.Test(t, func(t *testing.T) {
		iss := &issuer{text: m.all()}
		store := running(t, iss)
		cfg := site.JWT{JWKS: keysURL, Require: true}
		f, err := store.Finder(jwtSite(cfg))
		if err != nil {
			t.Fatal(err)
		}
		store.Use(f)
		store.Await(t.Context(), f)
		good := m.sign(jose.ES256, m.es, "es", claims(nil))
		find(f, bearer(t, good))
		again, err := store.Finder(jwtSite(cfg))
		if err != nil {
			t.Fatal(err)
		}
		store.Use(again)
		v := again.customer.(*inToken).verifier
		if r := find(again, bearer(t, good)); r != nil || v.known() != 1 {
			t.Errorf("after a reload a known token is checked anew: %v, %d hits", r, v.known())
		}
		cfg.Audience = "other"
		if again, err = store.Finder(jwtSite(cfg)); err != nil {
			t.Fatal(err)
		}
		if r := find(again, bearer(t, good)); r != refuseBadToken {
			t.Errorf("other rules on the same keys: %v, want %v", r, refuseBadToken)
		}
		if n := iss.fetches.Load(); n != 1 {
			t.Errorf("%d fetches, want 1", n)
		}
		none, err := store.Finder(&site.Identify{})
		if err != nil {
			t.Fatal(err)
		}
		store.Use(none)
		pass(time.Hour)
		if n := iss.fetches.Load(); n != 1 || len(store.Status().Tokens) != 0 {
			t.Errorf("a set that nobody needs was fetched: %d times", n)
		}
	})
}

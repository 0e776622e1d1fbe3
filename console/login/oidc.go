package login

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/even-keel/evenkeel/site"
)

// Callback is where the issuer sends people back to.
const Callback = "/login/oidc/callback"

// Limits of talking to the issuer.
const (
	issuerWait  = 10 * time.Second // for one answer
	issuerBody  = 1 << 20          // bytes of an answer: documents, keys and tokens have some kB
	issuerAgain = 5 * time.Second  // between two looks for an issuer that does not answer, and between two looks for new keys
	startLife   = 10 * time.Minute // from leaving for the issuer to coming back
	startCookie = "evenkeel_start"
	maxClaim    = 1000 // values of a claim
	maxText     = 300  // characters of what it says went wrong
)

// issuer is where people sign in.
type issuer struct {
	cfg  *site.AdminOIDC
	now  func() time.Time
	bond string
	key  []byte // signs what people take to the issuer and bring back

	mu    sync.Mutex
	found *found // nil: not yet
	tried time.Time
	err   error
}

// found is an issuer as its own document describes it.
type found struct {
	oauth    oauth2.Config
	client   *http.Client
	verifier *oidc.IDTokenVerifier
}

func newIssuer(cfg *site.AdminOIDC, now func() time.Time) *issuer {
	b, _ := json.Marshal([]any{cfg.Issuer, cfg.ClientID, cfg.Claim, cfg.Operate, cfg.Read}) // texts always can be written
	sum := sha256.Sum256(b)
	return &issuer{cfg: cfg, now: now, bond: hex.EncodeToString(sum[:]), key: []byte(random())}
}

// same reports whether nothing has changed.
func (i *issuer) same(cfg *site.AdminOIDC) bool { return reflect.DeepEqual(i.cfg, cfg) }

// find reads the issuer's document, once. While it cannot be had, it is asked for it every few seconds at most. The node starts without.
func (i *issuer) find(ctx context.Context) (*found, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.found != nil {
		return i.found, nil
	}
	if now := i.now(); i.err == nil || now.Sub(i.tried) >= issuerAgain {
		i.tried = now
		i.found, i.err = i.ask(ctx)
	}
	return i.found, i.err
}

func (i *issuer) ask(ctx context.Context) (*found, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if i.cfg.CA != "" {
		pem, err := os.ReadFile(i.cfg.CA)
		if err != nil {
			return nil, fmt.Errorf("authorities cannot be read: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		conf.RootCAs.AppendCertsFromPEM(pem)
	}
	plain := &bounded{next: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: conf, TLSHandshakeTimeout: issuerWait, MaxIdleConns: 2, IdleConnTimeout: time.Minute}}
	f := &found{client: &http.Client{Transport: plain, Timeout: issuerWait}}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), issuerWait) // who leaves does not make it an issuer that does not answer
	defer cancel()
	p, err := oidc.NewProvider(oidc.ClientContext(ctx, f.client), i.cfg.Issuer)
	if err != nil {
		return nil, fmt.Errorf("the issuer %s does not say how to sign in: %w", i.cfg.Issuer, short(err))
	}
	scopes := slices.Clone(i.cfg.Scopes)
	if !slices.Contains(scopes, oidc.ScopeOpenID) {
		scopes = append(scopes, oidc.ScopeOpenID)
	}
	f.oauth = oauth2.Config{ClientID: i.cfg.ClientID, ClientSecret: string(i.cfg.Secret), Endpoint: p.Endpoint(), Scopes: scopes,
		RedirectURL: strings.TrimSuffix(i.cfg.URL, "/") + Callback}
	keys := oidc.ClientContext(context.Background(), &http.Client{Transport: &paced{next: plain, now: i.now}, Timeout: issuerWait})
	f.verifier = p.VerifierContext(keys, &oidc.Config{ClientID: i.cfg.ClientID, Now: i.now})
	return f, nil
}

// start is what people take to the issuer and bring back, in a cookie that only their browser has.
type start struct {
	State    string    `json:"state"`
	Nonce    string    `json:"nonce"`
	Verifier string    `json:"verifier"` // of PKCE
	Next     string    `json:"next"`     // page that was wanted
	End      time.Time `json:"end"`
}

func (i *issuer) sign(body string) string {
	m := hmac.New(sha256.New, i.key)
	m.Write([]byte(body))
	return body + "." + base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// Begin is where to send somebody who wants to sign in at the issuer, and the cookie that they bring back. next is the page that they wanted.
func (d *Door) Begin(r *http.Request, next string) (to string, k *http.Cookie, err error) {
	d.mu.Lock()
	i, secure := d.sso, d.secure
	d.mu.Unlock()
	if i == nil {
		return "", nil, errNoIssuer
	}
	f, err := i.find(r.Context())
	if err != nil {
		return "", nil, err
	}
	s := start{random(), random(), oauth2.GenerateVerifier(), Local(next), d.now().Add(startLife)}
	b, _ := json.Marshal(s) // texts and a time always can be written
	k = &http.Cookie{Name: startCookie, Value: i.sign(base64.RawURLEncoding.EncodeToString(b)), Path: "/login/oidc", MaxAge: int(startLife / time.Second),
		HttpOnly: true, Secure: secure || r.TLS != nil, SameSite: http.SameSiteLaxMode} // Lax: people come back by a link of the issuer
	return f.oauth.AuthCodeURL(s.State, oidc.Nonce(s.Nonce), oauth2.S256ChallengeOption(s.Verifier)), k, nil
}

var (
	errNoIssuer = errors.New("the site file names no issuer in admin.oidc")
	errNoStart  = errors.New("this browser did not begin to sign in here within the last ten minutes: begin again")
	errForeign  = errors.New("the answer is that of another issuer, or to another request: begin again")
	errNoToken  = errors.New("the issuer answered without an ID token")
	errNonce    = errors.New("the ID token was made for another request: begin again")
)

// NoRoleError says that somebody is known to the issuer and has no role here.
type NoRoleError struct{ Name, Claim string }

// Error implements error.
func (e *NoRoleError) Error() string {
	return e.Name + " has no role here: the claim " + e.Claim + " of the ID token has none of the values that admin.oidc of the site file names"
}

// Finish takes what the issuer sent somebody back with, and opens a session. next is the page that they wanted.
func (d *Door) Finish(r *http.Request) (p Person, k *http.Cookie, next string, err error) {
	p = Person{From: addressOf(r), Via: ViaOIDC}
	d.mu.Lock()
	i, wait := d.sso, d.tries.blocked(p.From, d.now())
	if wait > 0 {
		d.counts.Blocked++
	}
	d.mu.Unlock()
	if i == nil {
		return p, nil, "", errNoIssuer
	}
	if wait > 0 {
		return p, nil, "", &TooManyError{wait}
	}
	f, err := i.find(r.Context())
	if err != nil { // nobody's fault who comes
		return p, nil, "", err
	}
	who, next, err := i.finish(r, f)
	if err != nil {
		d.failed(p.From)
		var none *NoRoleError
		if errors.As(err, &none) {
			p.Name = none.Name
		}
		return p, nil, "", err
	}
	who.From = p.From
	return who, d.open(r, &who, i.bond), next, nil
}

func (i *issuer) finish(r *http.Request, f *found) (p Person, next string, err error) {
	s, err := i.started(r)
	if err != nil {
		return p, "", err
	}
	q := r.URL.Query()
	if subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(s.State)) != 1 || q.Has("iss") && q.Get("iss") != i.cfg.Issuer {
		return p, "", errForeign
	}
	if text := q.Get("error"); text != "" {
		return p, "", fmt.Errorf("the issuer says: %s", clean(text+" "+q.Get("error_description"), maxText))
	}
	ctx, cancel := context.WithTimeout(oidc.ClientContext(r.Context(), f.client), issuerWait)
	defer cancel()
	got, err := f.oauth.Exchange(ctx, q.Get("code"), oauth2.VerifierOption(s.Verifier))
	if err != nil {
		return p, "", fmt.Errorf("the issuer gives no token: %w", short(err))
	}
	raw, is := got.Extra("id_token").(string)
	if !is {
		return p, "", errNoToken
	}
	p, err = i.verify(ctx, raw, s.Nonce)
	return p, Local(s.Next), err
}

// started is what the browser took to the issuer.
func (i *issuer) started(r *http.Request) (s start, err error) {
	k, err := r.Cookie(startCookie)
	if err != nil {
		return s, errNoStart
	}
	body, _, _ := strings.Cut(k.Value, ".")
	b, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil || !hmac.Equal([]byte(k.Value), []byte(i.sign(body))) || json.Unmarshal(b, &s) != nil || !i.now().Before(s.End) {
		return s, errNoStart
	}
	return s, nil
}

// verify takes an ID token apart. nonce is that of the request it was made for; "" for one that a program shows.
func (i *issuer) verify(ctx context.Context, raw, nonce string) (Person, error) {
	f, err := i.find(ctx)
	if err != nil {
		return Person{}, err
	}
	t, err := f.verifier.Verify(ctx, raw)
	if err != nil {
		return Person{}, fmt.Errorf("the ID token does not hold: %w", short(err))
	}
	if nonce != "" && subtle.ConstantTimeCompare([]byte(t.Nonce), []byte(nonce)) != 1 {
		return Person{}, errNonce
	}
	claims := map[string]any{}
	if err := t.Claims(&claims); err != nil {
		return Person{}, fmt.Errorf("the ID token does not hold: %w", err)
	}
	p := Person{Name: nameOf(claims), Via: ViaOIDC, Role: i.role(claims)}
	if p.Role == "" {
		return p, &NoRoleError{p.Name, i.cfg.Claim}
	}
	return p, nil
}

// nameOf is how people know somebody: by the address or name that the issuer vouches for, else by its own number.
func nameOf(claims map[string]any) string {
	for _, c := range []string{"email", "preferred_username", "name", "sub"} {
		if text, _ := claims[c].(string); text != "" && (c != "email" || verified(claims)) {
			return shown(text)
		}
	}
	return shown("")
}

// verified: an address that anybody can give themselves says nothing.
func verified(claims map[string]any) bool {
	v := claims["email_verified"]
	return v == true || v == "true"
}

// role is what the claim makes of somebody.
func (i *issuer) role(claims map[string]any) string {
	values := valuesOf(claims, i.cfg.Claim)
	if i.cfg.Claim == "email" && !verified(claims) {
		values = nil
	}
	for _, one := range []struct {
		role string
		of   []string
	}{{site.RoleOperate, i.cfg.Operate}, {site.RoleRead, i.cfg.Read}} {
		if slices.Contains(one.of, "*") || slices.ContainsFunc(values, func(v string) bool { return slices.Contains(one.of, v) }) {
			return one.role
		}
	}
	return ""
}

// valuesOf are the texts of a claim; a dot in its name goes one level down, unless there is a claim of the whole name.
func valuesOf(claims map[string]any, name string) (list []string) {
	v, there := claims[name]
	for !there {
		head, rest, more := strings.Cut(name, ".")
		inner, is := claims[head].(map[string]any)
		if !more || !is {
			return nil
		}
		claims, name = inner, rest
		v, there = claims[name]
	}
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		for _, one := range v[:min(len(v), maxClaim)] {
			if text, is := one.(string); is {
				list = append(list, text)
			}
		}
	}
	return list
}

// short keeps what an issuer answers from filling a page.
func short(err error) error { return errors.New(clean(err.Error(), maxText)) }

// bounded cuts answers that are too long.
type bounded struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b *bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	a, err := b.next.RoundTrip(r)
	if err == nil {
		a.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(a.Body, issuerBody), a.Body}
	}
	return a, err
}

// paced looks for new keys every few seconds at most: a token that names a key nobody has must not make evenkeel ask as often as it comes.
type paced struct {
	next http.RoundTripper
	now  func() time.Time

	mu   sync.Mutex
	last time.Time
}

var errPaced = errors.New("keys were looked for just now")

// RoundTrip implements http.RoundTripper.
func (p *paced) RoundTrip(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	now := p.now()
	early := !p.last.IsZero() && now.Sub(p.last) < issuerAgain
	if !early {
		p.last = now
	}
	p.mu.Unlock()
	if early {
		return nil, errPaced
	}
	return p.next.RoundTrip(r)
}

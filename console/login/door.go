// Package login knows who is at the console and what they may do: tokens, single sign-on by OpenID Connect, sessions, and how often may be tried.
package login

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/even-keel/evenkeel/keep"
	"github.com/even-keel/evenkeel/site"
)

// How somebody showed who they are.
const (
	ViaLocal       = "local"       // by nothing: the site asks nobody, and so listens on loopback only
	ViaCertificate = "certificate" // by a client certificate and nothing else
	ViaToken       = "token"
	ViaOIDC        = "oidc"
)

// adminName is who has the token of admin.token, which has no name of its own.
const adminName = "admin"

// Person is who asks.
type Person struct {
	Name   string // as the record of actions shows it
	Role   string // site.RoleRead, site.RoleOperate, site.RoleWrite, or "" for nobody
	Via    string
	From   string // address
	Bearer bool   // by what no browser sends by itself
	Key    string // of the session, "" without one
}

// May reports whether somebody has a role, or one that has all of it: operate has read and write, which have nothing of each other.
func (p Person) May(role string) bool {
	return p.Role == site.RoleOperate || p.Role == role && role != ""
}

var (
	// ErrNobody says that nothing was shown that is known here.
	ErrNobody = errors.New("show a token of the site file's admin section as a bearer token, or sign in")
	// ErrWriter says that there is nothing to see for who signs in.
	ErrWriter = errors.New("this token has the role write: it writes samples and opens no console")
)

// TooManyError says that an address has tried too often.
type TooManyError struct{ Wait time.Duration }

// Error implements error.
func (e *TooManyError) Error() string {
	return fmt.Sprintf("from this address was tried too often; the next try is looked at in %v", e.Wait.Round(time.Second))
}

// Door lets people in. It starts nothing, and may be used by any goroutine.
type Door struct {
	now func() time.Time

	mu       sync.Mutex
	tokens   []token
	sso      *issuer // nil: none
	secure   bool    // browsers come by TLS, even when this process sees none
	life     time.Duration
	sessions sessions
	tries    tries
	counts   Counts

	saving sync.Mutex
	folder *keep.Folder // nil: sessions end with the process
}

// Counts are how often people signed in, or tried to, since the start.
type Counts struct {
	Entered, Denied, Blocked uint64
}

// token is one token that is known.
type token struct {
	name, role string
	sum        [32]byte
}

// bond ties a session to what entitles to it, so that it ends with that.
func (t token) bond() string {
	sum := sha256.Sum256([]byte("token\x00" + t.name + "\x00" + t.role + "\x00" + string(t.sum[:])))
	return hex.EncodeToString(sum[:])
}

// New makes a door that asks nobody until Use. now is the clock; nil: time.Now.
func New(now func() time.Time) *Door {
	if now == nil {
		now = time.Now
	}
	return &Door{now: now, sessions: sessions{}, tries: tries{}}
}

// Use makes what a site says of the admin listener hold. Sessions end whose token or whose issuer is not there any more.
func (d *Door) Use(a site.Admin) {
	tokens := []token{}
	if a.Token != "" {
		tokens = append(tokens, token{adminName, site.RoleOperate, sha256.Sum256([]byte(a.Token))})
	}
	for _, t := range a.Tokens {
		tokens = append(tokens, token{t.Name, t.Role, sha256.Sum256([]byte(t.Token))})
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tokens, d.life = tokens, a.Session
	switch {
	case a.OIDC == nil:
		d.sso = nil
	case d.sso == nil || !d.sso.same(a.OIDC):
		d.sso = newIssuer(a.OIDC, d.now)
	}
	d.secure = a.OIDC != nil && strings.HasPrefix(a.OIDC.URL, "https://")
	d.sessions.keep(d.bonds(), d.now())
}

// bonds are all that entitle to a session. d.mu is held.
func (d *Door) bonds() map[string]bool {
	all := map[string]bool{}
	for _, t := range d.tokens {
		all[t.bond()] = true
	}
	if d.sso != nil {
		all[d.sso.bond] = true
	}
	return all
}

// Closed reports whether people have to show who they are.
func (d *Door) Closed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.tokens) > 0 || d.sso != nil
}

// Offers says what the form to sign in offers.
func (d *Door) Offers() (tokens, sso bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.tokens) > 0, d.sso != nil
}

// Counts are how often people signed in, and how many sessions there are.
func (d *Door) Counts() (c Counts, open int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sessions.expire(d.now())
	return d.counts, len(d.sessions)
}

// Who finds out who asks. The error is ErrNobody or a TooManyError; then the person has an address and no role.
func (d *Door) Who(r *http.Request) (Person, error) {
	p := Person{From: addressOf(r)}
	if !d.Closed() {
		p.Name, p.Role, p.Via = ViaLocal, site.RoleOperate, ViaLocal
		if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 && len(r.TLS.VerifiedChains[0]) > 0 {
			p.Name, p.Via = shown(r.TLS.VerifiedChains[0][0].Subject.CommonName), ViaCertificate
		}
		return p, nil
	}
	if scheme, text, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "bearer") {
		return d.bearer(r.Context(), p, strings.TrimSpace(text))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, name := range []string{hostCookie, plainCookie} {
		for _, k := range r.CookiesNamed(name) {
			if s := d.sessions.find(k.Value, d.now()); s != nil {
				return Person{Name: s.Name, Role: s.Role, Via: s.Via, From: p.From, Key: s.Key}, nil
			}
		}
	}
	return p, ErrNobody
}

// bearer looks at a token that a program shows: one of the site's, or an ID token of the issuer.
func (d *Door) bearer(ctx context.Context, p Person, text string) (Person, error) {
	d.mu.Lock()
	if wait := d.tries.blocked(p.From, d.now()); wait > 0 {
		d.counts.Blocked++
		d.mu.Unlock()
		return p, &TooManyError{wait}
	}
	t, fits := d.token(text)
	sso := d.sso
	d.mu.Unlock()
	if fits {
		p.Name, p.Role, p.Via, p.Bearer = t.name, t.role, ViaToken, true
		return p, nil
	}
	if sso != nil && strings.Count(text, ".") == 2 {
		if who, err := sso.verify(ctx, text, ""); err == nil {
			who.From, who.Bearer = p.From, true
			return who, nil
		}
	}
	d.failed(p.From)
	return p, ErrNobody
}

// token finds the token that text is. It compares fingerprints, and all of them, so that neither bytes nor length nor place of a
// token show in the time it takes. d.mu is held.
func (d *Door) token(text string) (found token, fits bool) {
	sum := sha256.Sum256([]byte(text))
	for _, t := range d.tokens {
		if subtle.ConstantTimeCompare(sum[:], t.sum[:]) == 1 && !fits {
			found, fits = t, true
		}
	}
	return found, fits
}

// failed counts a try that was none.
func (d *Door) failed(from string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counts.Denied++
	d.tries.add(from, d.now())
}

// SignIn takes a token from the form and opens a session for who has it. The error is ErrNobody, ErrWriter or a TooManyError.
func (d *Door) SignIn(r *http.Request, text string) (Person, *http.Cookie, error) {
	p := Person{From: addressOf(r)}
	d.mu.Lock()
	if wait := d.tries.blocked(p.From, d.now()); wait > 0 {
		d.counts.Blocked++
		d.mu.Unlock()
		return p, nil, &TooManyError{wait}
	}
	t, fits := d.token(strings.TrimSpace(text))
	d.mu.Unlock()
	if !fits {
		d.failed(p.From)
		return p, nil, ErrNobody
	}
	p.Name, p.Role, p.Via = t.name, t.role, ViaToken
	if t.role == site.RoleWrite {
		return p, nil, ErrWriter
	}
	return p, d.open(r, &p, t.bond()), nil
}

// open makes a session, and the cookie that carries its secret.
func (d *Door) open(r *http.Request, p *Person, bond string) *http.Cookie {
	secret := random()
	now := d.now()
	d.mu.Lock()
	s := &Session{Key: keyOf(secret), Name: p.Name, Role: p.Role, Via: p.Via, From: p.From, Bond: bond, Begin: now, Seen: now, End: now.Add(d.life)}
	d.sessions.add(s, now)
	d.counts.Entered++
	p.Key = s.Key
	k := d.cookie(r, secret, int(d.life/time.Second))
	d.mu.Unlock()
	d.save()
	return k
}

// Leave ends the session of a person, and returns the cookie that takes the place of theirs.
func (d *Door) Leave(r *http.Request, p Person) *http.Cookie {
	d.mu.Lock()
	delete(d.sessions, p.Key)
	k := d.cookie(r, "", -1)
	d.mu.Unlock()
	d.save()
	return k
}

// Holds reports whether a person is still let in: a stream that lasts must end with its session.
func (d *Door) Holds(p Person) bool {
	if p.Key == "" {
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.sessions[p.Key]
	return s != nil && d.now().Before(s.End)
}

// Sessions are those that are open, the newest first.
func (d *Door) Sessions() []Session {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sessions.list(d.now())
}

// End ends the session of an ID, and says whose it was; "" when there is none.
func (d *Door) End(id string) (name string) {
	d.mu.Lock()
	for key, s := range d.sessions {
		if s.ID() == id {
			name = s.Name
			delete(d.sessions, key)
		}
	}
	d.mu.Unlock()
	d.save()
	return name
}

// addressOf is where a request comes from, without the port.
func addressOf(r *http.Request) string {
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		return at.Addr().Unmap().WithZone("").String()
	}
	return r.RemoteAddr
}

package console

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

const (
	cookieName  = "evenkeel_session"
	sessionLife = 12 * time.Hour // a working day
)

// sessionKeys derives what is compared and what signs from the token. Keeping no sessions means that a restart or an
// upgrade logs nobody out, and that a new token logs everybody out.
func sessionKeys(token string) (fingerprint [32]byte, session []byte) {
	m := hmac.New(sha256.New, []byte(token))
	m.Write([]byte("evenkeel console session 1"))
	return sha256.Sum256([]byte(token)), m.Sum(nil)
}

// guard stands before every route: who asks, by what name, from where.
func (c *console) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "+
			"frame-ancestors 'none'; form-action 'self'; base-uri 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin") // forms without scripts go back to where they stand
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		if r.TLS != nil {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		limit := bodyLimitOf(r.URL.Path)
		r.Body = http.MaxBytesReader(w, r.Body, limit)
		if r.ContentLength > limit {
			problem(w, http.StatusRequestEntityTooLarge, "body_too_large", "the body may have "+strconv.FormatInt(limit, 10)+" bytes")
			return
		}
		if r.URL.Path == "/healthz" || r.URL.Path == "/readyz" {
			next.ServeHTTP(w, r)
			return
		}
		if !c.hostAllowed(r.Host) {
			problem(w, http.StatusMisdirectedRequest, "host_not_allowed",
				"without a token the console answers only to localhost, a loopback address or the address it listens on")
			return
		}
		if c.deps.ClientCerts && (r.TLS == nil || len(r.TLS.VerifiedChains) == 0) {
			problem(w, http.StatusUnauthorized, "certificate_required", "show a client certificate that the node's authority signed")
			return
		}
		if foreign(r) {
			problem(w, http.StatusForbidden, "cross_origin", "another site's page may link to the console, not load from it")
			return
		}
		bearer := c.bearer(r)
		// A bearer token cannot be sent by another site's page; a cookie, a loopback address or a certificate can be used by one.
		if !bearer && c.origin.Check(r) != nil {
			problem(w, http.StatusForbidden, "cross_origin", "changes are taken from the console's own page or with a bearer token, not from another site")
			return
		}
		if c.deps.Token != "" && !bearer && !c.cookie(r) && !open(r.URL.Path) {
			c.unauthorized(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// foreign says whether another site's page asks for something it would not show. It could not read the answer, but
// streams held open from there would take the watchers' places.
func foreign(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	return (site == "cross-site" || site == "same-site") && r.Header.Get("Sec-Fetch-Mode") != "navigate"
}

// open says whether a path needs no token: what the login form is made of.
func open(path string) bool { return path == "/login" || strings.HasPrefix(path, "/assets/") }

// unauthorized sends people to the login form and tells programs what to show.
func (c *console) unauthorized(w http.ResponseWriter, r *http.Request) {
	if c.isPage(r) && strings.Contains(r.Header.Get("Accept"), "text/html") {
		http.Redirect(w, r, "/login", http.StatusSeeOther)
		return
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="evenkeel"`)
	problem(w, http.StatusUnauthorized, "token_required", "show the token of the site file's admin section as a bearer token")
}

// hostAllowed keeps pages of other sites out whose name was pointed at this machine (DNS rebinding): without a token nothing
// but the name in the Host field tells them from the console's own page. IP addresses cannot be rebound.
func (c *console) hostAllowed(host string) bool {
	if c.deps.Token != "" || c.deps.ClientCerts {
		return true
	}
	name := hostname(host)
	if strings.EqualFold(name, "localhost") {
		return true
	}
	if ip, err := netip.ParseAddr(name); err == nil && ip.Unmap().IsLoopback() {
		return true
	}
	own := hostname(c.deps.Listen)
	return own != "" && strings.EqualFold(name, own)
}

// hostname is host:port without port and brackets.
func hostname(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
}

func (c *console) bearer(r *http.Request) bool {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	return ok && c.deps.Token != "" && strings.EqualFold(scheme, "bearer") && c.tokenFits(strings.TrimSpace(token))
}

// tokenFits compares fingerprints, so that neither the bytes nor the length of the token show in the time it takes.
func (c *console) tokenFits(token string) bool {
	sum := sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(sum[:], c.token[:]) == 1
}

// cookie says whether the request carries a session of this token that has not ended.
func (c *console) cookie(r *http.Request) bool {
	for _, k := range r.CookiesNamed(cookieName) {
		until, _, ok := strings.Cut(k.Value, ".")
		if !ok || !hmac.Equal([]byte(k.Value), []byte(c.sign(until))) {
			continue
		}
		if s, err := strconv.ParseInt(until, 10, 64); err == nil && c.deps.Now().Unix() < s {
			return true
		}
	}
	return false
}

// sign makes the cookie value of a session that ends at until, in Unix seconds.
func (c *console) sign(until string) string {
	m := hmac.New(sha256.New, c.session)
	m.Write([]byte(until))
	return until + "." + hex.EncodeToString(m.Sum(nil))
}

// login takes the form and sets the cookie.
func (c *console) login(w http.ResponseWriter, r *http.Request) {
	if c.deps.Token == "" {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	if err := r.ParseForm(); err != nil {
		problem(w, http.StatusBadRequest, "bad_form", "the login form could not be read")
		return
	}
	if !c.tokenFits(strings.TrimSpace(r.PostForm.Get("token"))) {
		c.loginForm(w, http.StatusUnauthorized, "That is not this node's token.")
		return
	}
	until := c.deps.Now().Add(sessionLife)
	c.setCookie(w, r, c.sign(strconv.FormatInt(until.Unix(), 10)), int(sessionLife/time.Second))
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (c *console) logout(w http.ResponseWriter, r *http.Request) {
	c.setCookie(w, r, "", -1)
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

func (c *console) setCookie(w http.ResponseWriter, r *http.Request, value string, age int) {
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: value, Path: "/", MaxAge: age,
		HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode,
	})
}

func (c *console) loginPage(w http.ResponseWriter, _ *http.Request) {
	if c.deps.Token == "" {
		w.Header().Set("Location", "/")
		w.WriteHeader(http.StatusSeeOther)
		return
	}
	c.loginForm(w, http.StatusOK, "")
}

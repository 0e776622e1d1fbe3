package console

import (
	"context"
	"errors"
	"math"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/even-keel/evenkeel/console/login"
	"github.com/even-keel/evenkeel/site"
)

// sessionLife is how long a session lasts where no site says so: a working day.
const sessionLife = 12 * time.Hour

// guard stands before every route: who asks, by what name, from where, and whether they may. Those who may change things get to
// operate, the others to read, which knows no way to change anything.
func (c *console) guard(operate, read http.Handler) http.Handler {
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
			read.ServeHTTP(w, r)
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
		who, err := c.deps.Door.Who(r)
		// A bearer token cannot be sent by another site's page; a cookie, a loopback address or a certificate can be used by one.
		if !who.Bearer && c.origin.Check(r) != nil {
			problem(w, http.StatusForbidden, "cross_origin", "changes are taken from the console's own page or with a bearer token, not from another site")
			return
		}
		if open(r.URL.Path) {
			read.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), whoKey{}, who)))
			return
		}
		if err != nil {
			c.unauthorized(w, r, err)
			return
		}
		c.enterAs(who, operate, read, w, r)
	})
}

// enterAs lets somebody do what their role allows, and records what changes something.
func (c *console) enterAs(who login.Person, operate, read http.Handler, w http.ResponseWriter, r *http.Request) {
	r = r.WithContext(context.WithValue(r.Context(), whoKey{}, who))
	need := needed(r)
	next := read
	if who.May(site.RoleOperate) {
		next = operate
	}
	v := &visit{ResponseWriter: w, status: http.StatusOK}
	switch {
	case !who.May(need):
		tell(v, Problem{Status: http.StatusForbidden, Reason: "role_needed", Role: need,
			Detail: r.Method + " " + r.URL.Path + " needs the role " + need + ", and " + who.Name + " has " + who.Role})
	case need == site.RoleOperate:
		next.ServeHTTP(v, r)
	default:
		next.ServeHTTP(w, r)
	}
	if need == site.RoleOperate { // samples come every few seconds and are no action of anybody
		c.record(who, r, v.status, v.reason)
	}
}

// needed is the role that a request needs: what changes nothing may be read by all who are let in.
func needed(r *http.Request) string {
	switch {
	case r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions:
		return site.RoleRead
	case r.URL.Path == writePath:
		return site.RoleWrite
	case strings.HasPrefix(r.URL.Path, prometheusPrefix):
		return site.RoleRead // long queries are posted
	case slices.Contains(questions, r.URL.Path):
		return site.RoleRead
	}
	return site.RoleOperate
}

// questions are paths that are posted to and change nothing of the node.
var questions = []string{"/api/v1/query"}

// foreign says whether another site's page asks for something it would not show. It could not read the answer, but
// streams held open from there would take the watchers' places.
func foreign(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	return (site == "cross-site" || site == "same-site") && r.Header.Get("Sec-Fetch-Mode") != "navigate"
}

// open says whether a path asks nobody who they are: what signing in and out is made of.
func open(path string) bool {
	return path == "/login" || path == "/logout" || path == "/login/oidc" || path == login.Callback || strings.HasPrefix(path, "/assets/")
}

// unauthorized sends people to the form to sign in, and tells programs what to show.
func (c *console) unauthorized(w http.ResponseWriter, r *http.Request, err error) {
	var many *login.TooManyError
	if errors.As(err, &many) {
		tooMany(w, many)
		return
	}
	if r.Method == http.MethodGet && c.isPage(r) && strings.Contains(r.Header.Get("Accept"), "text/html") {
		to := "/login"
		if next := login.Local(r.URL.RequestURI()); next != "/" {
			to += "?next=" + url.QueryEscape(next)
		}
		http.Redirect(w, r, to, http.StatusSeeOther)
		return
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="evenkeel"`)
	problem(w, http.StatusUnauthorized, "token_required", err.Error())
}

func tooMany(w http.ResponseWriter, e *login.TooManyError) {
	w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(e.Wait.Seconds()))))
	problem(w, http.StatusTooManyRequests, "too_many_tries", e.Error())
}

// hostAllowed keeps pages of other sites out whose name was pointed at this machine (DNS rebinding): without a token nothing
// but the name in the Host field tells them from the console's own page. IP addresses cannot be rebound.
func (c *console) hostAllowed(host string) bool {
	if c.deps.ClientCerts || c.deps.Door.Closed() {
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

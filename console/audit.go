package console

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/even-keel/evenkeel/console/login"
)

// Action is what somebody did, or tried to do, by console, API or command.
type Action struct {
	At     time.Time `json:"at"`
	Who    string    `json:"who"`
	Role   string    `json:"role"` // "" for somebody who was not let in
	Via    string    `json:"via"`  // local, certificate, token or oidc
	From   string    `json:"from"` // address
	What   string    `json:"what"` // sign in, sign out, or the request, such as POST /api/v1/shed?class=low
	OK     bool      `json:"ok"`
	Status int       `json:"status"`
	Reason string    `json:"reason,omitempty"` // word of the refusal
}

// Recorder takes what people do, for those who ask later who it was. It must not block.
type Recorder interface{ Record(a Action) }

// Limits of what is recorded.
const (
	maxWhat     = 300         // characters
	denialsOnce = 10          // refused sign-ins that are recorded one after the other; who guesses must not push out what operators did
	denialEvery = time.Minute // and then one in this time; all are counted in metrics
)

// String is an action as people read it.
func (a Action) String() string {
	s := a.Who + " (" + a.Via
	if a.From != "" {
		s += ", from " + a.From
	}
	s += "): " + a.What
	if a.OK {
		return s
	}
	s += ": refused"
	if a.Reason != "" {
		s += ", " + a.Reason
	}
	return s
}

// visit remembers how a request was answered.
type visit struct {
	http.ResponseWriter
	status int
	reason string
}

// WriteHeader implements http.ResponseWriter.
func (v *visit) WriteHeader(status int) {
	v.status = status
	v.ResponseWriter.WriteHeader(status)
}

// Unwrap gives http.ResponseController what it needs.
func (v *visit) Unwrap() http.ResponseWriter { return v.ResponseWriter }

// whoKey is where the context of a request holds who asks.
type whoKey struct{}

// whoIs is who asks.
func whoIs(r *http.Request) login.Person {
	who, _ := r.Context().Value(whoKey{}).(login.Person)
	return who
}

// record records a request that changed something, or was to.
func (c *console) record(who login.Person, r *http.Request, status int, reason string) {
	what, asked := r.URL.Path, r.URL.RawQuery
	if len(r.PostForm) > 0 { // what people wrote into a form of a page; none of those that come here has secrets
		asked = r.Form.Encode()
	}
	if q, err := url.QueryUnescape(asked); err == nil && q != "" {
		what += "?" + q
	}
	if letters := []rune(clean(what)); len(letters) > maxWhat {
		what = string(letters[:maxWhat])
	}
	c.note(who, r.Method+" "+clean(what), status, reason)
}

// note records an action.
func (c *console) note(who login.Person, what string, status int, reason string) {
	if c.deps.Audit == nil {
		return
	}
	if reason == "" && status >= 400 {
		reason = "status " + strconv.Itoa(status)
	}
	c.deps.Audit.Record(Action{At: c.deps.Now(), Who: orSomebody(who.Name), Role: who.Role, Via: who.Via, From: who.From, What: what, OK: status < 400, Status: status, Reason: reason})
}

// noteDenied records that somebody was not let in, unless many are.
func (c *console) noteDenied(who login.Person, what, reason string) {
	now := c.deps.Now()
	c.mu.Lock()
	if c.denials.Before(now) {
		c.denials = now
	}
	many := c.denials.Sub(now) >= denialsOnce*denialEvery
	if !many {
		c.denials = c.denials.Add(denialEvery)
	}
	c.mu.Unlock()
	if !many {
		c.note(who, what, http.StatusUnauthorized, reason)
	}
}

func orSomebody(name string) string {
	if strings.TrimSpace(name) == "" {
		return "somebody"
	}
	return name
}

// byName is who a change is said to be by: who is known by name is that; where a name stands for many, it may say which of them.
func byName(r *http.Request, said string) string {
	who := whoIs(r)
	said = strings.TrimSpace(clean(said))
	switch {
	case said == "" || said == who.Name:
		return who.Name
	case who.Via == login.ViaLocal || who.Via == "":
		return said
	case who.Via == login.ViaOIDC:
		return who.Name
	}
	return said + " (" + who.Name + ")"
}

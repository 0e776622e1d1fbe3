package console

import (
	"errors"
	"net/http"

	"github.com/even-keel/evenkeel/console/login"
)

// doorShown is what the template of the form to sign in sees.
type doorShown struct {
	Error  string
	Next   string // page that was wanted
	Tokens bool   // there are tokens
	SSO    bool   // there is an issuer
	Go     string // page to go on to at once
}

// doorRoutes serves signing in and out.
func (c *console) doorRoutes(mux *http.ServeMux, serve func(method, path string, h http.HandlerFunc)) {
	mux.HandleFunc("GET /login", c.loginPage)
	mux.HandleFunc("POST /login", c.login)
	serve("GET", "/login/oidc", c.beginOIDC)
	serve("GET", login.Callback, c.finishOIDC)
	serve("POST", "/logout", c.logout)
}

func (c *console) loginForm(w http.ResponseWriter, status int, next, text string) {
	s := doorShown{Error: text, Next: next}
	s.Tokens, s.SSO = c.deps.Door.Offers()
	c.html(w, status, "login.html", s)
}

func (c *console) loginPage(w http.ResponseWriter, r *http.Request) {
	next := login.Local(r.URL.Query().Get("next"))
	if !c.deps.Door.Closed() {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return
	}
	c.loginForm(w, http.StatusOK, next, "")
}

// login takes the form and sets the cookie.
func (c *console) login(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		problem(w, http.StatusBadRequest, "bad_form", "the form to sign in could not be read")
		return
	}
	next := login.Local(r.PostForm.Get("next"))
	if !c.deps.Door.Closed() {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return
	}
	who, cookie, err := c.deps.Door.SignIn(r, r.PostForm.Get("token"))
	if err != nil {
		who.Via = login.ViaToken
		c.notEntered(w, who, next, err, "That is no token of this node.")
		return
	}
	c.note(who, "sign in", http.StatusOK, "")
	http.SetCookie(w, cookie)
	http.Redirect(w, r, next, http.StatusSeeOther)
}

// notEntered shows the form again, and says why.
func (c *console) notEntered(w http.ResponseWriter, who login.Person, next string, err error, text string) {
	var many *login.TooManyError
	var none *login.NoRoleError
	status, reason := http.StatusUnauthorized, "not_known"
	switch {
	case errors.As(err, &many):
		tooMany(w, many)
		return
	case errors.As(err, &none):
		status, reason = http.StatusForbidden, "no_role"
	case errors.Is(err, login.ErrWriter):
		status, reason, text = http.StatusForbidden, "no_role", sentenceOf(sentence(err))
	}
	c.noteDenied(who, "sign in", reason)
	c.loginForm(w, status, next, text)
}

// beginOIDC sends somebody to the issuer.
func (c *console) beginOIDC(w http.ResponseWriter, r *http.Request) {
	next := login.Local(r.URL.Query().Get("next"))
	to, cookie, err := c.deps.Door.Begin(r, next)
	if err != nil {
		c.loginForm(w, http.StatusBadGateway, next, sentenceOf(sentence(err)))
		return
	}
	http.SetCookie(w, cookie)
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// finishOIDC takes somebody whom the issuer sends back. It answers with a page that goes on by itself: browsers keep the cookie from a
// redirect that began at the issuer.
func (c *console) finishOIDC(w http.ResponseWriter, r *http.Request) {
	who, cookie, next, err := c.deps.Door.Finish(r)
	if err != nil {
		c.notEntered(w, who, "/", err, sentenceOf(sentence(err)))
		return
	}
	c.note(who, "sign in", http.StatusOK, "")
	http.SetCookie(w, cookie)
	http.SetCookie(w, &http.Cookie{Name: "evenkeel_start", Path: "/login/oidc", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: cookie.Secure})
	c.html(w, http.StatusOK, "entered.html", doorShown{Go: next})
}

func (c *console) logout(w http.ResponseWriter, r *http.Request) {
	who := whoIs(r)
	if who.Key != "" {
		c.note(who, "sign out", http.StatusOK, "")
	}
	http.SetCookie(w, c.deps.Door.Leave(r, who))
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

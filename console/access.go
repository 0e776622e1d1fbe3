package console

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Access is who is in, who did what, and who asks.
type Access struct {
	At       time.Time `json:"at"`
	You      You       `json:"you"`
	Closed   bool      `json:"closed"`   // people have to show who they are
	Sessions []Entered `json:"sessions"` // the newest first
	Actions  []Action  `json:"actions"`  // the newest first
}

// You is who asks.
type You struct {
	Name string `json:"name"`
	Role string `json:"role"` // read or operate
	Via  string `json:"via"`  // local, certificate, token or oidc
	From string `json:"from"`
}

// Entered is somebody who signed in with a browser.
type Entered struct {
	ID    string    `json:"id"`
	Name  string    `json:"name"`
	Role  string    `json:"role"`
	Via   string    `json:"via"`
	From  string    `json:"from"` // when they signed in
	Begin time.Time `json:"begin"`
	Seen  time.Time `json:"seen"`
	End   time.Time `json:"end"`
	You   bool      `json:"you"`
}

// accessShown is what the templates of the page see.
type accessShown struct {
	shown
	Access Access
	More   int // actions that are not shown
}

// accessRows is how many actions the page shows; the rest is in the API.
const accessRows = 100

// readOnly is what a reader gets of all this: nothing that changes anything, so that no slip elsewhere can.
func (d Deps) readOnly() Deps {
	d.SetEndpoint, d.Shed, d.SetSwitch, d.Purge, d.Break, d.Reload, d.Drain = nil, nil, nil, nil, nil, nil, nil
	d.Silence, d.EndSilence, d.TestAlert = nil, nil, nil
	d.History.Note, d.History.Import = nil, nil
	return d
}

// accessRoutes serves who is in, and who did what.
func (c *console) accessRoutes(serve func(method, path string, h http.HandlerFunc)) {
	serve("GET", "/api/v1/access", func(w http.ResponseWriter, r *http.Request) { answer(w, http.StatusOK, c.access(r)) })
	serve("POST", "/api/v1/access/sessions/{id}/end", c.endSession)
}

func (c *console) access(r *http.Request) Access {
	who := whoIs(r)
	a := Access{At: c.deps.Now(), You: You{who.Name, who.Role, who.Via, who.From}, Closed: c.deps.Door.Closed(), Sessions: []Entered{}, Actions: []Action{}}
	for _, s := range c.deps.Door.Sessions() {
		a.Sessions = append(a.Sessions, Entered{ID: s.ID(), Name: s.Name, Role: s.Role, Via: s.Via, From: s.From, Begin: s.Begin, Seen: s.Seen, End: s.End, You: s.Key == who.Key})
	}
	if c.deps.Actions != nil {
		a.Actions = copied(c.deps.Actions())
	}
	return a
}

// showAccess makes a view ready for the page about who is in.
func (c *console) showAccess(on shown, r *http.Request) any {
	s := accessShown{shown: on, Access: c.access(r)}
	if n := len(s.Access.Actions); n > accessRows {
		s.Access.Actions, s.More = s.Access.Actions[:accessRows], n-accessRows
	}
	return s
}

// endSession signs somebody out.
func (c *console) endSession(w http.ResponseWriter, r *http.Request) {
	name := c.deps.Door.End(r.PathValue("id"))
	if name == "" {
		problem(w, http.StatusNotFound, "unknown_session", "there is no session "+r.PathValue("id"))
		return
	}
	done(w, r, http.StatusOK, map[string]string{"ended": r.PathValue("id"), "name": name})
}

// Access asks who is in, and who did what.
func (c *Client) Access(ctx context.Context) (a Access, err error) {
	return a, c.get(ctx, "/api/v1/access", &a)
}

// EndSession signs somebody out.
func (c *Client) EndSession(ctx context.Context, id string) error {
	return c.Post(ctx, "/api/v1/access/sessions/"+url.PathEscape(id)+"/end")
}

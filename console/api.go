package console

import (
	"encoding/json"
	"net/http"
	"strings"
)

// Problem is the body of every error of the API: RFC 9457 with a reason word that stays the same over versions.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	Reason string `json:"reason"`
	Role   string `json:"role,omitempty"` // that is needed, when it is that
}

// problem answers with an error.
func problem(w http.ResponseWriter, status int, reason, detail string) {
	tell(w, Problem{Status: status, Detail: detail, Reason: reason})
}

// tell answers with an error that says more.
func tell(w http.ResponseWriter, p Problem) {
	if v, is := w.(*visit); is {
		v.reason = p.Reason
	}
	p.Type, p.Title = "about:blank", http.StatusText(p.Status)
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	writeJSON(w, p)
}

// answer answers with JSON.
func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	writeJSON(w, body)
}

// writeJSON writes body indented: people read this API with curl. An error means that the caller left.
func writeJSON(w http.ResponseWriter, body any) {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(body)
}

func (c *console) status(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, c.now()) }

func (c *console) listeners(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{"listeners": c.now().Listeners})
}

func (c *console) pools(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{"pools": c.now().Pools})
}

func (c *console) listRoutes(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{"routes": c.now().Routes})
}

func (c *console) pool(w http.ResponseWriter, r *http.Request) {
	p := c.now().pool(r.PathValue("pool"))
	if p == nil {
		problem(w, http.StatusNotFound, "unknown_pool", "there is no pool named "+r.PathValue("pool"))
		return
	}
	answer(w, http.StatusOK, p)
}

// setEndpoint drains an endpoint, takes it down, or puts it back.
func (c *console) setEndpoint(w http.ResponseWriter, r *http.Request) {
	name, address, state := r.PathValue("pool"), r.PathValue("address"), r.PathValue("state")
	switch state {
	case AdminUp, AdminDown, AdminDrain:
	default:
		problem(w, http.StatusNotFound, "unknown_state", "an endpoint can be set to drain, up or down, not to "+state)
		return
	}
	v := c.now()
	p := v.pool(name)
	if p == nil {
		problem(w, http.StatusNotFound, "unknown_pool", "there is no pool named "+name)
		return
	}
	if p.endpoint(address) == nil {
		problem(w, http.StatusNotFound, "unknown_endpoint", "pool "+name+" has no endpoint "+address)
		return
	}
	if c.deps.SetEndpoint == nil {
		problem(w, http.StatusNotImplemented, "not_offered", "this node does not change endpoints")
		return
	}
	if err := c.deps.SetEndpoint(name, address, state); err != nil {
		problem(w, http.StatusConflict, "endpoint_not_set", sentence(err))
		return
	}
	c.stale()
	done(w, r, http.StatusOK, map[string]string{"pool": name, "address": address, "admin": state})
}

// reload reads the site file again and answers when that is done.
func (c *console) reload(w http.ResponseWriter, r *http.Request) {
	if c.deps.Reload == nil {
		problem(w, http.StatusNotImplemented, "not_offered", "this node has no site file to read again")
		return
	}
	if err := c.deps.Reload(); err != nil {
		c.stale()
		problem(w, http.StatusUnprocessableEntity, "site_refused", sentence(err))
		return
	}
	c.stale()
	done(w, r, http.StatusOK, map[string]string{"site_revision": c.now().Node.SiteRevision})
}

// drain starts the orderly stop and answers at once.
func (c *console) drain(w http.ResponseWriter, r *http.Request) {
	if c.deps.Drain == nil {
		problem(w, http.StatusNotImplemented, "not_offered", "this node cannot be drained from here")
		return
	}
	c.deps.Drain()
	c.stale()
	done(w, r, http.StatusAccepted, map[string]bool{"draining": true})
}

// done answers a change: programs get JSON, a form of the page without scripts goes back to the page.
func done(w http.ResponseWriter, r *http.Request, status int, body any) {
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		http.Redirect(w, r, back(r), http.StatusSeeOther)
		return
	}
	answer(w, status, body)
}

func (c *console) metrics(w http.ResponseWriter, r *http.Request) {
	if c.deps.Metrics == nil {
		problem(w, http.StatusNotFound, "not_offered", "this node keeps no metrics")
		return
	}
	c.deps.Metrics.ServeHTTP(w, r)
}

// healthz says that the process lives: that it answers at all is the proof.
func (c *console) healthz(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]string{"status": "alive"})
}

// readyz says whether the node should get traffic.
func (c *console) readyz(w http.ResponseWriter, _ *http.Request) {
	if c.deps.Ready != nil {
		if ok, why := c.deps.Ready(); !ok {
			w.Header().Set("Retry-After", "1")
			problem(w, http.StatusServiceUnavailable, "not_ready", why)
			return
		}
	}
	answer(w, http.StatusOK, map[string]string{"status": "ready"})
}

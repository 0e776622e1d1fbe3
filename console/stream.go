package console

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// streamViews sends the view as JSON once a second, as server-sent events.
func (c *console) streamViews(w http.ResponseWriter, r *http.Request) {
	c.stream(w, r, "view", func() ([]byte, error) { return json.Marshal(c.now()) })
}

// stream sends what next returns, once a second until the watcher leaves, is too slow, or the
// server shuts down. Each event is a sign of life too: a watcher that sees none for some seconds has
// lost the node.
func (c *console) stream(w http.ResponseWriter, r *http.Request, name string, next func() ([]byte, error)) {
	if !c.enter() {
		w.Header().Set("Retry-After", "10")
		problem(w, http.StatusServiceUnavailable, "too_many_watchers", "this node already has "+strconv.Itoa(watcherLimit)+" watchers")
		return
	}
	defer c.leave()
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{}) // the server's deadline for reading the request would end the stream
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	tick := time.NewTicker(streamEvery)
	defer tick.Stop()
	head := "retry: 2000\n"
	for c.deps.Door.Holds(whoIs(r)) {
		body, err := next()
		if err != nil {
			return
		}
		_ = rc.SetWriteDeadline(time.Now().Add(streamWrite)) // not every writer has one; then writes block no one else
		if _, err := w.Write([]byte(head + "event: " + name + "\ndata: " + string(body) + "\n\n")); err != nil {
			return
		}
		if err := rc.Flush(); err != nil {
			return
		}
		head = ""
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
	}
}

// enter counts a watcher in, if there is room.
func (c *console) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watchers >= watcherLimit {
		return false
	}
	c.watchers++
	return true
}

func (c *console) leave() {
	c.mu.Lock()
	c.watchers--
	c.mu.Unlock()
}

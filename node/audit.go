package node

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/console/login"
	"github.com/even-keel/evenkeel/keep"
	"github.com/even-keel/evenkeel/site"
)

// actionLimit is how many actions of people are remembered, apart from other events, which come more often.
const actionLimit = 500

// consoleDir is where sessions of the console are kept within state_dir.
const consoleDir = "console"

// ledger is what people did, the oldest first.
type ledger struct {
	mu   sync.Mutex
	list []console.Action
}

// Record implements console.Recorder: what people do is remembered, told as an event, and logged.
func (n *Node) Record(a console.Action) {
	n.ledger.mu.Lock()
	if len(n.ledger.list) >= actionLimit {
		n.ledger.list = slices.Delete(n.ledger.list, 0, len(n.ledger.list)-actionLimit+1)
	}
	n.ledger.list = append(n.ledger.list, a)
	n.ledger.mu.Unlock()
	n.events.addAbout(a.At, "audit", a.String(), factsOf(a))
	n.log.Info(a.String(), "event", "audit", "who", a.Who, "role", a.Role, "via", a.Via, "from", a.From, "what", a.What, "status", a.Status, "reason", a.Reason)
}

// factsOf is an action as properties of its event, for questions.
func factsOf(a console.Action) map[string]string {
	out := map[string]string{"who": a.Who, "role": a.Role, "via": a.Via, "from": a.From, "what": a.What, "status": strconv.Itoa(a.Status), "result": "done", "reason": a.Reason}
	if !a.OK {
		out["result"] = "refused"
	}
	maps.DeleteFunc(out, func(_, v string) bool { return v == "" })
	return out
}

// actions are what people did, the newest first.
func (n *Node) actions() []console.Action {
	n.ledger.mu.Lock()
	list := slices.Clone(n.ledger.list)
	n.ledger.mu.Unlock()
	slices.Reverse(list)
	return list
}

// openDoor makes who may come to the admin listener what the site says. Sessions outlive the process when the site has a state_dir.
func (n *Node) openDoor(s *site.Site) {
	n.door = login.New(nil)
	if s.StateDir != "" {
		if err := n.door.Keep(keep.NewFolder(filepath.Join(s.StateDir, consoleDir))); err != nil {
			n.event("admin", err.Error()+"; people have to sign in again")
		}
	}
	n.door.Use(s.Admin)
}

// giveUpAdmin gives the admin listener to a successor that serves: people must not be answered now by one process and now by the other, which
// know different sessions.
func (n *Node) giveUpAdmin(ctx context.Context) error {
	if !n.handed.Load() {
		return nil
	}
	return n.closeAdmin(ctx)
}

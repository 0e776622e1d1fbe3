package node

import (
	"path/filepath"
	"time"

	"github.com/even-keel/evenkeel/admit/quota"
	"github.com/even-keel/evenkeel/site"
)

// quotaDir is the folder of quotas within state_dir.
const quotaDir = "quotas"

// newBook makes the book of what quotas count. It keeps to the state_dir of the site that the node begins with.
func (n *Node) newBook(s *site.Site) *quota.Book {
	deps := quota.Deps{Log: n.log, Event: func(kind, text string) { n.events.add(time.Now(), kind, text) }}
	if s.StateDir != "" {
		deps.Dir = filepath.Join(s.StateDir, quotaDir)
	}
	return quota.NewBook(deps)
}

// newQuotas makes the quotas of s over what was counted; nil when it has none.
func (n *Node) newQuotas(s *site.Site) *quota.Set { return n.book.Set(s, routeNames(s)) }

// routeNames are the names of the routes of s, in order.
func routeNames(s *site.Site) (names []string) {
	for i, r := range s.Routes {
		names = append(names, routeName(i, r))
	}
	return names
}

// startQuotas reads what was counted before this start, and goes on counting. It comes before all that serves, and so ends
// after it: the last answer is in the files too.
func (n *Node) startQuotas() {
	n.quotas = n.newQuotas(n.site)
	n.book.Load()
	n.book.Use(n.quotas)
	n.tasks.start("quotas", n.book.Run)
}

// quotaStatus is what the quotas in force show.
func (n *Node) quotaStatus() []quota.Status {
	n.mu.Lock()
	set := n.counted
	n.mu.Unlock()
	return set.Status()
}

package monitor

import (
	"sync"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// own knows what the series of this node look like, so that no sender writes into them: its samples would stand between the node's own, be taken
// for restarts of counters, and keep the node's out where they are newer. It lives as long as the monitor.
type own struct {
	instance string

	mu    sync.Mutex // guards names
	names map[string]bool
}

// learn remembers the names of labels of an own series. There are no more of them than the program has words for.
func (o *own) learn(ls labels.Labels) {
	o.mu.Lock()
	defer o.mu.Unlock()
	ls.Range(func(l labels.Label) { o.names[l.Name] = true })
}

// has says whether a series looks like one of this node: it has the job and the instance of one, and no label that no own series
// has. By such a label, as in remote_write.labels, another node on the same machine tells its series apart.
func (o *own) has(ls labels.Labels) bool {
	if job := ls.Get(model.JobLabel); job != jobSelf && job != jobHost || ls.Get(model.InstanceLabel) != o.instance {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	other := false
	ls.Range(func(l labels.Label) { other = other || !o.names[l.Name] })
	return !other
}

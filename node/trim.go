package node

// trimAfter is how many seconds without a request make a node quiet, and trimTimes how often it then collects: the runtime
// halves a stack that is mostly unused once per collection, and the stacks of idle connections grew to
// 4 or 8 KiB while they had a request.
const (
	trimAfter = 2
	trimTimes = 3
)

// trimmer says when a node that has become quiet should give memory back. It is stepped once a second; without it ten
// thousand connections that fell idle together would keep what their last request took, since an idle
// node allocates nothing that would make the runtime collect.
type trimmer struct {
	seen  uint64
	quiet int // seconds without a request; negative before the first
}

// step takes the number of requests so far and reports whether to collect now.
func (t *trimmer) step(requests uint64) bool {
	if requests != t.seen {
		t.seen, t.quiet = requests, 0
		return false
	}
	if requests == 0 || t.quiet >= trimAfter+trimTimes {
		return false
	}
	t.quiet++
	return t.quiet > trimAfter
}

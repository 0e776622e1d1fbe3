package console

import "strconv"

// Bulkhead is what bulkheads do for one pool.
type Bulkhead struct {
	DryRun  bool           `json:"dry_run,omitempty"`
	Places  int            `json:"places"`  // of the node, for all pools together
	Refused uint64         `json:"refused"` // in a dry run: what would have been
	Parts   []BulkheadPart `json:"parts"`
}

// BulkheadPart is one compartment.
type BulkheadPart struct {
	By      string `json:"by"`             // pool, route, class or customer
	Name    string `json:"name,omitempty"` // empty for customers, which are counted together
	Used    int    `json:"used"`
	Kept    int    `json:"kept"`  // for it at the moment
	Share   int    `json:"share"` // kept for it when nothing is lent
	Most    int    `json:"most"`  // 0: as many as are idle
	Refused uint64 `json:"refused"`
}

// bulkheadText is what a line about a pool says of its bulkhead; empty: there is room.
func bulkheadText(b *Bulkhead) string {
	if b == nil {
		return ""
	}
	for _, p := range b.Parts {
		if p.Most > 0 && p.Used*10 >= p.Most*9 {
			what := p.By + " " + clean(p.Name)
			if p.By == "pool" {
				what = "it"
			}
			return what + " has " + strconv.Itoa(p.Used) + " requests under way, of " + strconv.Itoa(p.Most) + " at the most"
		}
	}
	return ""
}

package proxy

import (
	"strconv"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

// costMax bounds a number in an answer field: more digits than any cost needs.
const costMax = 32

// takeCost keeps the number of a field that tells a cost, which is the endpoint's word to evenkeel and not to the client. It reports whether
// f is such a field. The last of several counts; what is no number tells nothing.
func takeCost(x *exchange.Exchange, names []string, f *wire.Field) bool {
	for i, name := range names {
		if !wire.EqualFold(f.Name, name) {
			continue
		}
		if len(f.Value) <= costMax {
			if n, err := strconv.ParseFloat(string(f.Value), 64); err == nil {
				x.Costs[i] = exchange.NewCost(n)
			}
		}
		return true
	}
	return false
}

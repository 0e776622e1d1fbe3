package node

import (
	"testing"

	"github.com/even-keel/evenkeel/admit/shed"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// A shedder that only counts tells by what it would refuse that its pool is overloaded.
func TestPressureOfADryRun(t *testing.T) {
	g := shed.New("shop", site.Shed{Mode: site.ModeDryRun, Max: 1, Fair: "off"}, shed.Deps{})
	n := &Node{gates: map[string]*shed.Gate{"shop": g}, would: map[string]uint64{}}
	if p := n.pressure("none"); p.Overloaded || p.LowOff {
		t.Errorf("a pool that is not protected: %+v", p)
	}
	n.pressure("shop")
	var nested func(depth int) exchange.Handler
	nested = func(depth int) exchange.Handler {
		return func(x *exchange.Exchange) *exchange.Refusal {
			if depth == 0 {
				return nil
			}
			return g.Serve(request(t, "GET / HTTP/1.1\nHost: a"), exchange.Then(nested(depth-1)))
		}
	}
	if p := n.pressure("shop"); p.Overloaded {
		t.Errorf("without requests: %+v", p)
	}
	nested(12_000)(nil) // more than any queue would take
	if p := n.pressure("shop"); !p.Overloaded {
		t.Errorf("with 12,000 at once where one is right: %+v", p)
	}
	if p := n.pressure("shop"); p.Overloaded {
		t.Errorf("and then without: %+v", p)
	}
}

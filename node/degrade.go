package node

import (
	"time"

	"github.com/even-keel/evenkeel/contain/degrade"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// degrading notes which switches of a route are on, for its endpoints to be told.
type degrading struct {
	groups []*degrade.Group // by Route.Index; nil for routes without switches
}

// Serve implements exchange.Stage.
func (d *degrading) Serve(x *exchange.Exchange, next *exchange.Next) *exchange.Refusal {
	if g := d.groups[x.Route.Index]; g != nil {
		x.Degrade = g.Value()
	}
	return next.Do(x)
}

// degrading makes the stage; nil: no route has switches.
func (n *Node) degrading(s *site.Site) exchange.Stage {
	d := &degrading{}
	any := false
	for _, r := range s.Routes {
		var g *degrade.Group
		if len(r.Switches) > 0 {
			g, any = n.knobs.Group(r.Switches, time.Now()), true
		}
		d.groups = append(d.groups, g)
	}
	if !any {
		return nil
	}
	return d
}

// pressure is how a pool is, for switches. Only the sampler calls it, once for each of its steps.
func (n *Node) pressure(pool string) degrade.Pressure {
	n.mu.Lock()
	g := n.gates[pool]
	n.mu.Unlock()
	if g == nil {
		return degrade.Pressure{}
	}
	st := g.Status() // not what the gate last told: without requests it tells nothing
	would := uint64(0)
	for _, c := range st.Classes {
		would += c.WouldRefuse
	}
	before, known := n.would[pool]
	n.would[pool] = would
	// In a dry run nobody waits, so that nothing stands; what it would refuse is the sign then.
	return degrade.Pressure{Overloaded: st.Behind || st.LowOff || known && would > before, LowOff: st.LowOff}
}

// SetSwitch turns a switch on or off until a moment, whatever its pool does; a zero until leaves it to itself again. by says who: hand, or
// the name of an alert.
func (n *Node) SetSwitch(name string, on bool, until time.Time, by string) error {
	return n.knobs.Hold(name, degrade.Hold{On: on, Until: until, By: by}, time.Now())
}

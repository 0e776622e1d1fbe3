// Package facts finds out who sends a request: the customer, the user, the region, and the class that the sender claims.
package facts

import (
	"net/netip"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

var (
	refuseAmbiguous = &exchange.Refusal{Stage: "identify", Reason: "ambiguous_fact", Status: 400,
		Detail: "The request says in two ways who sends it."}
	refuseLong = &exchange.Refusal{Stage: "identify", Reason: "long_fact", Status: 400,
		Detail: "What says who sends the request is too long."}
)

// Finder finds the facts of one site. It is never changed and may be used by any goroutine.
type Finder struct {
	customer  source // nil: none
	user      source
	sure      bool // the customer's source cannot be made up by others who know only the name
	region    *regions
	customers map[string]known
	class     classes
	empty     bool  // nothing but Evenkeel-Class is looked for
	uses      []any // what of the store it needs: verifiers, key sets, databases
}

// known is what the site says of one customer.
type known struct {
	class  exchange.Class
	set    bool // class is said
	weight uint16
}

// source is where one fact stands. Its value points into the request, into x.FactBuf or into memory that is never changed; nil:
// the request does not have it.
type source interface {
	find(x *exchange.Exchange) ([]byte, *exchange.Refusal)
}

// Find fills the customer, user, region, claim and weight of x, whose address, trust and path are known. said: the request has
// a field Evenkeel-Class. It allocates nothing and does not wait, except for a token that is seen for the first
// time: a moment for its turn to be checked, and for the key that it names.
func (f *Finder) Find(x *exchange.Exchange, said bool) (refusal *exchange.Refusal) {
	if f.empty {
		if said {
			x.Claim = f.class.claim(x, said)
		}
		return nil
	}
	if f.customer != nil {
		if x.Customer, refusal = f.customer.find(x); refusal != nil {
			return refusal
		}
	}
	if f.user != nil {
		if x.User, refusal = f.user.find(x); refusal != nil {
			return refusal
		}
	}
	if f.region != nil {
		x.Region = f.region.find(x)
	}
	if said || f.class.header.text != "" {
		x.Claim = f.class.claim(x, said)
	}
	if len(f.customers) > 0 && len(x.Customer) > 0 {
		if k, is := f.customers[string(x.Customer)]; is {
			f.know(x, k)
		}
	}
	return nil
}

// know uses what the site says of the customer of x. What a trusted sender claims goes before it, and anybody may claim a lower
// class. A customer whose name anybody can write gets no more than others by it.
func (f *Finder) know(x *exchange.Exchange, k known) {
	sure := f.sure || f.class.mayRaise(x)
	if sure {
		x.Weight = k.weight
	}
	c := &x.Claim
	switch {
	case !k.set || c.Set && !c.Lower:
	case !c.Set:
		*c = exchange.Claim{Class: k.class, Set: true, Lower: !sure}
	default:
		if k.class.Rank() > c.Class.Rank() {
			c.Class = k.class
		}
		c.Lower = !sure
	}
}

// contains reports whether one of list contains a.
func contains(list []netip.Prefix, a netip.Addr) bool {
	for i := range list {
		if list[i].Contains(a) {
			return true
		}
	}
	return false
}

// customersOf makes the table of customers ready.
func customersOf(list []site.Customer) map[string]known {
	t := make(map[string]known, len(list))
	for _, c := range list {
		t[c.ID] = known{class: classNamed(c.Class), set: c.Class != "", weight: uint16(min(max(c.Weight, 1), 1000))}
	}
	return t
}

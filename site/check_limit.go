package site

import (
	"fmt"
	"net/netip"
	"net/textproto"
	"slices"
	"strings"
)

// limitsTogether checks that no more limits meet than can be kept apart.
func (c *checker) limitsTogether() {
	if c.suspect("limits") {
		return
	}
	var headers []string
	for i, l := range c.site.Limits {
		name := textproto.CanonicalMIMEHeaderKey(l.CostHeader)
		if l.Cost != CostHeader || slices.Contains(headers, name) {
			continue
		}
		if headers = append(headers, name); len(headers) > MaxCostHeaders {
			c.wrong(fmt.Sprintf("limits[%d].cost_header", i), "%s is one too many; allowed are %d different ones, here are %s", quote(l.CostHeader), MaxCostHeaders, strings.Join(headers, ", "))
			break
		}
	}
	for _, r := range c.site.Routes {
		all, held := 0, 0
		for i, l := range c.site.Limits {
			if len(l.Routes) > 0 && !slices.Contains(l.Routes, r.Name) {
				continue
			}
			if all++; all > MaxRouteLimits {
				c.wrong(fmt.Sprintf("limits[%d]", i), "is one limit too many for route %s; allowed are %d", r.Name, MaxRouteLimits)
				return
			}
			if !l.Held(r.Name) {
				continue
			}
			if held++; held > MaxHeldLimits {
				c.wrong(fmt.Sprintf("limits[%d]", i), "is one too many for route %s of those with a concurrency, or with a cost that is charged after the answer; allowed are %d", r.Name, MaxHeldLimits)
				return
			}
		}
	}
}

// Held says whether a limit has to do with requests of a route after their answer.
func (l *Limit) Held(route string) bool {
	if l.Cost != CostRequest && l.Cost != "" || l.Concurrency > 0 {
		return true
	}
	return slices.ContainsFunc(l.Overrides, func(o Override) bool {
		switch {
		case o.Concurrency == 0:
			return false
		case len(l.By) == 1 && l.By[0] == ByRoute: // a key that is one route concerns no other
			return o.Key == route
		}
		return true
	})
}

// overrideKey checks that a key is one that requests can have: else the override would never hold, and nobody would be told. seen is
// where the keys above stand, by their plain form.
func (c *checker) overrideKey(key string, by []string, at string, seen map[string]string) {
	if c.suspect(at) || len(by) == 0 {
		return
	}
	parts := strings.SplitN(key, " ", len(by))
	if len(parts) < len(by) {
		c.wrong(at+".key", "%s is no key by %s: it has one part for each, with a blank between", quote(key), strings.Join(by, ", "))
		return
	}
	for i, word := range by {
		plain, why := c.keyPart(parts[i], word)
		if why != "" {
			c.wrong(at+".key", "%s is no key by %s: %s", quote(key), strings.Join(by, ", "), why)
			return
		}
		parts[i] = plain
	}
	plain := strings.Join(parts, " ")
	if first, twice := seen[plain]; twice {
		c.wrong(at+".key", "%s is overridden by %s already", quote(key), first)
		return
	}
	seen[plain] = at
}

// keyPart is the plain form of one part of a key, or why no request has it.
func (c *checker) keyPart(part, word string) (plain, why string) {
	switch word {
	case ByIP:
		return c.keyAddress(part)
	case ByGlobal:
		if part != ByGlobal {
			return "", "all requests together have the key " + ByGlobal
		}
	case ByRoute:
		var names []string
		for _, r := range c.site.Routes {
			if names = append(names, r.Name); r.Name == part {
				return part, ""
			}
		}
		if !c.badInside["routes"] {
			return "", "there is no route " + quote(part) + c.known(part, names, "routes")
		}
	default:
		if part == "" {
			return "", "the " + word + " is empty"
		}
	}
	return part, ""
}

// keyAddress is what an address is counted as: itself, or the network of an IPv6 address.
func (c *checker) keyAddress(part string) (plain, why string) {
	a, err := netip.ParseAddr(part)
	bits := -1
	if err != nil {
		p, err := netip.ParsePrefix(part)
		if err != nil {
			return "", quote(part) + " is no address; write it as 192.0.2.1 or 2001:db8::"
		}
		a, bits = p.Addr(), p.Bits()
	}
	if a.Is4In6() {
		if a = a.Unmap(); bits >= 96 {
			bits -= 96
		}
	}
	counted := a.BitLen()
	if a.Is6() {
		counted = c.site.Identify.IPv6Prefix
	}
	if bits >= 0 && bits != counted {
		return "", quote(part) + " is a network, and addresses are counted one by one (IPv6: by the network of identify.ipv6_prefix bits); give a network a region, and count by that"
	}
	p, err := a.WithZone("").Prefix(counted)
	if err != nil {
		return part, "" // ipv6_prefix is a mistake, and told of
	}
	return p.String(), ""
}

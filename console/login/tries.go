package login

import (
	"net/netip"
	"time"
)

// How often an address may be wrong. A program with an old token that comes every ten seconds is never shut out; somebody who guesses is at
// ten a minute.
const (
	triesAtOnce = 10
	tryEvery    = 6 * time.Second
	maxTriers   = 4096 // addresses that are remembered
)

// tries are wrong tries by address: when all of them will be forgiven.
type tries map[string]time.Time

// place is what counts as one address: of IPv6 its network, since who has one has all of it.
func place(from string) string {
	ip, err := netip.ParseAddr(from)
	if err != nil || ip.Is4() {
		return from
	}
	net, err := ip.Prefix(64)
	if err != nil {
		return from
	}
	return net.String()
}

// blocked is how long an address has to wait until it is looked at; 0: it need not.
func (t tries) blocked(from string, now time.Time) time.Duration {
	free, known := t[place(from)]
	if !known {
		return 0
	}
	return max(0, free.Sub(now)-(triesAtOnce-1)*tryEvery)
}

// add counts a wrong try.
func (t tries) add(from string, now time.Time) {
	key := place(from)
	free, known := t[key]
	if !known && len(t) >= maxTriers {
		for one, at := range t {
			if !at.After(now) {
				delete(t, one)
			}
		}
		for one := range t { // any, and some at once: whoever fills the table does not make each try cost a look through all of it
			if len(t) < maxTriers-maxTriers/8 {
				break
			}
			delete(t, one)
		}
	}
	if free.Before(now) {
		free = now
	}
	t[key] = free.Add(tryEvery)
}

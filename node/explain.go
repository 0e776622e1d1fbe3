package node

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/even-keel/evenkeel/admit/limit"
	"github.com/even-keel/evenkeel/admit/quota"
	"github.com/even-keel/evenkeel/admit/screen"
	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

// explainer is the screening of a site that has rules.
type explainer interface {
	Explain(x *exchange.Exchange) []screen.Explained
}

// Explain says which limits, quotas and own rules that limit a request meets that is only thought of, and what they have left for it. It goes the way of a
// request as far as to its route, and counts nothing.
func (n *Node) Explain(q console.Question) (console.Explanation, error) {
	n.mu.Lock()
	s, chains, limits := n.site, n.chains, n.limited
	n.mu.Unlock()
	name, st, err := listenerOf(s, chains, q.Listener)
	if err != nil {
		return console.Explanation{}, err
	}
	x, err := thought(q, s.Listeners[name])
	if err != nil {
		return console.Explanation{}, err
	}
	e := console.Explanation{Listener: name, Passes: true}
	reached := false
	quiet := &route{table: st.route.table, answer: func(_ *exchange.Exchange, status int, _ []wire.Field, _ []byte) *exchange.Refusal {
		e.Answer = fmt.Sprintf("the route answers it with %d itself", status)
		return nil
	}}
	refusal := exchange.Chain(func(*exchange.Exchange) *exchange.Refusal {
		reached = true
		return nil
	}, st.identify, quiet)(x)
	if refusal != nil {
		e.Answer = fmt.Sprintf("stage %s refuses it with %d: %s", refusal.Stage, refusal.Status, refusal.Reason)
		e.Passes = false
	}
	e.Class, e.IP = x.Class.String(), x.IP.String()
	e.Customer, e.User, e.Region = string(x.Customer), string(x.User), string(x.Region)
	if x.Route != nil {
		e.Route = x.Route.Name
	}
	if !reached {
		return e, nil
	}
	for _, one := range limits.Explain(x) {
		e.Passes = e.Passes && !one.Refuses
		e.Limits = append(e.Limits, shownLimit(one))
	}
	for _, one := range st.quota.Explain(x) {
		shown := shownQuota(one)
		e.Passes = e.Passes && !shown.Refuses
		e.Quotas = append(e.Quotas, shown)
	}
	if rules, is := st.screen.(explainer); is {
		for _, r := range rules.Explain(x) {
			e.Passes = e.Passes && !r.Refuses
			e.Rules = append(e.Rules, console.ExplainedRule{Name: r.Name, By: r.By, Key: r.Key, Applies: r.Applies, Why: r.Why, Refuses: r.Refuses,
				Count: r.Count, Window: r.Window.Seconds(), Left: r.Left, RetryAfter: r.RetryAfter.Seconds(), Blocks: r.Blocks})
		}
	}
	return e, nil
}

func shownLimit(l limit.Explained) console.ExplainedLimit {
	return console.ExplainedLimit{
		Name: l.Name, By: l.By, Key: l.Key, Applies: l.Applies, Why: l.Why, DryRun: l.DryRun, Refuses: l.Refuses, Rate: l.Rate, Burst: l.Burst,
		Left: l.Left, Concurrency: l.Concurrency, InFlight: l.InFlight, Reset: l.Reset.Seconds(), RetryAfter: l.RetryAfter.Seconds(),
	}
}

func shownQuota(q quota.Explained) console.ExplainedQuota {
	return console.ExplainedQuota{
		Name: q.Name, By: q.By, Key: q.Key, Applies: q.Applies, Why: q.Why, DryRun: q.DryRun, Refuses: q.UsedUp && !q.DryRun,
		Period: q.Period, Sliding: q.Sliding, Begins: q.Begins, Calls: q.Calls, UsedCalls: q.UsedCalls, LeftCalls: q.LeftCalls,
		Bytes: q.Bytes, UsedBytes: q.UsedBytes, LeftBytes: q.LeftBytes, Reset: q.Reset.Seconds(), RetryAfter: q.RetryAfter.Seconds(),
	}
}

// listenerOf finds the listener that a question is about: the named one, or the first that speaks HTTP.
func listenerOf(s *site.Site, chains map[string]*stages, name string) (string, *stages, error) {
	var all []string
	for _, one := range slices.Sorted(maps.Keys(s.Listeners)) {
		if s.Listeners[one].Protocol == site.ProtocolHTTP && chains[one] != nil {
			all = append(all, one)
		}
	}
	switch {
	case len(chains) == 0:
		return "", nil, errNotServing
	case len(all) == 0:
		return "", nil, errors.New("no listener speaks http, and limits and quotas hold for requests only")
	case name == "":
		return all[0], chains[all[0]], nil
	case !slices.Contains(all, name):
		return "", nil, fmt.Errorf("there is no http listener %q; there is %s", name, strings.Join(all, ", "))
	}
	return name, chains[name], nil
}

// maxThoughtFields is what a listener takes that says nothing else.
const maxThoughtFields = 100

// thought makes the exchange of a request that nobody sent.
func thought(q console.Question, l *site.Listener) (*exchange.Exchange, error) {
	if !strings.HasPrefix(q.Path, "/") {
		return nil, fmt.Errorf("the path %q does not begin with /", q.Path)
	}
	if strings.ContainsAny(q.Method+q.Path+q.Host+strings.Join(q.Headers, ""), "\r\n") {
		return nil, errors.New("method, path, host or a header holds more than one line")
	}
	method := q.Method
	if method == "" {
		method = "GET"
	}
	ip := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if q.IP != "" {
		var err error
		if ip, err = netip.ParseAddr(q.IP); err != nil {
			return nil, fmt.Errorf("%q is not an IP address", q.IP)
		}
	}
	host := q.Host
	if host == "" {
		host = "localhost"
	}
	head := method + " " + q.Path + " HTTP/1.1\r\nHost: " + host + "\r\n"
	for _, h := range q.Headers {
		name, value, ok := strings.Cut(h, ":")
		if !ok || strings.EqualFold(strings.TrimSpace(name), "Host") {
			return nil, fmt.Errorf("the header %q is not of the form Name: value; the host has a place of its own", h)
		}
		head += strings.TrimSpace(name) + ": " + strings.TrimSpace(value) + "\r\n"
	}
	head += "\r\n"
	r := new(wire.Request)
	n, err := r.Parse([]byte(head), wire.Limits{HeadBytes: int(cmp.Or(l.Limits.HeaderBytes, 16<<10)), Fields: cmp.Or(l.Limits.Headers, maxThoughtFields)})
	switch {
	case err != nil:
		return nil, fmt.Errorf("the listener would not take such a request: %w", err)
	case n != len(head):
		return nil, errors.New("the listener would not take such a request")
	}
	return &exchange.Exchange{Listener: l, Request: r, Start: time.Now(), Client: netip.AddrPortFrom(ip, 1), Secure: l.TLS != nil}, nil
}

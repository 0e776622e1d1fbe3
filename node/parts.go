package node

import (
	"context"
	"net"
	"os"
	"time"

	"github.com/even-keel/evenkeel/admit/screen"
	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/pool"
	"github.com/even-keel/evenkeel/probe"
	"github.com/even-keel/evenkeel/proxy"
	"github.com/even-keel/evenkeel/site"
)

// poolPart is a pool as the node runs it. Tests put a pool without sockets here.
type poolPart interface {
	exchange.Picker
	Run(ctx context.Context) error
	Update(cfg *site.Pool) error
	SetState(address, state string) error
	Ready() bool
	view() console.Pool
}

// frontPart is the proxy as the node runs it.
type frontPart interface {
	Update(listeners map[string]*site.Listener, handlers func() (map[string]exchange.Handler, error)) error
	Run(ctx context.Context) error
	Drain(ctx context.Context) error
	Files() (map[string][]*os.File, error)
	Addr(name string) net.Addr
	views() map[string]console.Listener // by name: what the listeners themselves know
}

// runningPool is a pool with the task that runs it.
type runningPool struct {
	poolPart
	task *task
}

// wire sets the real parts in: the proxy, the prober, and pools that use both.
func (n *Node) wire() {
	front := proxy.New(proxy.Deps{Log: n.log, Inherited: n.opts.Sockets.Listeners})
	prober := probe.New(n.log)
	n.front, n.prober = &realFront{front}, prober.Run
	n.send, n.answer = proxy.Send, proxy.Answer
	n.guard.softener = front
	n.cache = n.newCache(n.opts.Site.Cache)
	n.screen = screen.New(screen.Deps{
		Peek: proxy.Peek, Overloaded: overloaded, Log: n.log, BodyMemory: max(memoryLimit()/screenShare, replayMemory),
		Event: func(text string) { n.events.add(time.Now(), "screen", text) },
	})
	n.newPool = func(cfg *site.Pool) (poolPart, error) {
		up, err := front.Upstream(cfg)
		if err != nil {
			return nil, err
		}
		p, err := pool.New(cfg, pool.Deps{
			Zone: n.opts.Site.Zone, Concurrency: func() int { return n.foundBy(cfg.Name) }, Prober: prober, ProbeTLS: proxy.EndpointTLS,
			Attach: up.Attach, Detach: up.Detach, Log: n.log,
			Event: func(kind, text string) { n.poolEvent(cfg.Name, kind, text) },
		})
		if err != nil {
			up.Close()
			return nil, err
		}
		return &realPool{p, up}, nil
	}
}

// screenShare is which part of the memory bodies beyond 16 KiB may hold that are screened: beside the half for requests and what connections take.
const screenShare = 8

// realPool is a pool and the connections to its endpoints.
type realPool struct {
	*pool.Pool
	up *proxy.Upstream
}

// Run runs the pool, and closes the connections to its endpoints when it ends.
func (p *realPool) Run(ctx context.Context) error {
	defer p.up.Close()
	return p.Pool.Run(ctx)
}

// Shared reports whether a connection to an endpoint carries many exchanges.
func (p *realPool) Shared() bool { return p.up.Shared() }

// Update changes how endpoints are spoken to and then which ones there are.
func (p *realPool) Update(cfg *site.Pool) error {
	if err := p.up.Update(cfg); err != nil {
		return err
	}
	return p.Pool.Update(cfg)
}

func (p *realPool) view() console.Pool {
	s := p.Status()
	v := console.Pool{Name: s.Pool, Method: s.Method, HealthyShare: s.HealthyShare, Panic: s.Panic, SpillRefused: uint64(s.Spilt)}
	if s.Membership.Held {
		v.Held = s.Membership.Reason
	}
	for _, e := range s.Endpoints {
		one := console.Endpoint{
			Address: e.Address, Zone: e.Zone, Priority: e.Priority, Weight: e.Weight, EffectiveWeight: e.EffectiveWeight,
			State: shownState(e), Admin: e.Admin, Why: e.Why, Since: e.Since, InFlight: e.InFlight,
			Picks: uint64(max(e.Picks, 0)), Failures: uint64(max(e.Failures, 0)), EWMAMS: e.EWMA,
			Breaker: e.Breaker, BreakerByHand: e.BreakerByHand, Ejections: uint64(max(e.Ejected, 0)),
		}
		for _, h := range e.Verdicts {
			one.History = append(one.History, console.Verdict{At: h.At, Healthy: h.Healthy, Void: h.Void, Reason: h.Reason, TookMS: h.Took})
		}
		v.Endpoints = append(v.Endpoints, one)
	}
	return v
}

// shownState is an endpoint's state in the words of the console.
func shownState(e pool.EndpointStatus) string {
	switch {
	case e.State == pool.StateDrain || e.Leaving:
		return console.StateDraining
	case e.State == pool.StateSlowStart:
		return console.StateSlow
	case e.State == pool.StateDown && e.Admin != pool.StateDown:
		return console.StateSick
	}
	return e.State
}

// realFront is the proxy.
type realFront struct{ *proxy.Proxy }

func (f *realFront) views() map[string]console.Listener {
	out := map[string]console.Listener{}
	for _, l := range f.Status().Listeners {
		if l.Address == "" && out[l.Name].Address != "" {
			continue // what is left of one that was removed; its successor counts
		}
		v := console.Listener{Address: l.Address, Open: l.Open, Accepted: uint64(max(l.Accepted, 0)), Refused: map[string]uint64{},
			BytesIn: uint64(max(l.BytesIn, 0)), BytesOut: uint64(max(l.BytesOut, 0))}
		for reason, count := range l.Refused {
			v.Refused[reason] = uint64(max(count, 0))
		}
		for _, c := range l.Certificates {
			v.Certificates = append(v.Certificates, console.Certificate{Hosts: c.Names, NotAfter: c.Expires})
		}
		out[l.Name] = v
	}
	return out
}

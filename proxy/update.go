package proxy

import (
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// change is what an Update is about to do, so that it can be given up before anything was touched.
type change struct {
	opened map[string]*socket    // by listener name: new, moved or adopted sockets
	fresh  []*socket             // those of opened that this change made, closed when it is given up
	adopt  map[*inherited]string // inherited sockets that will be used, by listener name
	tls    map[string]*tlsState
}

// Update opens new listeners, closes those that are gone and swaps the configuration and handlers of the
// rest, whose connections and counters stay. It is all or nothing: when a listener cannot be opened or a
// certificate cannot be read, the error says which and nothing has changed. The handlers are asked for when all that is there, so that
// whoever makes them need not be able to undo it; their error is the last that can be. While they are made p is locked, and must not be called.
// Update may be called before Run; the sockets are then open but not yet served.
func (p *Proxy) Update(listeners map[string]*site.Listener, handlers func() (map[string]exchange.Handler, error)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == stopped || p.draining.Load() {
		return errStopped
	}
	ch, err := p.prepare(listeners)
	var made map[string]exchange.Handler
	if err == nil {
		made, err = handlers()
	}
	if err == nil {
		err = complete(listeners, made)
	}
	if err != nil {
		for _, s := range ch.fresh {
			s.close()
		}
		return err
	}
	p.commit(ch, listeners, made)
	return nil
}

// complete says which listener has no handler.
func complete(listeners map[string]*site.Listener, handlers map[string]exchange.Handler) error {
	for name := range listeners {
		if handlers[name] == nil {
			return fmt.Errorf("listener %s has no handler", name)
		}
	}
	return nil
}

// prepare opens and reads whatever the new configuration needs.
func (p *Proxy) prepare(listeners map[string]*site.Listener) (*change, error) {
	ch := &change{opened: map[string]*socket{}, adopt: map[*inherited]string{}, tls: map[string]*tlsState{}}
	for name, cfg := range listeners {
		old := p.listeners[name]
		if cfg.TLS != nil {
			var before *tlsState
			if old != nil {
				before = old.tls.Load()
			}
			t, err := newTLSState(cfg, before)
			if err != nil {
				return ch, fmt.Errorf("listener %s cannot serve tls: %w", name, err)
			}
			ch.tls[name] = t
		}
		if s := p.socketOf(old); s != nil && s.is(cfg) {
			continue
		}
		if s := p.movable(cfg, listeners); s != nil {
			ch.opened[name] = s
			continue
		}
		if i := p.inheritedFor(name, cfg, listeners, ch); i != nil {
			ch.adopt[i] = name
			continue
		}
		s, err := openSocket(p, cfg)
		if err != nil {
			return ch, err
		}
		ch.opened[name], ch.fresh = s, append(ch.fresh, s)
	}
	return ch, nil
}

// socketOf is the open socket of l, or nil.
func (p *Proxy) socketOf(l *listener) *socket {
	for _, s := range p.sockets {
		if l != nil && s.owner.Load() == l {
			return s
		}
	}
	return nil
}

// movable finds an open socket with the address of cfg that its present owner will not keep.
func (p *Proxy) movable(cfg *site.Listener, listeners map[string]*site.Listener) *socket {
	for _, s := range p.sockets {
		next := listeners[s.owner.Load().name]
		if s.is(cfg) && (next == nil || !s.is(next)) {
			return s
		}
	}
	return nil
}

// inheritedFor finds an inherited socket for a listener: by name first, then by address among those whose
// name no listener has.
func (p *Proxy) inheritedFor(name string, cfg *site.Listener, listeners map[string]*site.Listener, ch *change) *inherited {
	for _, byName := range []bool{true, false} {
		for n := range p.inherited {
			i := &p.inherited[n]
			if _, taken := ch.adopt[i]; taken || !i.fits(cfg) {
				continue
			}
			if byName && i.name == name || !byName && listeners[i.name] == nil {
				return i
			}
		}
	}
	return nil
}

// commit does what prepare made ready. Nothing in it can fail.
func (p *Proxy) commit(ch *change, listeners map[string]*site.Listener, handlers map[string]exchange.Handler) {
	for i, name := range ch.adopt {
		ch.opened[name] = i.socket(p, listeners[name])
		i.tcp, i.udp, i.file = nil, nil, nil
	}
	for n := range p.inherited {
		p.inherited[n].close() // an address that the site does not serve
	}
	p.inherited = nil
	for name, cfg := range listeners {
		l := p.listeners[name]
		if l == nil {
			l = p.listenerNamed(name)
			p.listeners[name] = l
		}
		h := handlers[name]
		l.tls.Store(ch.tls[name])
		l.handler.Store(&h)
		l.cfg.Store(cfg)
	}
	p.leaveOut(ch, listeners)
	for name, s := range ch.opened {
		s.owner.Store(p.listeners[name])
		if !slices.Contains(p.sockets, s) {
			p.sockets = append(p.sockets, s)
		}
		if p.state == running && !s.started {
			p.start(s)
		}
	}
}

// listenerNamed is a new listener, or one of that name that was removed and still has connections.
func (p *Proxy) listenerNamed(name string) *listener {
	for i, l := range p.retired {
		if l.name == name {
			p.retired = slices.Delete(p.retired, i, i+1)
			l.leaving.Store(0)
			l.draining.Store(false)
			return l
		}
	}
	return &listener{proxy: p, name: name}
}

// leaveOut retires listeners that are gone and sockets that nobody keeps.
func (p *Proxy) leaveOut(ch *change, listeners map[string]*site.Listener) {
	now := time.Now()
	for name, l := range p.listeners {
		if listeners[name] == nil {
			l.leave(now)
			p.retired = append(p.retired, l)
			delete(p.listeners, name)
		}
	}
	moved := map[*socket]bool{}
	for _, s := range ch.opened {
		moved[s] = true
	}
	p.sockets = slices.DeleteFunc(p.sockets, func(s *socket) bool {
		next := listeners[s.owner.Load().name]
		if moved[s] || next != nil && s.is(next) {
			return false
		}
		p.retireSocket(s, false)
		return true
	})
}

// retireSocket ends accepting on s. In a drain udp sessions may go on; else the address must be free
// at once, since the next reload may bring it back. p.mu is held.
func (p *Proxy) retireSocket(s *socket, drain bool) {
	if s.started && (drain || s.udp == nil) {
		s.retire()
		return
	}
	s.close()
}

// Files returns duplicates of all listening sockets for a successor, by listener name. The caller closes
// them. From then on Drain leaves new udp clients to the successor.
func (p *Proxy) Files() (map[string][]*os.File, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	files := map[string][]*os.File{}
	for _, s := range p.sockets {
		f, err := s.file()
		if err != nil {
			for _, list := range files {
				for _, f := range list {
					f.Close()
				}
			}
			return nil, fmt.Errorf("listening socket cannot be handed on: %w", err)
		}
		name := s.owner.Load().name
		files[name] = append(files[name], f)
	}
	p.handed.Store(true)
	return files, nil
}

// Addr is where a listener listens, with the port that was chosen for :0. It is nil when there is none.
func (p *Proxy) Addr(name string) net.Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.socketOf(p.listeners[name]); s != nil {
		return s.addr()
	}
	return nil
}

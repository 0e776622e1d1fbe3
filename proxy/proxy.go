// Package proxy moves bytes between clients and endpoints: listeners, the HTTP/1.1 and HTTP/2 engines, tcp and udp relays, and connections to endpoints.
package proxy

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// Deps is what a Proxy needs of its surroundings. The zero value works.
type Deps struct {
	Log *slog.Logger // nil: slog.Default()
	// Inherited are listening sockets from a predecessor or from systemd, by listener name. A socket whose
	// name no listener has is matched by its address. The Proxy closes the files.
	Inherited map[string][]*os.File
}

// Proxy is the set of listeners of a node. Its methods may be called by any goroutine, Run once.
type Proxy struct {
	sweep *sweeper
	engine
	h2      h2Shared
	log     *slog.Logger
	room    *room
	clients registry
	spare   spareFD
	buffers sync.Pool // *[relayBuffer]byte
	relays  sync.Pool // *relayRun
	runs    sync.Pool // *tcpRun
	pipes   pipePool
	crew    crew

	soft       atomic.Pointer[softening] // nil: nothing was ever asked
	softClosed atomic.Int64              // HTTP/2 connections that were told to go since Soften last looked

	draining  atomic.Bool
	accepting atomic.Int64 // accept loops: a retired one goes on for a moment, and what it takes is work too
	handed    atomic.Bool  // a successor has the sockets too
	panics    atomic.Int64

	mu        sync.Mutex // guards what follows; never held on the way of a connection
	listeners map[string]*listener
	retired   []*listener // removed from the site, connections may still be open
	sockets   []*socket
	inherited []inherited
	state     runState
	work      sync.WaitGroup // accept loops and connections; Run holds one until it stops
}

type runState uint8

const (
	built runState = iota
	running
	stopped
)

var (
	errRunTwice = errors.New("proxy: run was called twice")
	errStopped  = errors.New("proxy: it has stopped or is about to")
)

// housekeeping is how often certificate files are looked at and idle connections of leaving listeners
// are closed. A certificate change is seen within about this time.
const housekeeping = time.Second

// New makes a Proxy without listeners. It opens and starts nothing.
func New(deps Deps) *Proxy {
	p := &Proxy{sweep: newSweeper(), log: deps.Log, room: newRoom(), listeners: map[string]*listener{}}
	if p.log == nil {
		p.log = slog.Default()
	}
	p.engine.init()
	p.buffers.New = func() any { return new([relayBuffer]byte) }
	p.runs.New = func() any { return new(tcpRun) }
	p.relays.New = func() any { return newRelayRun(p) }
	p.inherited = adoptable(deps.Inherited, p.log)
	return p
}

// Run accepts and serves connections until ctx ends; it then closes what is open and returns when
// the last goroutine has ended. Call Drain before, so that work can finish.
func (p *Proxy) Run(ctx context.Context) error {
	p.mu.Lock()
	if p.state != built {
		p.mu.Unlock()
		return errRunTwice
	}
	p.state = running
	p.work.Add(1)
	p.spare.fill()
	for _, s := range p.sockets {
		p.start(s)
	}
	p.mu.Unlock()

	inner, stop := context.WithCancel(context.Background())
	var house sync.WaitGroup
	house.Go(func() { p.sweep.run(inner) })
	house.Go(func() { p.keepHouse(inner) })
	house.Go(func() { p.upstreams.run(inner, p.sweep) })
	<-ctx.Done()
	p.shut()
	stop()
	house.Wait()
	p.h2.close()
	p.spare.empty()
	p.pipes.empty()
	p.crew.dismiss()
	return nil
}

// panicked counts and logs a panic that was recovered from.
func (p *Proxy) panicked(what string, v any, facts ...any) {
	p.panics.Add(1)
	p.log.Error(what, append(facts, slog.Any("panic", v), slog.String("stack", string(debug.Stack())))...)
}

// start begins to serve a socket. p.mu is held and the state is running.
func (p *Proxy) start(s *socket) {
	s.started = true
	if s.udp == nil {
		p.accepting.Add(1)
	}
	p.work.Go(func() {
		if s.udp != nil {
			s.receive()
			return
		}
		defer p.accepting.Add(-1)
		s.accept()
	})
}

// shut closes every socket and connection and waits for their goroutines.
func (p *Proxy) shut() {
	p.mu.Lock()
	p.state = stopped
	for _, s := range p.sockets {
		s.close()
	}
	for n := range p.inherited {
		p.inherited[n].close()
	}
	p.sockets, p.inherited = nil, nil
	p.mu.Unlock()

	done := make(chan struct{})
	go func() {
		p.work.Done()
		p.work.Wait()
		close(done)
	}()
	// Cutting is repeated: an engine may set a new deadline after the first cut, or a connection may have been
	// accepted just before its socket was closed.
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for {
		p.cut()
		select {
		case <-done:
			return
		case <-t.C:
		}
	}
}

// keepHouse does what is done now and then.
func (p *Proxy) keepHouse(ctx context.Context) {
	t := time.NewTicker(housekeeping)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			p.refreshTLS(now)
			p.closeIdle(now)
		}
	}
}

package proxy

import (
	"errors"
	"syscall"
	"testing"
	"time"
)

// A fault on a goroutine that many share, or that no connection owns, costs what it was at work for and nothing else.

func TestPanicOnAFerry(t *testing.T) {
	p := New(Deps{Log: quiet()})
	s := &passage{proxy: p, wake: make(chan struct{}, 1)}
	if over := s.event(nil, &syscall.EpollEvent{}); !over { // there is no ferry, whose buffer it needs
		t.Error("the session goes on")
	}
	select {
	case <-s.wake:
	default:
		t.Error("the session's goroutine was not woken")
	}
	if s.err != errFerry || p.Status().Panics != 1 || !s.mu.TryLock() {
		t.Errorf("error %v, %d panics", s.err, p.Status().Panics)
	}
}

// faultyFront panics at every call, and cancelled is a back that only can be cancelled.
type (
	faultyFront struct{ front }
	cancelled   struct {
		back
		done chan struct{}
	}
)

func (c cancelled) cancel() { close(c.done) }

func TestPanicOfAPump(t *testing.T) {
	p := New(Deps{Log: quiet()})
	b := cancelled{done: make(chan struct{})}
	pump := startPump(faultyFront{}, b, 0, p)
	select {
	case <-b.done:
	case <-time.After(patience):
		t.Fatal("the endpoint's side was not cancelled")
	}
	if _, err := pump.wait(); !errors.Is(err, errPump) || p.Status().Panics != 1 {
		t.Errorf("error %v, %d panics", err, p.Status().Panics)
	}
}

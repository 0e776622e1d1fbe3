package exchange

import (
	"sync"
	"sync/atomic"
	"testing"
)

func TestStrays(t *testing.T) {
	var strays atomic.Int64
	e := Endpoint{Strays: &strays}
	e.Tick()
	var list [5]Exchange
	e.Await(&list[0])
	for range 2 * BeatsKept { // it waits for longer than beats are told apart
		e.Tick()
	}
	e.Await(&list[1])
	e.Tick()
	e.Await(&list[2])
	e.Await(&list[3])
	e.Heard(&list[3])
	e.Strand()
	e.Await(&list[4])
	if n := strays.Load(); n != 3 {
		t.Fatalf("%d strays, want the 3 that waited as the endpoint left", n)
	}
	for range 2 * BeatsKept {
		e.Tick()
	}
	if n := e.Overdue(BeatsKept); n != 1 {
		t.Errorf("%d wait for long, want 1: strays are no sign against an endpoint that is back", n)
	}
	for i, want := range []bool{true, true, true, false, false} {
		e.Heard(&list[i])
		e.Heard(&list[i]) // changes nothing
		if list[i].Stray != want {
			t.Errorf("exchange %d: stray is %v", i, list[i].Stray)
		}
	}
	if n, m := strays.Load(), e.Overdue(0); n != 0 || m != 0 {
		t.Errorf("%d strays and %d that wait when all were heard", n, m)
	}
	if e.Await(&list[0]); list[0].Stray {
		t.Error("who tries again is a stray still")
	}
	list[0].Stray = true // at another endpoint, beside which this one was asked
	if e.Heard(&list[0]); list[0].Stray {
		t.Error("who is answered here is a stray of elsewhere")
	}
}

// What is counted wrong because it comes just as the endpoint leaves is made up for.
func TestStraysAtOnce(t *testing.T) {
	var strays atomic.Int64
	e := Endpoint{Strays: &strays}
	e.Tick()
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for x := new(Exchange); !stop.Load(); {
				e.Await(x)
				e.Heard(x)
			}
		})
	}
	for range BeatsKept / 2 {
		for range 1000 {
			e.Overdue(0)
		}
		e.Strand()
	}
	stop.Store(true)
	wg.Wait()
	for range BeatsKept + 1 {
		e.Tick()
	}
	if n, m := strays.Load(), e.Overdue(0); n != 0 || m != 0 {
		t.Errorf("%d strays and %d that wait, and nobody is there", n, m)
	}
}

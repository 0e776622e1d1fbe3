package breaker_test

import (
	"fmt"
	"time"

	"github.com/even-keel/evenkeel/contain/breaker"
)

func Example() {
	now := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	b := breaker.New(breaker.Config{Row: 3, OpenFor: time.Second, Trials: 1}, breaker.Deps{}, now)
	call := func(err error) {
		ticket, ok := b.Allow(now, 0)
		if !ok {
			fmt.Println("not asked; wait", b.Wait(now))
			return
		}
		r := breaker.Result{Outcome: breaker.Success}
		if err != nil {
			r.Outcome = breaker.Failure
		}
		b.Done(ticket, now, r)
	}
	down := fmt.Errorf("connection refused")
	for range 4 {
		call(down)
	}
	fmt.Println(b.Why(now))
	now = now.Add(time.Second)
	call(nil)
	fmt.Println(b.Why(now))
	// Output:
	// not asked; wait 1s
	// open: 3 failures in a row; a trial in 1s
	// closed: 1 trial went well
}

package cache

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

// post sends a request to change what GET brings; during runs when the head of its answer has come, and its body has not.
func (c *crowd) post(status int, during func()) {
	r := &wire.Request{Method: []byte("POST"), Target: []byte("/x"), Host: []byte("a"), ContentLength: -1}
	x := &exchange.Exchange{Request: r, Host: r.Host, Route: &exchange.Route{Name: "all"}}
	c.stage.Serve(x, exchange.Then(func(x *exchange.Exchange) *exchange.Refusal {
		x.Tap.Head(x, status, nil, 0)
		during()
		return nil
	}))
}

// What was asked before a change may bring what was there before it: it is for those who asked then.
func TestNothingFromBeforeAChangeIsKept(t *testing.T) {
	const both, one = "2 [{200 }:2 {203 }:1] [{200 }:2] [{200 }:1] 2", "1 [{203 }:3] [{203 }:2] [{203 }:1] 1"
	fresh := "Cache-Control: max-age=60"
	for _, change := range []struct {
		name, want string
		do         func(c *crowd)
	}{
		{"a change", both, func(c *crowd) { c.post(200, func() {}) }},
		{"a purge", both, func(c *crowd) { c.c.Purge("", "http://a/") }},
		{"a change that was refused", one, func(c *crowd) { c.post(404, func() {}) }},
	} {
		t.Run(change.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCrowd(t, 5*time.Second)
				before := c.send(3)
				change.do(c)
				after := c.send(2)
				asked := c.asked.Load()
				c.answer <- c.reply(203, "old", fresh)
				synctest.Wait()
				if change.want == both {
					c.answer <- c.reply(200, "new", fresh)
				}
				got := fmt.Sprint(asked, " ", count(t, before), " ", count(t, after))
				if got += fmt.Sprint(" ", count(t, c.send(1)), " ", c.asked.Load()); got != change.want {
					t.Errorf("%s, want %s", got, change.want)
				}
			})
		})
	}
}

// Nor is a stored answer made fresh again by a 304 from before the change.
func TestNothingIsRenewedFromBeforeAChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 5*time.Second)
		first := c.send(1)
		c.answer <- c.reply(200, "old", "Cache-Control: max-age=1", `ETag: "1"`)
		count(t, first)
		<-time.After(2 * time.Second)
		second := c.send(1)
		c.post(200, func() {})
		c.answer <- c.reply(304, "", "Cache-Control: max-age=60", `ETag: "1"`)
		if got := count(t, second); got != "[{200 }:1]" || c.c.store.entries.Load() != 0 {
			t.Errorf("%s, %d stored", got, c.c.store.entries.Load())
		}
	})
}

func TestAChangeIsKnownWhenItsAnswerBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 5*time.Second)
		first := c.send(1)
		c.answer <- c.reply(200, "old", "Cache-Control: max-age=60")
		count(t, first)
		c.post(200, func() {
			if n := c.c.store.entries.Load(); n != 0 {
				t.Errorf("%d answers are stored after the change", n)
			}
		})
	})
}

// Who waits for another while a reload leads the route elsewhere asks where it led before: that answer is for the one who asked.
func TestNothingIsKeptByRulesOfBeforeAReload(t *testing.T) {
	for _, reload := range []struct {
		name string
		do   func(c *crowd)
	}{
		{"changed", func(c *crowd) {
			c.c.Stage([]*Policy{{RouteCache: c.policy, Route: "all", Print: 7}})
			c.c.Purge("all", "")
		}},
		{"gone", func(c *crowd) { c.c.Keep(func(string) bool { return false }) }},
	} {
		t.Run(reload.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCrowd(t, 5*time.Second)
				first := c.send(1)
				second := c.send(1)
				reload.do(c)
				c.answer <- c.reply(500, "")
				c.answer <- c.reply(200, "old", "Cache-Control: max-age=60")
				got := count(t, first) + count(t, second)
				if got != "[{500 }:1][{200 }:1]" || c.c.store.entries.Load() != 0 {
					t.Errorf("%s, %d stored", got, c.c.store.entries.Load())
				}
			})
		})
	}
}

//go:build !race

package cache

import (
	"testing"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

// hot is a stage with one answer in memory, and a request for it.
func hot(t testing.TB) (*Stage, *exchange.Exchange, *exchange.Next) {
	s := newStand(t)
	s.do("endpoint 200 body=hello | Cache-Control: max-age=60 | ETag: \"1\" | Content-Type: text/html | Server: test | Vary: Accept-Encoding")
	s.do("GET /x | Accept-Encoding: gzip")
	s.c.deps.Answer = func(x *exchange.Exchange, status int, fields []wire.Field, body []byte) *exchange.Refusal {
		x.Outcome.Status = status
		return nil
	}
	r := &wire.Request{Method: []byte("GET"), Target: []byte("/x"), Host: []byte("shop.example"), ContentLength: -1,
		Fields: s.fields([]string{"Host: shop.example", "User-Agent: test", "Accept: */*", "Accept-Encoding: gzip"})}
	x := &exchange.Exchange{Request: r, Host: r.Host, Route: &exchange.Route{Name: "all"}}
	return s.stage, x, s.next
}

func TestHitsAllocateNothing(t *testing.T) {
	stage, x, next := hot(t)
	for name, index := range map[string]int{"hit": 0, "route without a cache": 1} {
		x.Route.Index = index
		after := next
		if index == 1 {
			after = exchange.Then(func(x *exchange.Exchange) *exchange.Refusal { x.Outcome.Status = 200; return nil })
		}
		if n := testing.AllocsPerRun(500, func() { stage.Serve(x, after) }); n != 0 || x.Outcome.Status != 200 {
			t.Errorf("%s: %v allocations, status %d", name, n, x.Outcome.Status)
		}
	}
}

func BenchmarkHit(b *testing.B) {
	stage, x, next := hot(b)
	b.ReportAllocs()
	for b.Loop() {
		stage.Serve(x, next)
	}
}

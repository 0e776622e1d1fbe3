//go:build !race

package screen

import (
	"strings"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// TestScreenAlloc: rules and cheap checks allocate nothing; libinjection does, for arguments that are more than words.
func TestScreenAlloc(t *testing.T) {
	cfg := screened(func(s *site.Screen) { s.Sample = 0 })
	cfg.Rules = []*site.Rule{
		{Name: "a", Paths: []string{"/x/*"}, Query: "debug", UserAgent: "curl", Action: actionBlock},
		{Name: "b", Headers: map[string]string{"Accept": "^text/"}, Action: actionBlock},
		{Name: "c", PathMatch: "^/a", Action: actionLimit, Count: 1 << 20, Window: time.Minute},
	}
	w := newWorld(t, cfg)
	next := exchange.Then(func(*exchange.Exchange) *exchange.Refusal { return nil })
	for _, head := range []string{proper, strings.Replace(proper, "/a?", "/x/%41//b?", 1)} {
		x := asked(t, strings.Replace(head, "hello+world", "hello", 1))
		if n := testing.AllocsPerRun(100, func() { w.stage.Serve(x, next) }); n != 0 {
			t.Errorf("%v allocations for %.30q", n, head)
		}
	}
}

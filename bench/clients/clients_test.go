package clients

import (
	"testing"
	"testing/synctest"
	"time"
	"fmt"
)

func TestProto(t *testing.T) {
	for _, k := range kinds {
		synctest.Test(t, func(t *testing.T) {
			p := plan{Clients: 1000, Workers: 20, Work: 100 * time.Millisecond, Load: .7, Spike: 5, Warm: 60 * time.Second, SpikeFor: 10 * time.Second, After: 120 * time.Second, Seed: 1}
			s := newService(p.Workers, p.Work)
			r := p.drive(t.Context(), k, s, s, "http://shop.example/")
			took, ok := r.recovery()
			line := fmt.Sprintf("%-14s", k.name)
			for at := time.Duration(50*time.Second); at < 190*time.Second; at += 5*time.Second {
				w := r.between(at, at+5*time.Second)
				line += fmt.Sprintf(" %d/%d/%d", w.sent/5, w.good/5, w.attempts/5)
			}
			w := r.between(0, time.Hour)
			fmt.Println(line)
			fmt.Println(k.name, "amp", float64(w.attempts)/float64(w.sent), "recovery", took, ok)
		})
	}
}

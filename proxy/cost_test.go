package proxy

import (
	"testing"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

func TestTakeCost(t *testing.T) {
	names := []string{"X-Cost", "X-Rows"}
	for value, want := range map[string]float64{
		"7": 7, "0": 0, "2.5": 2.5, "": -1, "-1": -1, "x": -1, "NaN": -1, "Inf": -1, "1e13": -1, "1e12": 1e12,
		"0000000000000000000000000000000000001": -1,
	} {
		x := new(exchange.Exchange)
		if !takeCost(x, names, &wire.Field{Name: []byte("x-rows"), Value: []byte(value)}) {
			t.Fatal("the field goes to the client")
		}
		if got := x.Costs[1].Or(-1); got != want {
			t.Errorf("%q is a cost of %v, want %v (-1: none)", value, got, want)
		}
		if got := x.Costs[0].Or(-1); got != -1 {
			t.Errorf("the other field told %v", got)
		}
	}
	x := new(exchange.Exchange)
	if takeCost(x, names, &wire.Field{Name: []byte("X-Costs"), Value: []byte("1")}) {
		t.Error("a field of another name is kept from the client")
	}
	f := wire.Field{Name: []byte("X-Cost"), Value: []byte("12.25")}
	if n := testing.AllocsPerRun(100, func() { takeCost(x, names, &f) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

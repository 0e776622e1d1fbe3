package screen

import (
	"fmt"
	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"
)

func mk(raw string) *exchange.Exchange {
	r := new(wire.Request)
	raw = strings.ReplaceAll(raw, "\n", "\r\n") + "\r\n\r\n"
	if _, err := r.Parse([]byte(raw), wire.Limits{HeadBytes: 16 << 10, Fields: 100}); err != nil {
		panic(err)
	}
	x := &exchange.Exchange{Request: r, Route: &exchange.Route{Name: "a"}, RequestID: []byte("abc"), IP: netip.MustParseAddr("192.0.2.1"), Host: r.Host}
	x.Path, _, _ = cut(r.Target)
	return x
}
func cut(b []byte) ([]byte, []byte, bool) {
	for i, c := range b {
		if c == '?' {
			return b[:i], b[i+1:], true
		}
	}
	return b, nil, false
}
func TestTry(t *testing.T) {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	a := m.HeapAlloc
	e, err := newEngine(setup{1, 5, 16 << 10, "", ""})
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&m)
	fmt.Println(e.rules, e.took, (m.HeapAlloc-a)>>10, "KiB")
	_ = site.Screen{}
	js := `{"user":"anna","items":[` + strings.Repeat(`{"id":123,"name":"green tea","price":4.5},`, 22) + `{"id":1}]}`
	hd := "\nHost: shop.example\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0\nAccept: */*"
	for _, c := range []struct{ n, h, b string }{
		{"bare", "GET / HTTP/1.1" + hd, ""},
		{"args", "GET /a?x=hello+world&page=2&sort=name.desc HTTP/1.1" + hd, ""},
		{"json", "POST /a HTTP/1.1" + hd + "\nContent-Type: application/json\nContent-Length: " + fmt.Sprint(len(js)), js},
		{"sqli", "GET /a?x=1'+or+1=1+--+- HTTP/1.1" + hd, ""},
	} {
		x := mk(c.h)
		for range 5 {
			e.run(x, []byte(c.b), true)
		}
		n, start := 0, time.Now()
		for time.Since(start) < time.Second {
			e.run(x, []byte(c.b), true)
			n++
		}
		v, f := e.run(x, []byte(c.b), true)
		fmt.Println(c.n, time.Since(start)/time.Duration(n), v.attack, v.rules[:v.n], f, testing.AllocsPerRun(10, func() { e.run(x, []byte(c.b), true) }))
	}
}
func BenchmarkJSON(b *testing.B) {
	e, err := newEngine(setup{1, 5, 16 << 10, "", ""})
	if err != nil {
		b.Fatal(err)
	}
	js := `{"user":"anna","items":[` + strings.Repeat(`{"id":123,"name":"green tea","price":4.5},`, 22) + `{"id":1}]}`
	hd := "\nHost: shop.example\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0\nAccept: */*"
	x := mk("POST /a HTTP/1.1" + hd + "\nContent-Type: application/json\nContent-Length: " + fmt.Sprint(len(js)))
	for b.Loop() {
		e.run(x, []byte(js), true)
	}
}

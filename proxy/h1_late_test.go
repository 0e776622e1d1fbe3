package proxy

import (
	"net"
	"testing"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

// TestH1LateWakeUp: a look at the client that comes just as an informational answer does, with the final one behind it, leaves a connection that nobody may use again.
func TestH1LateWakeUp(t *testing.T) {
	for _, late := range []bool{false, true} {
		p := &testProxy{Proxy: started(t, Deps{})}
		u, err := p.Upstream(h1Pool())
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		e := &exchange.Endpoint{Pool: "test", Address: ln.Addr().String()}
		u.Attach(e)
		x := &exchange.Exchange{}
		x.Request = &wire.Request{Method: []byte("GET")}
		back, _, err := e.Link.(*Link).reach(x, false)
		if err != nil {
			t.Fatal(err)
		}
		b := back.(*h1Back)
		b.x, b.sentAll, b.used = x, true, true
		b.buf = p.heap.get()
		b.w = copy(b.buf, "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		if late {
			b.watched.at.Store(woken)
			b.conn.SetDeadline(longAgo)
		}
		for _, status := range []int{103, 200} {
			var r wire.Response
			if _, err := b.head(x, &r); err != nil || r.Status != status {
				t.Fatalf("the head is %d, %v; want %d", r.Status, err, status)
			}
		}
		b.release(true)
		if again := e.Link.(*Link).take(0, true); (again != nil) == late {
			t.Errorf("late %v: the connection is kept for others: %v", late, again != nil)
		} else if again != nil {
			again.close()
		}
		u.Detach(e)
	}
}

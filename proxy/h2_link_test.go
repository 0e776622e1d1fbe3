package proxy

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/even-keel/evenkeel/exchange"
)

// TestH2LinkWaits: who waits in vain for a stream is told of a limit only when there is one: an endpoint that takes connections and says nothing is to blame, and was asked nothing.
func TestH2LinkWaits(t *testing.T) {
	mute := echoed(t, func(c *net.TCPConn) { io.Copy(io.Discard, c) })
	narrow := echoed(t, func(c *net.TCPConn) {
		fr := http2.NewFramer(c, c)
		if fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1}) == nil {
			io.Copy(io.Discard, c)
		}
	})
	for address, want := range map[string]string{mute: "timeout", narrow: "connections"} {
		p := newH2Proxy(t)
		cfg := testPool()
		cfg.Connections.Max, cfg.Timeouts.Connect = 1, 300*time.Millisecond
		up, err := p.Upstream(cfg)
		if err != nil {
			t.Fatal(err)
		}
		e := &exchange.Endpoint{Address: address}
		up.Attach(e)
		defer up.Detach(e)
		link := e.Link.(*Link).h2
		first, err := link.open(context.Background(), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		defer first.release(false)
		_, err = link.open(context.Background(), time.Time{})
		if err == nil || connectReason(err) != want {
			t.Errorf("%v, want %s", err, want)
		}
		x := &exchange.Exchange{}
		if r := connectFailed(x, err); want == "timeout" && (r.Status != http.StatusGatewayTimeout || x.Result.Kind != exchange.ConnectFailed || !x.Result.Unsent) {
			t.Errorf("%+v %+v", r, x.Result)
		}
	}
}

package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
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

// TestH2BackAway: what an endpoint has not begun as it ends a connection goes to it by another one at once, whatever the method, and costs no repeat.
func TestH2BackAway(t *testing.T) {
	var conns atomic.Int32
	endpoint := echoed(t, func(c *net.TCPConn) {
		if conns.Add(1) == 1 {
			refusingServer(c, "goaway")
		} else {
			refusingServer(c, "answer")
		}
	})
	p := newH2Proxy(t)
	rig := newH2RigOn(t, p, testLimits(), sendTo(t, p, testPool(), endpoint, nil))
	res, err := h2cClient(t).Post("http://"+rig.addr+"/", "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 204 || conns.Load() != 2 {
		t.Errorf("status %d, %d connections", res.StatusCode, conns.Load())
	}
}

// TestH2BackSendsNothingAfterGoAway: a request that has its place on a connection as the endpoint ends it is not sent there, where nobody would answer.
func TestH2BackSendsNothingAfterGoAway(t *testing.T) {
	p := newH2Proxy(t)
	up, err := p.Upstream(testPool())
	if err != nil {
		t.Fatal(err)
	}
	e := &exchange.Endpoint{Address: echoed(t, func(c *net.TCPConn) { io.Copy(io.Discard, c) })}
	up.Attach(e)
	defer up.Detach(e)
	for code, want := range map[http2.ErrCode]error{http2.ErrCodeNo: errH2Away, http2.ErrCodeEnhanceYourCalm: errH2Refused} {
		b, err := e.Link.(*Link).h2.open(context.Background(), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.(*h2Back).client.goAway(0, code); err != nil {
			t.Fatal(err)
		}
		x := &exchange.Exchange{Endpoint: e, Request: &wire.Request{Method: []byte("POST"), Target: []byte("/"), ContentLength: -1}}
		unsent, err := b.send(x, &scratch{target: x.Request.Target}, nil, true)
		if !unsent || !errors.Is(err, want) || !errors.Is(err, errH2Refused) {
			t.Errorf("unsent %v, %v", unsent, err)
		}
		b.release(false)
	}
}

package proxy

import (
	"io"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

// upgrade answers 101 and joins the two connections: what follows is no HTTP any more (RFC 9110 §7.8). It
// returns when the upgraded connection has ended.
func (a *attempt) upgrade(s *scratch) *exchange.Refusal {
	x := a.x
	w, isH1 := a.f.(*h1Work)
	b, toH1 := a.b.(*h1Back)
	switch {
	case !isH1 || !toH1:
		return a.fail(false, io.ErrUnexpectedEOF)
	case s.resp.Upgrade == nil: // RFC 9110 §15.2.2: it must say to what
		return a.fail(false, wire.ErrBadStatusLine)
	case a.pump != nil && !(a.pump.ended() && w.bodyEnd): // RFC 9110 §7.8: only after the whole request
		return a.fail(false, wire.ErrBadStatusLine)
	}
	if p, whole := w.pending(); whole { // it went out as a body and must not be the tunnel's first bytes too
		w.h.r += len(p)
		w.bodyEnd = true
	}
	now := time.Now()
	x.Outcome.FirstByte = now.Sub(x.Start)
	x.Work += now.Sub(a.start) // 101 is a head like others; what goes through the tunnel is no work that can be measured
	x.Result = exchange.Result{Kind: exchange.Answered, Status: 101, Latency: now.Sub(a.start)}
	if x.Held != nil {
		x.Held.Answered(x, true)
	}
	s.responseFields(x, &s.resp, true)
	s.fields = append(s.fields, wire.Field{Name: nameUpgrade, Value: s.resp.Upgrade})
	if w.begin(x, 101, s.fields, noBody) != nil || w.flush() != nil {
		return a.clientLeft()
	}
	w.ended, w.closing = true, true
	h := w.h
	first, early := h.buf[h.r:h.w], b.buf[b.r:b.w]
	h.r, b.r = h.w, b.w
	if !h.p.sweep.settle(&b.watched) || !h.p.sweep.settle(&h.c.watched) {
		return a.clientLeft() // the proxy ends
	}
	in, out, err := h.p.relay(h.c.Conn, b.conn, relayOptions{
		watched: &h.c.watched, idle: idleTimeout(h.c.cfg, b.l.up.cfg()), toEndpoint: first, toClient: early, shard: x.Shard,
	})
	x.Outcome.BytesIn, x.Outcome.BytesOut = in, out
	x.Outcome.Aborted = err != nil
	a.finish(false)
	return nil
}

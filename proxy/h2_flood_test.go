package proxy

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// heapNow is the live heap after a collection.
func heapNow() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// h2FloodCase is a flood, and the reason that is counted.
type h2FloodCase struct {
	name string
	do   func(*rawH2)
	want h2Closed
}

// h2Floods sends frames until the connection breaks.
func h2Floods() []h2FloodCase {
	const many = 20_000
	repeat := func(f func(r *rawH2, i int) error) func(*rawH2) {
		return func(r *rawH2) {
			for i := range many {
				if f(r, i) != nil {
					return
				}
			}
		}
	}
	head := func(r *rawH2, id uint32, end bool) error {
		return r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: r.block(getLines...), EndHeaders: true, EndStream: end})
	}
	return []h2FloodCase{
		{"rapid reset", repeat(func(r *rawH2, i int) error {
			head(r, uint32(2*i+1), true)
			return r.fr.WriteRSTStream(uint32(2*i+1), http2.ErrCodeCancel)
		}), closedReset},
		{"made you reset by window", repeat(func(r *rawH2, i int) error {
			head(r, uint32(2*i+1), false)
			return r.fr.WriteWindowUpdate(uint32(2*i+1), 0)
		}), closedReset},
		{"made you reset by malformed heads", repeat(func(r *rawH2, i int) error {
			return r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: r.block(":path: /"), EndHeaders: true})
		}), closedReset},
		{"too many streams", repeat(func(r *rawH2, i int) error { return head(r, uint32(2*i+1), false) }), closedReset},
		{"continuations", func(r *rawH2) {
			r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.block(getLines...)})
			repeat(func(r *rawH2, i int) error { return r.fr.WriteContinuation(1, false, r.block("x-a: b")) })(r)
		}, closedHeaders},
		{"empty continuations", func(r *rawH2) {
			r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.block(getLines...)})
			repeat(func(r *rawH2, i int) error { return r.fr.WriteContinuation(1, false, nil) })(r)
		}, closedHeaders},
		{"large block", func(r *rawH2) {
			r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: make([]byte, 16<<10)})
			repeat(func(r *rawH2, i int) error { return r.fr.WriteContinuation(1, false, make([]byte, 16<<10)) })(r)
		}, closedHeaders},
		{"settings", repeat(func(r *rawH2, i int) error { return r.fr.WriteSettings() }), closedControl},
		{"settings with many entries", repeat(func(r *rawH2, i int) error {
			return r.fr.WriteRawFrame(http2.FrameSettings, 0, 0, bytes.Repeat([]byte{0, 3, 0, 0, 0, 1}, 2000))
		}), closedControl},
		{"settings acks", repeat(func(r *rawH2, i int) error { return r.fr.WriteSettingsAck() }), closedControl},
		{"pings", repeat(func(r *rawH2, i int) error { return r.fr.WritePing(false, [8]byte{}) }), closedControl},
		{"empty data", func(r *rawH2) {
			head(r, 1, false)
			repeat(func(r *rawH2, i int) error { return r.fr.WriteData(1, false, nil) })(r)
		}, closedEmpty},
		{"windows", repeat(func(r *rawH2, i int) error { return r.fr.WriteWindowUpdate(0, 1) }), closedWindow},
		{"priorities", repeat(func(r *rawH2, i int) error { return r.fr.WritePriority(1, http2.PriorityParam{StreamDep: 3}) }), closedPriority},
		{"unknown frames", repeat(func(r *rawH2, i int) error { return r.fr.WriteRawFrame(0xbb, 0, 0, nil) }), closedPriority},
		{"goaways", repeat(func(r *rawH2, i int) error { return r.fr.WriteGoAway(0, 0, nil) }), closedControl},
	}
}

// TestH2Floods: each flood ends its connection with ENHANCE_YOUR_CALM, is counted, and costs little memory.
func TestH2Floods(t *testing.T) {
	for _, c := range h2Floods() {
		t.Run(c.name, func(t *testing.T) {
			rig := newH2Rig(t, testLimits(), answerOnce)
			before := heapNow()
			r := dialRawH2(t, rig)
			var wg sync.WaitGroup
			wg.Go(func() { c.do(r) })
			if got := r.outcome(false); got != "goaway ENHANCE_YOUR_CALM" && got != "closed" {
				t.Errorf("got %q", got)
			}
			r.c.Close()
			wg.Wait()
			waitFor(t, func() bool { return rig.l.closed[c.want].Load() == 1 })
			if grown := heapNow() - before; grown > 4<<20 {
				t.Errorf("the heap grew by %d bytes", grown)
			}
		})
	}
}

// TestH2HpackBomb: one large entry referred to thousands of times is not unpacked.
func TestH2HpackBomb(t *testing.T) {
	rig := newH2Rig(t, testLimits(), answerOnce)
	r := dialRawH2(t, rig)
	block := append(r.block(getLines...), 0x40, 1, 'x', 0x7f, 0x81, 0x1e) // a literal of 4000 bytes into the table
	block = append(block, strings.Repeat("v", 4000)...)
	block = append(block, bytes.Repeat([]byte{0x80 | 62}, 11_000)...)
	before := heapNow()
	r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true, EndStream: true})
	if got := r.outcome(true); got != "status 431" {
		t.Errorf("got %q", got)
	}
	if grown := heapNow() - before; grown > 1<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
}

// TestH2ResetStreamsCount: streams that were reset count against the limit until their handlers have returned.
func TestH2ResetStreamsCount(t *testing.T) {
	limits := testLimits()
	limits.Streams = 2
	gate := make(chan struct{})
	rig := newH2Rig(t, limits, func(x *exchange.Exchange) *exchange.Refusal {
		<-gate
		return answerOnce(x)
	})
	defer close(gate)
	r := dialRawH2(t, rig)
	for id := uint32(1); id <= 3; id += 2 {
		r.headers(id, true, getLines...)
		r.fr.WritePing(false, [8]byte{byte(id)}) // so that it begins before its reset comes
		for {
			if f, err := r.fr.ReadFrame(); err != nil {
				t.Fatal(err)
			} else if p, ok := f.(*http2.PingFrame); ok && p.IsAck() {
				break
			}
		}
		r.fr.WriteRSTStream(id, http2.ErrCodeCancel)
	}
	r.headers(5, true, getLines...)
	if got := r.outcome(true); got != "reset REFUSED_STREAM" {
		t.Errorf("got %q", got)
	}
}

// TestH2StalledWindow: an answer that the client does not let go is ended after the idle timeout, and holds no more than a bit of it.
func TestH2StalledWindow(t *testing.T) {
	limits := testLimits()
	limits.IdleTimeout = 500 * time.Millisecond
	failed := make(chan error, 1)
	rig := newH2Rig(t, limits, func(x *exchange.Exchange) *exchange.Refusal {
		f := x.Front.(front)
		err := f.begin(x, 200, nil, -1)
		for chunk := make([]byte, 64<<10); err == nil; {
			err = f.write(chunk, false)
		}
		failed <- err
		return nil
	})
	r := dialRawH2(t, rig)
	r.fr.WriteSettingsAck()
	r.headers(1, true, getLines...)
	if got := resetOf(r); got != http2.ErrCodeCancel {
		t.Errorf("got %v", got)
	}
	if err := <-failed; err != errH2Slow {
		t.Error(err)
	}
}

// resetOf reads until a stream is reset, and returns the code.
func resetOf(r *rawH2) http2.ErrCode {
	for {
		f, err := r.fr.ReadFrame()
		if err != nil {
			return 0xff
		}
		if f, ok := f.(*http2.RSTStreamFrame); ok {
			return f.ErrCode
		}
	}
}

// TestH2SlowBody: a request body that does not come ends the reading of it.
func TestH2SlowBody(t *testing.T) {
	limits := testLimits()
	limits.IdleTimeout = 500 * time.Millisecond
	failed := make(chan error, 1)
	rig := newH2Rig(t, limits, func(x *exchange.Exchange) *exchange.Refusal {
		_, err := x.Front.(front).readBody()
		failed <- err
		return &exchange.Refusal{Stage: "test", Reason: "slow", Status: 408}
	})
	r := dialRawH2(t, rig)
	r.headers(1, false, getLines...)
	if got := r.outcome(true); got != "status 408" {
		t.Errorf("got %q", got)
	}
	if err := <-failed; err != errBodySlow {
		t.Error(err)
	}
}

// TestH2WindowsHold: a client that sends more than its windows allow is stopped.
func TestH2WindowsHold(t *testing.T) {
	gate := make(chan struct{})
	rig := newH2Rig(t, testLimits(), func(x *exchange.Exchange) *exchange.Refusal { <-gate; return nil })
	defer close(gate)
	r := dialRawH2(t, rig)
	r.headers(1, false, getLines...)
	go func() {
		for range 20 {
			r.fr.WriteData(1, false, make([]byte, 16<<10))
		}
	}()
	if got := r.outcome(true); got != "reset FLOW_CONTROL_ERROR" {
		t.Errorf("got %q", got)
	}
}

// FuzzH2Frames feeds bytes into a server: it never panics, and always comes to an end.
func FuzzH2Frames(f *testing.F) {
	var buf bytes.Buffer
	fr := http2.NewFramer(&buf, nil)
	fr.WriteSettings()
	fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82, 0x86, 0x84, 0x41, 1, 'a'}, EndHeaders: true})
	fr.WriteData(1, false, []byte("body"))
	fr.WriteWindowUpdate(1, 10)
	fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0, 1, 'a', 1, 'b'}, EndHeaders: true, EndStream: true})
	fr.WritePing(false, [8]byte{})
	fr.WriteRSTStream(1, http2.ErrCodeCancel)
	fr.WriteGoAway(0, 0, nil)
	f.Add(buf.Bytes())
	buf.Reset()
	fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
	fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}})
	fr.WriteContinuation(1, true, []byte{0x86, 0x84, 0x41, 1, 'a'})
	fr.WriteDataPadded(1, true, []byte("x"), []byte{0, 0})
	f.Add(buf.Bytes())
	p := New(Deps{Log: quiet()})
	h := exchange.Handler(echoH2)
	l := &listener{proxy: p}
	l.handler.Store(&h)
	cfg := &site.Listener{HTTP2: true, Limits: testLimits()}
	f.Fuzz(func(t *testing.T, data []byte) {
		client, server := net.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() { io.Copy(io.Discard, client) })
		wg.Go(func() {
			client.Write(append([]byte(h2Preface), data...))
			client.Close()
		})
		done := make(chan struct{})
		go func() {
			defer close(done)
			p.serveHTTP2(&conn{Conn: server, listener: l, cfg: cfg, remote: netip.MustParseAddrPort("127.0.0.1:9")}, nil)
			server.Close()
		}()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatal("hangs")
		}
		wg.Wait()
	})
}

// FuzzHpack compares the decoder with that of golang.org/x/net over a series of blocks.
func FuzzHpack(f *testing.F) {
	var buf bytes.Buffer
	enc := hpack.NewEncoder(&buf)
	for range 3 {
		for _, kv := range [][2]string{{":method", "GET"}, {":path", "/a/b"}, {"user-agent", "test/1.0 (x)"}, {"x-own", "\x00\xff"}, {"cookie", "a=b"}} {
			enc.WriteField(hpack.HeaderField{Name: kv[0], Value: kv[1]})
		}
		buf.WriteByte(0xfe)
	}
	f.Add(buf.Bytes())
	f.Add([]byte{0x20, 0x3f, 0xe1, 0x1f, 0x82, 0xfe, 0x40, 1, 'a', 1, 'b', 0xbe})
	f.Add([]byte{0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		var d hpackDecoder
		var got h2Fields
		ref := hpack.NewDecoder(hpackTableSize, nil)
		for block := range bytes.SplitSeq(data, []byte{0xfe}) {
			got.reset(1<<20, 1<<20)
			err := d.decode(block, &got)
			if err == errHpackLate { // RFC 7541 §4.2 forbids it, and x/net lets it pass while its table is empty
				return
			}
			want, refErr := ref.DecodeFull(block)
			if (err == nil) != (refErr == nil) {
				t.Fatalf("block %x: %v, the other says %v", block, err, refErr)
			}
			if err != nil {
				return
			}
			if len(want) != len(got.list) {
				t.Fatalf("%d fields, the other has %d", len(got.list), len(want))
			}
			for i, w := range want {
				if g := got.list[i]; string(g.Name) != w.Name || string(g.Value) != w.Value || g.ID != fieldID(g.Name) {
					t.Fatalf("field %d: %q: %q, the other has %q: %q", i, g.Name, g.Value, w.Name, w.Value)
				}
			}
		}
	})
}

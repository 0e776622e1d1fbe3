package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// rawH2 is a client that may say anything.
type rawH2 struct {
	t   testing.TB
	c   net.Conn
	fr  *http2.Framer
	enc *hpack.Encoder
	buf bytes.Buffer
}

func dialRawH2(t testing.TB, rig *h2Rig) *rawH2 {
	t.Helper()
	c, err := net.Dial("tcp", rig.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	r := &rawH2{t: t, c: c, fr: http2.NewFramer(c, c)}
	r.fr.AllowIllegalWrites, r.fr.AllowIllegalReads = true, true
	r.enc = hpack.NewEncoder(&r.buf)
	io.WriteString(c, h2Preface)
	r.fr.WriteSettings()
	return r
}

// block encodes "name: value" lines.
func (r *rawH2) block(lines ...string) []byte {
	r.buf.Reset()
	for _, l := range lines {
		i := strings.Index(l[1:], ":") + 1
		r.enc.WriteField(hpack.HeaderField{Name: l[:i], Value: strings.TrimPrefix(l[i+1:], " ")})
	}
	return bytes.Clone(r.buf.Bytes())
}

var getLines = []string{":method: GET", ":scheme: http", ":path: /", ":authority: a"}

func (r *rawH2) headers(id uint32, end bool, lines ...string) {
	r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: r.block(lines...), EndHeaders: true, EndStream: end})
}

// outcome reads until the server says how it ends: "goaway CODE", "reset CODE" of a stream, "status NNN", or "closed".
func (r *rawH2) outcome(resets bool) string {
	dec := hpack.NewDecoder(4096, nil)
	for {
		f, err := r.fr.ReadFrame()
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return "nothing"
			}
			return "closed"
		}
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			return "goaway " + f.ErrCode.String()
		case *http2.RSTStreamFrame:
			if resets {
				return "reset " + f.ErrCode.String()
			}
		case *http2.HeadersFrame:
			fields, _ := dec.DecodeFull(f.HeaderBlockFragment())
			if len(fields) > 0 && resets {
				return "status " + fields[0].Value
			}
		}
	}
}

// answerOnce reads the body and answers 200.
func answerOnce(x *exchange.Exchange) *exchange.Refusal {
	f := x.Front.(front)
	for {
		if _, err := f.readBody(); err == io.EOF {
			break
		} else if err != nil {
			f.abort()
			return nil
		}
	}
	f.begin(x, 200, nil, 0)
	f.end(nil)
	return nil
}

// h2Case is something a client does, and how the server takes it.
type h2Case struct {
	name string
	do   func(*rawH2)
	want string // empty: any answer
}

func h2Raw(typ http2.FrameType, flags http2.Flags, id uint32, p string) func(*rawH2) {
	return func(r *rawH2) { r.fr.WriteRawFrame(typ, flags, id, []byte(p)) }
}

func h2Request(lines ...string) func(*rawH2) {
	return func(r *rawH2) { r.headers(1, true, lines...) }
}

// h2With is a good request with more fields.
func h2With(more ...string) func(*rawH2) {
	return h2Request(append(append([]string(nil), getLines...), more...)...)
}

func h2Steps(steps ...func(*rawH2)) func(*rawH2) {
	return func(r *rawH2) {
		for _, s := range steps {
			s(r)
		}
	}
}

// h2Open begins a request with a body.
func h2Open(r *rawH2) {
	r.headers(1, false, ":method: POST", ":scheme: http", ":path: /", ":authority: a")
}

// h2Good is what must be taken.
func h2Good() []h2Case {
	return []h2Case{
		{"good", h2With(), "status 200"},
		{"te trailers", h2With("te: trailers"), "status 200"},
		{"cookie crumbs", h2With("cookie: a=1", "cookie: b=2"), "status 200"},
		{"host agrees", h2With("host: A"), "status 200"},
		{"options star", h2Request(":method: OPTIONS", ":scheme: http", ":path: *", ":authority: a"), "status 200"},
		{"unknown frame type", h2Steps(h2Raw(0xee, 0, 0, "x"), h2With()), "status 200"},
		{"unknown setting", h2Steps(h2Raw(http2.FrameSettings, 0, 0, "\x00\xff\x00\x00\x00\x01"), h2With()), "status 200"},
		{"trailers", h2Steps(h2Open, func(r *rawH2) { r.headers(1, true, "x-sum: 1") }), "status 200"},
		{"padded", func(r *rawH2) {
			r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.block(getLines...), EndHeaders: true, EndStream: true, PadLength: 9})
		}, "status 200"},
	}
}

// h2ConnErrors are offences that end the connection.
func h2ConnErrors() []h2Case {
	return []h2Case{
		{"data on stream 0", h2Raw(http2.FrameData, 0, 0, "x"), "goaway PROTOCOL_ERROR"},
		{"headers on stream 0", h2Raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 0, "\x82"), "goaway PROTOCOL_ERROR"},
		{"even stream", h2Raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 2, "\x82"), "goaway PROTOCOL_ERROR"},
		{"stream goes back", h2Steps(func(r *rawH2) { r.headers(5, false, getLines...) }, func(r *rawH2) { r.headers(3, true, getLines...) }), "goaway STREAM_CLOSED"},
		{"data on idle stream", h2Raw(http2.FrameData, 0, 7, "x"), "goaway PROTOCOL_ERROR"},
		{"reset of idle stream", h2Raw(http2.FrameRSTStream, 0, 7, "\x00\x00\x00\x00"), "goaway PROTOCOL_ERROR"},
		{"window of idle stream", h2Raw(http2.FrameWindowUpdate, 0, 7, "\x00\x00\x00\x01"), "goaway PROTOCOL_ERROR"},
		{"frame too large", h2Raw(http2.FrameData, 0, 1, strings.Repeat("x", 16385)), "goaway FRAME_SIZE_ERROR"},
		{"settings size", h2Raw(http2.FrameSettings, 0, 0, "12345"), "goaway FRAME_SIZE_ERROR"},
		{"settings ack with payload", h2Raw(http2.FrameSettings, http2.FlagSettingsAck, 0, "123456"), "goaway FRAME_SIZE_ERROR"},
		{"settings on a stream", h2Raw(http2.FrameSettings, 0, 1, ""), "goaway PROTOCOL_ERROR"},
		{"settings window too large", h2Raw(http2.FrameSettings, 0, 0, "\x00\x04\xff\xff\xff\xff"), "goaway FLOW_CONTROL_ERROR"},
		{"settings frame size too small", h2Raw(http2.FrameSettings, 0, 0, "\x00\x05\x00\x00\x00\x00"), "goaway PROTOCOL_ERROR"},
		{"settings push 2", h2Raw(http2.FrameSettings, 0, 0, "\x00\x02\x00\x00\x00\x02"), "goaway PROTOCOL_ERROR"},
		{"ping size", h2Raw(http2.FramePing, 0, 0, "123"), "goaway FRAME_SIZE_ERROR"},
		{"ping on a stream", h2Raw(http2.FramePing, 0, 1, "12345678"), "goaway PROTOCOL_ERROR"},
		{"reset size", h2Steps(h2Open, h2Raw(http2.FrameRSTStream, 0, 1, "123")), "goaway FRAME_SIZE_ERROR"},
		{"window size", h2Raw(http2.FrameWindowUpdate, 0, 0, "123"), "goaway FRAME_SIZE_ERROR"},
		{"window zero", h2Raw(http2.FrameWindowUpdate, 0, 0, "\x00\x00\x00\x00"), "goaway PROTOCOL_ERROR"},
		{"window too large", h2Steps(h2Raw(http2.FrameWindowUpdate, 0, 0, "\x7f\xff\xff\xff")), "goaway FLOW_CONTROL_ERROR"},
		{"priority size", h2Raw(http2.FramePriority, 0, 1, "123"), "goaway FRAME_SIZE_ERROR"},
		{"push promise", h2Raw(http2.FramePushPromise, http2.FlagPushPromiseEndHeaders, 1, "\x00\x00\x00\x02\x82"), "goaway PROTOCOL_ERROR"},
		{"continuation alone", h2Raw(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 1, "\x82"), "goaway PROTOCOL_ERROR"},
		{"other frame in a block", h2Steps(h2Raw(http2.FrameHeaders, 0, 1, "\x82"), h2Raw(http2.FramePing, 0, 0, "12345678")), "goaway PROTOCOL_ERROR"},
		{"other stream in a block", h2Steps(h2Raw(http2.FrameHeaders, 0, 1, "\x82"), h2Raw(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 3, "\x82")), "goaway PROTOCOL_ERROR"},
		{"padding too long", h2Raw(http2.FrameData, http2.FlagDataPadded, 1, "\x05abc"), "goaway PROTOCOL_ERROR"},
		{"bad hpack", h2Raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, "\xff\xff\xff\xff\x0f"), "goaway COMPRESSION_ERROR"},
		{"table size too large", h2Raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, "\x3f\xe2\x1f"), "goaway COMPRESSION_ERROR"},
		{"data after the end", h2Steps(func(r *rawH2) { r.headers(1, true, getLines...) }, h2Raw(http2.FrameData, 0, 1, "x")), ""},
	}
}

// h2StreamErrors are offences that end one stream.
func h2StreamErrors() []h2Case {
	return []h2Case{
		{"stream window zero", h2Steps(h2Open, h2Raw(http2.FrameWindowUpdate, 0, 1, "\x00\x00\x00\x00")), "reset PROTOCOL_ERROR"},
		{"stream window too large", h2Steps(h2Open, h2Raw(http2.FrameWindowUpdate, 0, 1, "\x7f\xff\xff\xff")), "reset FLOW_CONTROL_ERROR"},
		{"second head without end", h2Steps(h2Open, func(r *rawH2) { r.headers(1, false, "x-a: b") }), "reset PROTOCOL_ERROR"},
		{"pseudo in trailers", h2Steps(h2Open, func(r *rawH2) { r.headers(1, true, ":path: /") }), "reset PROTOCOL_ERROR"},
		{"body longer than its length", h2Steps(func(r *rawH2) { r.headers(1, false, append(getLines, "content-length: 2")...) }, h2Raw(http2.FrameData, 0, 1, "abc")), "reset PROTOCOL_ERROR"},
		{"body shorter than its length", h2Steps(func(r *rawH2) { r.headers(1, false, append(getLines, "content-length: 9")...) }, h2Raw(http2.FrameData, http2.FlagDataEndStream, 1, "abc")), "reset PROTOCOL_ERROR"},
	}
}

// h2Malformed are requests that RFC 9113 §8 calls malformed.
func h2Malformed() []h2Case {
	return []h2Case{
		{"length without body", h2With("content-length: 3"), "reset PROTOCOL_ERROR"},
		{"two lengths", h2With("content-length: 0", "content-length: 1"), "reset PROTOCOL_ERROR"},
		{"length no number", h2With("content-length: +0"), "reset PROTOCOL_ERROR"},
		{"no method", h2Request(":scheme: http", ":path: /", ":authority: a"), "reset PROTOCOL_ERROR"},
		{"no scheme", h2Request(":method: GET", ":path: /", ":authority: a"), "reset PROTOCOL_ERROR"},
		{"no path", h2Request(":method: GET", ":scheme: http", ":authority: a"), "reset PROTOCOL_ERROR"},
		{"empty path", h2Request(":method: GET", ":scheme: http", ":path: ", ":authority: a"), "reset PROTOCOL_ERROR"},
		{"no authority", h2Request(":method: GET", ":scheme: http", ":path: /"), "reset PROTOCOL_ERROR"},
		{"path twice", h2With(":path: /b"), "reset PROTOCOL_ERROR"},
		{"pseudo after field", h2Request(":method: GET", ":scheme: http", "a: b", ":path: /", ":authority: a"), "reset PROTOCOL_ERROR"},
		{"unknown pseudo", h2Request(append([]string{":who: me"}, getLines...)...), "reset PROTOCOL_ERROR"},
		{"status in a request", h2Request(append([]string{":status: 200"}, getLines...)...), "reset PROTOCOL_ERROR"},
		{"relative path", h2Request(":method: GET", ":scheme: http", ":path: a", ":authority: a"), "reset PROTOCOL_ERROR"},
		{"space in path", h2Request(":method: GET", ":scheme: http", ":path: /a b", ":authority: a"), "reset PROTOCOL_ERROR"},
		{"bad method", h2Request(":method: G T", ":scheme: http", ":path: /", ":authority: a"), "reset PROTOCOL_ERROR"},
		{"connect", h2Request(":method: CONNECT", ":authority: a:1"), "reset PROTOCOL_ERROR"},
		{"user in authority", h2Request(":method: GET", ":scheme: http", ":path: /", ":authority: u@a"), "reset PROTOCOL_ERROR"},
		{"host differs", h2With("host: b"), "reset PROTOCOL_ERROR"},
		{"capital name", h2With("X-A: b"), "reset PROTOCOL_ERROR"},
		{"connection", h2With("connection: close"), "reset PROTOCOL_ERROR"},
		{"transfer-encoding", h2With("transfer-encoding: chunked"), "reset PROTOCOL_ERROR"},
		{"upgrade", h2With("upgrade: h2c"), "reset PROTOCOL_ERROR"},
		{"te gzip", h2With("te: gzip"), "reset PROTOCOL_ERROR"},
		{"newline in value", h2With("x-a: b\r\nc: d"), "reset PROTOCOL_ERROR"},
		{"space around value", h2With("x-a:  b "), "reset PROTOCOL_ERROR"},
		{"empty name", h2With("x y: b"), "reset PROTOCOL_ERROR"},
	}
}

// TestH2Conformance says of each offence what RFC 9113 wants: an error of the connection or of one stream.
func TestH2Conformance(t *testing.T) {
	rig := newH2Rig(t, testLimits(), answerOnce)
	for _, c := range slices.Concat(h2Good(), h2ConnErrors(), h2StreamErrors(), h2Malformed()) {
		t.Run(c.name, func(t *testing.T) {
			r := dialRawH2(t, rig)
			c.do(r)
			got := r.outcome(true)
			if c.want == "" && (got == "nothing" || got == "closed") || c.want != "" && got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestH2NoPreface(t *testing.T) {
	rig := newH2Rig(t, testLimits(), answerOnce)
	c, err := net.Dial("tcp", rig.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, "GET / HTTP/1.1\r\n\r\n")
	r := &rawH2{t: t, c: c, fr: http2.NewFramer(c, c)}
	if got := r.outcome(true); got != "goaway PROTOCOL_ERROR" {
		t.Error(got)
	}
}

// TestH2HeadLimits: too many or too large fields are answered with 431, and the connection goes on.
func TestH2HeadLimits(t *testing.T) {
	limits := testLimits()
	limits.Headers, limits.HeaderBytes = 10, 2<<10
	rig := newH2Rig(t, limits, answerOnce)
	r := dialRawH2(t, rig)
	many := getLines
	for range 11 {
		many = append(many, "x-a: b")
	}
	for i, lines := range [][]string{many, append(append([]string(nil), getLines...), "x-a: "+strings.Repeat("v", 2100)), getLines} {
		r.headers(uint32(2*i+1), true, lines...)
		want := "status 431"
		if i == 2 {
			want = "status 200"
		}
		if got := r.outcome(true); got != want {
			t.Errorf("%d: got %q, want %q", i, got, want)
		}
	}
}

// TestH2HeadTooLargeAfterAnother: a head that is too large is refused as what it is, whatever request had its memory before.
func TestH2HeadTooLargeAfterAnother(t *testing.T) {
	limits := testLimits()
	limits.HeaderBytes = 2 << 10
	r := dialRawH2(t, newH2Rig(t, limits, answerOnce))
	large := "x-a: " + strings.Repeat("v", 2100)
	for id := uint32(1); id < 80; id += 4 { // the memory is another's more often than not
		r.headers(id, false, append(append([]string(nil), getLines...), "content-length: 3")...)
		r.fr.WriteData(id, true, []byte("abc"))
		if got := r.outcome(true); got != "status 200" {
			t.Fatalf("%d: got %q", id, got)
		}
		r.headers(id+2, true, append(append([]string(nil), getLines...), large)...)
		if got := r.outcome(true); got != "status 431" {
			t.Fatalf("%d: got %q, want a status of 431", id+2, got)
		}
	}
}

// TestH2Drain: a connection with a request under way is told twice, finishes it, and is closed.
func TestH2Drain(t *testing.T) {
	for _, busy := range []bool{false, true} {
		begun, gate := make(chan struct{}), make(chan struct{})
		rig := newH2Rig(t, testLimits(), func(x *exchange.Exchange) *exchange.Refusal {
			close(begun)
			<-gate
			return answerOnce(x)
		})
		r := dialRawH2(t, rig)
		r.fr.WriteSettingsAck()
		if busy {
			r.headers(1, true, getLines...)
			<-begun
		}
		rig.l.draining.Store(true)
		var last []uint32
		answered, closed := false, false
		for !closed {
			f, err := r.fr.ReadFrame()
			if err != nil {
				closed = true
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatal("not closed")
				}
				break
			}
			switch f := f.(type) {
			case *http2.GoAwayFrame:
				last = append(last, f.LastStreamID)
				if len(last) == 2 && busy {
					close(gate)
				}
			case *http2.PingFrame:
				r.fr.WritePing(true, f.Data)
			case *http2.HeadersFrame:
				answered = true
			}
		}
		if len(last) < 2 || last[0] != h2MaxStreamID || answered != busy {
			t.Errorf("busy %v: goaways %v, answered %v", busy, last, answered)
		}
		r.c.Close()
		waitFor(t, func() bool { return rig.l.closed[closedDrain].Load() == 1 })
	}
}

func TestH2IdleAndLimits(t *testing.T) {
	for name, c := range map[string]struct {
		limits func(*site.Limits)
		do     func(*rawH2)
		want   h2Closed
	}{
		"idle":           {func(l *site.Limits) { l.IdleTimeout = 300 * time.Millisecond }, func(r *rawH2) { r.fr.WriteSettingsAck() }, closedIdle},
		"slow head":      {func(l *site.Limits) { l.HeaderTimeout = 300 * time.Millisecond }, func(r *rawH2) { r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1}) }, closedHead},
		"half a frame":   {func(l *site.Limits) { l.HeaderTimeout = 300 * time.Millisecond }, func(r *rawH2) { r.c.Write([]byte{0, 0, 9, 1}) }, closedHead},
		"requests limit": {func(l *site.Limits) { l.Requests = 1 }, func(r *rawH2) { r.headers(1, true, getLines...) }, closedRequests},
	} {
		t.Run(name, func(t *testing.T) {
			limits := testLimits()
			c.limits(&limits)
			rig := newH2Rig(t, limits, answerOnce)
			r := dialRawH2(t, rig)
			c.do(r)
			for r.outcome(false) != "closed" {
				if t.Failed() {
					return
				}
			}
			r.c.Close()
			waitFor(t, func() bool { return rig.l.closed[c.want].Load() == 1 })
		})
	}
}

// waitFor polls for up to five seconds until ok.
func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(5 * time.Second); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatal("did not happen in 5 s")
		}
	}
}

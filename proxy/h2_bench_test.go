package proxy

import (
	"io"
	"net"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/wire"
)

// fixed answers with 100 bytes, as a pool's small answer would be.
func fixed(x *exchange.Exchange) *exchange.Refusal {
	f := x.Front.(front)
	s := f.scratch()
	s.fields = append(s.fields[:0], wire.Field{Name: nameContentType, Value: typeText, ID: wire.ContentType})
	if f.begin(x, 200, s.fields, int64(len(hundred))) == nil && f.write(hundred, true) == nil {
		f.end(nil)
	}
	return nil
}

var hundred = []byte("0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789")

// BenchmarkH2Front sends batches of 16 requests over a real loopback connection and reads the answers.
func BenchmarkH2Front(b *testing.B) {
	limits := testLimits()
	rig := newH2Rig(b, limits, fixed)
	c, err := net.Dial("tcp", rig.addr)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	out := appendH2Head([]byte(h2Preface), 0, http2.FrameSettings, 0, 0)
	out = appendH2Head(out, 0, http2.FrameSettings, http2.FlagSettingsAck, 0)
	out = appendH2Window(out, 0, 1<<30)
	c.Write(out)
	var block []byte
	w := &sliceWriter{&block}
	enc := hpack.NewEncoder(w)
	fields := []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: "/some/path?x=1"}, {Name: ":authority", Value: rig.addr},
		{Name: "user-agent", Value: "h2load nghttp2/1.52.0"}, {Name: "accept", Value: "*/*"}}
	in := make([]byte, 0, 64<<10)
	const batch = 16
	b.ReportAllocs()
	b.ResetTimer()
	id := uint32(1)
	for i := 0; i < b.N; i += batch {
		out = out[:0]
		for range batch {
			block = block[:0]
			for _, f := range fields {
				enc.WriteField(f)
			}
			out = appendH2Block(out, block, http2.FlagHeadersEndStream, id)
			id += 2
		}
		if _, err := c.Write(out); err != nil {
			b.Fatal(err)
		}
		for ended := 0; ended < batch; {
			n, err := c.Read(in[len(in):cap(in)])
			if err != nil {
				b.Fatal(err)
			}
			in = in[:len(in)+n]
			r := 0
			for {
				f, n, err := parseH2Frame(in[r:])
				if err != nil {
					b.Fatal(err)
				}
				if n == 0 {
					break
				}
				r += n
				if f.id != 0 && f.has(http2.FlagDataEndStream) {
					ended++
				}
			}
			in = in[:copy(in[:cap(in)], in[r:])]
		}
	}
}

type sliceWriter struct{ b *[]byte }

func (w *sliceWriter) Write(p []byte) (int, error) {
	*w.b = append(*w.b, p...)
	return len(p), nil
}

var _ io.Writer = (*sliceWriter)(nil)

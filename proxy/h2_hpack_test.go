package proxy

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"

	"github.com/even-keel/evenkeel/wire"
)

// TestHpackAgainstXNet decodes what the encoder of golang.org/x/net makes of random fields, with evictions and changes of
// the table's size, over connections of many blocks.
func TestHpackAgainstXNet(t *testing.T) {
	names := []string{":path", ":authority", "accept", "cookie", "user-agent", "x-a", "x-some-longer-name", "x-b"}
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var buf bytes.Buffer
		enc := hpack.NewEncoder(&buf)
		var dec hpackDecoder
		var got h2Fields
		for block := range 200 {
			buf.Reset()
			if rng.IntN(20) == 0 {
				enc.SetMaxDynamicTableSize(uint32(rng.IntN(hpackTableSize + 1)))
			}
			var want []string
			for range rng.IntN(12) {
				n, size := names[rng.IntN(len(names))], rng.IntN(40)
				if rng.IntN(50) == 0 {
					size = rng.IntN(6000)
				}
				v := make([]byte, size)
				for i := range v {
					v[i] = byte(rng.IntN(256))
					if rng.IntN(4) > 0 {
						v[i] = 'a' + v[i]%3
					}
				}
				if rng.IntN(3) == 0 {
					v = []byte("again")
				}
				want = append(want, n+"="+string(v))
				enc.WriteField(hpack.HeaderField{Name: n, Value: string(v), Sensitive: rng.IntN(5) == 0})
			}
			got.reset(1<<20, 1000)
			if err := dec.decode(buf.Bytes(), &got); err != nil {
				t.Fatalf("seed %d block %d: %v", seed, block, err)
			}
			var have []string
			for _, f := range got.list {
				have = append(have, string(f.Name)+"="+string(f.Value))
				if f.ID != fieldID(f.Name) {
					t.Fatalf("%s has ID %d", f.Name, f.ID)
				}
			}
			if strings.Join(have, "\n") != strings.Join(want, "\n") {
				t.Fatalf("seed %d block %d:\n%q, want\n%q", seed, block, have, want)
			}
		}
		if len(dec.ents) > 0 && cap(dec.buf) > 3*hpackTableSize {
			t.Errorf("the table takes %d bytes", cap(dec.buf))
		}
	}
}

// TestHpackEncoder has x/net read what the encoder writes.
func TestHpackEncoder(t *testing.T) {
	dec := hpack.NewDecoder(hpackTableSize, nil)
	for status := 100; status < 1000; status++ {
		got, err := dec.DecodeFull(appendHpackStatus(nil, status))
		if err != nil || len(got) != 1 || got[0].Name != ":status" || got[0].Value != fmt.Sprint(status) {
			t.Fatal(status, got, err)
		}
	}
	for _, name := range []string{"Content-Type", "Set-Cookie", "x-own", "X-Own", "Date", "Server", "Authorization", strings.Repeat("N", 300)} {
		for _, size := range []int{0, 1, 126, 127, 128, 255, 20_000} {
			v := strings.Repeat("v", size)
			got, err := dec.DecodeFull(appendHpackField(nil, &wire.Field{Name: []byte(name), Value: []byte(v), ID: wire.FieldID([]byte(name))}))
			if err != nil || len(got) != 1 || got[0].Name != strings.ToLower(name) || got[0].Value != v {
				t.Fatal(name, size, got, err)
			}
			if secret := name == "Authorization" || name == "Set-Cookie"; got[0].Sensitive != secret {
				t.Error(name, "sensitive", got[0].Sensitive)
			}
		}
	}
}

func TestHuffmanEveryByte(t *testing.T) {
	for a := range 256 {
		for b := range 256 {
			s := string([]byte{byte(a), byte(b), byte(a)})
			got, ok := appendHuffman(nil, hpack.AppendHuffmanString(nil, s))
			if !ok || string(got) != s {
				t.Fatalf("%q became %q, %v", s, got, ok)
			}
		}
	}
	for _, bad := range []string{"\xff\xff\xff\xff", "\x00", "\x1f\xff"} { // EOS, padding of zeros, padding of a byte
		if _, ok := appendHuffman(nil, []byte(bad)); ok {
			t.Errorf("%x was taken", bad)
		}
	}
}

func BenchmarkHpackDecode(b *testing.B) {
	var buf bytes.Buffer
	enc := hpack.NewEncoder(&buf)
	write := func() {
		for _, kv := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":path", "/some/path?with=query"}, {":authority", "shop.example:8443"},
			{"user-agent", "Mozilla/5.0 (X11; Linux x86_64)"}, {"accept", "text/html,*/*"}, {"x-request-start", "t=1234567890"}} {
			enc.WriteField(hpack.HeaderField{Name: kv[0], Value: kv[1]})
		}
	}
	write()
	var d hpackDecoder
	var f h2Fields
	f.reset(1<<16, 100)
	d.decode(buf.Bytes(), &f)
	buf.Reset()
	write()
	b.ReportAllocs()
	for b.Loop() {
		f.reset(1<<16, 100)
		if d.decode(buf.Bytes(), &f) != nil || len(f.list) != 7 {
			b.Fatal("bad")
		}
	}
}

package wire

import (
	"io"
	"testing"
)

// Heads as they come: a load generator's, a browser's, and two answers.
const (
	shortHead   = "GET /index.html HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n"
	browserHead = "GET /en-US/docs/Web/HTTP/Headers?lang=en&theme=dark HTTP/1.1\r\n" +
		"Host: shop.example\r\n" +
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n" +
		"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/png,*/*;q=0.8\r\n" +
		"Accept-Language: en-US,en;q=0.5\r\n" +
		"Accept-Encoding: gzip, deflate, br, zstd\r\n" +
		"Referer: https://shop.example/en-US/docs/Web/HTTP\r\n" +
		"Connection: keep-alive\r\n" +
		"Cookie: session=0b1946ac92492d2347c6235b4d2611184f1e0f7c; theme=dark; consent=all; _id=GA1.2.1234567890.1700000000\r\n" +
		"Upgrade-Insecure-Requests: 1\r\n" +
		"Sec-Fetch-Dest: document\r\n" +
		"Sec-Fetch-Mode: navigate\r\n" +
		"Sec-Fetch-Site: same-origin\r\n" +
		"Sec-Fetch-User: ?1\r\n" +
		"Priority: u=0, i\r\n" +
		"If-None-Match: \"5f3e8c1a2b\"\r\n\r\n"
	shortAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
	usualAnswer = "HTTP/1.1 200 OK\r\nServer: nginx/1.27.0\r\nDate: Mon, 01 Sep 2025 10:00:00 GMT\r\nContent-Type: text/html; charset=utf-8\r\n" +
		"Content-Length: 10240\r\nLast-Modified: Sun, 31 Aug 2025 10:00:00 GMT\r\nConnection: keep-alive\r\n" +
		"ETag: \"66d2f0a0-2800\"\r\nAccept-Ranges: bytes\r\n\r\n"
	chunkedBody = "400\r\n" + k1 + "\r\n400\r\n" + k1 + "\r\n1f\r\n0123456789abcdef0123456789abcde\r\n0\r\n\r\n"
	k1          = k256 + k256 + k256 + k256
	k256        = k64 + k64 + k64 + k64
	k64         = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)

func BenchmarkParseRequest(b *testing.B) {
	for _, c := range []struct{ name, head string }{{"short", shortHead}, {"browser", browserHead}} {
		b.Run(c.name, func(b *testing.B) {
			in := []byte(c.head)
			var r Request
			b.ReportAllocs()
			b.SetBytes(int64(len(in)))
			for b.Loop() {
				if n, err := r.Parse(in, usual); n != len(in) || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}

func BenchmarkParseResponse(b *testing.B) {
	for _, c := range []struct{ name, head string }{{"short", shortAnswer}, {"usual", usualAnswer}} {
		b.Run(c.name, func(b *testing.B) {
			in := []byte(c.head)
			var r Response
			b.ReportAllocs()
			b.SetBytes(int64(len(in)))
			for b.Loop() {
				if n, err := r.Parse(in, usual); n != len(in) || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}

func BenchmarkChunks(b *testing.B) {
	in := []byte(chunkedBody)
	var c Chunks
	b.ReportAllocs()
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		if n, err := drain(&c, in); n != len(in) || err != io.EOF {
			b.Fatal(n, err)
		}
	}
}

func drain(c *Chunks, in []byte) (n int, err error) {
	c.Reset(usual)
	for {
		_, used, err := c.Next(in[n:])
		n += used
		if err != nil || used == 0 {
			return n, err
		}
	}
}

func BenchmarkAppendFields(b *testing.B) {
	var r Request
	if _, err := r.Parse([]byte(browserHead), usual); err != nil {
		b.Fatal(err)
	}
	dst := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		AppendFields(dst[:0], r.Fields)
	}
}

func BenchmarkFieldID(b *testing.B) {
	names := [][]byte{[]byte("Host"), []byte("User-Agent"), []byte("Accept-Language"), []byte("X-Forwarded-For"), []byte("Sec-Fetch-Mode")}
	for b.Loop() {
		for _, name := range names {
			FieldID(name)
		}
	}
}

// TestNothingIsAllocated holds the promise of the hot path.
func TestNothingIsAllocated(t *testing.T) {
	var r Request
	var a Response
	var c Chunks
	dst := make([]byte, 0, 4096)
	short, browser, answer := []byte(shortHead), []byte(browserHead), []byte(usualAnswer)
	upgrade := []byte("GET http://[::1]:80/ HTTP/1.1\r\nHost: [::1]:80\r\nConnection: X-A, upgrade\r\nUpgrade: websocket\r\n\r\n")
	broken := []byte("GET / HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n")
	body := []byte("5;a=\"b\"\r\nhello\r\n0\r\nX-Sum: 1\r\nHost: b\r\n\r\n")
	for name, f := range map[string]func(){
		"short":    func() { r.Parse(short, usual) },
		"browser":  func() { r.Parse(browser, usual) },
		"upgrade":  func() { r.Parse(upgrade, usual); r.NamedByConnection(short[:4]) },
		"broken":   func() { r.Parse(broken, usual) },
		"partial":  func() { r.Parse(browser[:100], usual); r.Parse(browser[:200], usual); r.Parse(browser, usual) },
		"response": func() { a.Parse(answer, usual); a.Parse(broken, usual); a.Parse(answer, usual) },
		"chunks":   func() { drain(&c, body) },
		"write": func() {
			d := AppendStatusLine(dst[:0], 200)
			d = AppendFields(d, a.Fields)
			d = AppendChunkHead(d, 1000)
			d = AppendRequestLine(d, short[:3], short[4:5])
			AppendInt(d, 1<<40)
		},
	} {
		f()
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

package e2e_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// both runs a test on every way to a service, with HTTP/1.1 and with HTTP/2 behind.
func both(t *testing.T, h http.HandlerFunc, test func(t *testing.T, f front)) {
	t.Helper()
	a := newAuthority(t)
	cert, key := a.pair("web", "localhost", "127.0.0.1")
	address := service(t, h)
	for _, speak := range []string{"h1", "h2"} {
		g := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0"}, secure: {listen: "127.0.0.1:0", tls: {certificates: [{cert: %q, key: %q}]}}}
pools: {service: {endpoints: [%q], http: %s}}
`, cert, key, address, speak))
		for _, f := range fronts(t, g, a) {
			t.Run(f.name+" to "+speak, func(t *testing.T) { test(t, f) })
		}
	}
}

// TestEvents sends server-sent events of which each waits until the client has read the one before.
func TestEvents(t *testing.T) {
	read := make(chan struct{})
	both(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 20 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			if http.NewResponseController(w).Flush() != nil {
				return
			}
			select {
			case <-read:
			case <-r.Context().Done():
				return
			}
		}
	}, func(t *testing.T, f front) {
		resp, err := f.client.Do(f.request(t, "GET", "/", nil, "Accept", "text/event-stream"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if kind := resp.Header.Get("Content-Type"); kind != "text/event-stream" {
			t.Errorf("Content-Type is %q", kind)
		}
		in := bufio.NewReader(resp.Body)
		for i := range 20 {
			line, err := in.ReadString('\n')
			if blank, err2 := in.ReadString('\n'); err != nil || err2 != nil || line != fmt.Sprintf("data: %d\n", i) || blank != "\n" {
				t.Fatalf("event %d is %q, %v", i, line, err)
			}
			read <- struct{}{}
		}
		if rest, err := io.ReadAll(in); len(rest) > 0 || err != nil {
			t.Errorf("after the events: %q, %v", rest, err)
		}
	})
}

// TestUpload sends bodies whose length is not known before, and looks at what arrives; trailers travel both ways.
func TestUpload(t *testing.T) {
	both(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		sum := sha256.New()
		n, err := io.Copy(sum, r.Body)
		if err != nil {
			return
		}
		fmt.Fprintf(w, "%d bytes, length %d, trailer %s", n, r.ContentLength, r.Trailer.Get("X-Told"))
		w.Header().Set("X-Sum", hex.EncodeToString(sum.Sum(nil)))
		w.Header().Set(http.TrailerPrefix+"X-Late", "unannounced")
	}, func(t *testing.T, f front) {
		for _, size := range []int{0, 1, 1000, 65_536, 5_000_000} {
			body := bytes.Repeat([]byte{'u'}, size)
			r := f.request(t, "POST", "/up", struct{ io.Reader }{bytes.NewReader(body)})
			r.Trailer = http.Header{"X-Told": nil}
			r.Body = &atEnd{r.Body, func() { r.Trailer.Set("X-Told", "after all") }}
			resp, got := f.ask(t, r)
			sum := sha256.Sum256(body)
			if want := strconv.Itoa(size) + " bytes, length -1, trailer after all"; got != want {
				t.Errorf("%d bytes: %q, want %q", size, got, want)
			}
			if resp.Trailer.Get("X-Sum") != hex.EncodeToString(sum[:]) || resp.Trailer.Get("X-Late") != "unannounced" {
				t.Errorf("%d bytes: the trailers are %v", size, resp.Trailer)
			}
		}
	})
}

// atEnd calls f before it says that a body is over.
type atEnd struct {
	io.ReadCloser
	f func()
}

func (a *atEnd) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	if err == io.EOF {
		a.f()
	}
	return n, err
}

// TestTalk has a service that answers while the body still comes: every part is answered before the next is sent.
func TestTalk(t *testing.T) {
	both(t, func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		_ = c.EnableFullDuplex()
		w.WriteHeader(200)
		_ = c.Flush()
		for in := bufio.NewReader(r.Body); ; {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			fmt.Fprint(w, strings.ToUpper(line))
			_ = c.Flush()
		}
	}, func(t *testing.T, f front) {
		from, to := io.Pipe()
		resp, err := f.client.Do(f.request(t, "POST", "/", from))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		in := bufio.NewReader(resp.Body)
		for i := range 20 {
			fmt.Fprintf(to, "line %d\n", i)
			if line, err := in.ReadString('\n'); err != nil || line != fmt.Sprintf("LINE %d\n", i) {
				t.Fatalf("line %d came back as %q, %v", i, line, err)
			}
		}
		to.Close()
		if rest, err := io.ReadAll(in); len(rest) > 0 || err != nil {
			t.Errorf("at the end: %q, %v", rest, err)
		}
	})
}

// TestEarlyAnswer has a service that refuses an upload without reading it: the client gets the answer.
func TestEarlyAnswer(t *testing.T) {
	both(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		http.Error(w, "no", http.StatusForbidden)
	}, func(t *testing.T, f front) {
		r := f.request(t, "POST", "/", &zeros{3_000_000}, "Expect", "100-continue")
		r.ContentLength = 3_000_000
		if resp, body := f.ask(t, r); resp.StatusCode != 403 || body != "no\n" {
			t.Errorf("the answer is %s %q", resp.Status, body)
		}
	})
}

// TestCurlExpect uploads with Expect: 100-continue, which a service grants or denies.
func TestCurlExpect(t *testing.T) {
	g := run(t, "--listen", "127.0.0.1:0", "--to", "http://"+service(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			http.Error(w, "no", http.StatusExpectationFailed)
			return
		}
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%d %s", n, r.Header.Get("Transfer-Encoding"))
	}))
	file := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(file, make([]byte, 2_000_000), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"--http1.1", "--http2-prior-knowledge"} {
		out := tool(t, "curl", "-sSv", version, "--expect100-timeout", "10", "--max-time", "9", "-H", "Expect: 100-continue", "-T", file, "http://"+g.at["web"]+"/yes")
		if !strings.Contains(out, "2000000") || !regexpContinue(out) {
			t.Errorf("%s, granted:\n%s", version, out)
		}
		if version == "--http1.1" { // over HTTP/2, curl 7.88 sends at once and takes RST_STREAM(NO_ERROR) behind the answer for a failure
			out = tool(t, "curl", "-sS", version, "--expect100-timeout", "10", "--max-time", "9", "-H", "Expect: 100-continue", "-T", file, "-w", "%{http_code} %{size_upload}", "http://"+g.at["web"]+"/no")
			if !strings.Contains(out, "417 0") {
				t.Errorf("%s, denied:\n%s", version, out)
			}
		}
		out = tool(t, "curl", "-sS", version, "--max-time", "9", "-H", "Transfer-Encoding: chunked", "-T", file, "http://"+g.at["web"]+"/yes")
		if !strings.Contains(out, "2000000") {
			t.Errorf("%s, chunked:\n%s", version, out)
		}
	}
}

// regexpContinue reports whether curl, talking of what it sees, saw 100 Continue.
func regexpContinue(talk string) bool {
	return strings.Contains(talk, "< HTTP/1.1 100 Continue") || strings.Contains(talk, "< HTTP/2 100")
}

// TestRawConnection holds one connection of HTTP/1.1 and does what no library does: pipelining, half-closing, and early
// hints before the answer.
func TestRawConnection(t *testing.T) {
	g := run(t, "--listen", "127.0.0.1:0", "--to", "http://"+service(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hint" {
			w.Header().Set("Link", "</style.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
		}
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s;", r.Method, r.URL.Path, body)
	}))
	c, err := net.Dial("tcp", g.at["web"])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var out strings.Builder
	for i := range 5 {
		fmt.Fprintf(&out, "POST /%d HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /%d HTTP/1.1\r\nHost: x\r\n\r\n", i, i)
	}
	out.WriteString("GET /hint HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := io.WriteString(c, out.String()); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil { // the answers must still come
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	for i := range 11 {
		resp, err := http.ReadResponse(in, nil)
		if err == nil && resp.StatusCode == 103 {
			if link := resp.Header.Get("Link"); i != 10 || link != "</style.css>; rel=preload" {
				t.Errorf("hints with answer %d: %q", i, link)
			}
			resp, err = http.ReadResponse(in, nil)
		} else if i == 10 {
			t.Error("the early hints did not come")
		}
		if err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		body, err := io.ReadAll(resp.Body)
		want := map[bool]string{true: fmt.Sprintf("POST /%d abc;", i/2), false: fmt.Sprintf("GET /%d ;", i/2)}[i%2 == 0]
		if i == 10 {
			want = "GET /hint ;"
		}
		if err != nil || string(body) != want {
			t.Errorf("answer %d is %q, %v, want %q", i, body, err, want)
		}
	}
	if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last answer: %v", err)
	}
}

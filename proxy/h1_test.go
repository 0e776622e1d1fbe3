package proxy

import (
	"bufio"
	"bytes"
	"flag"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

var update = flag.Bool("update", false, "rewrite the expected parts of scenarios")

// testDeadline bounds every wait of a test: reaching it is a failure, never a pass.
const testDeadline = 10 * time.Second

func h1Limits() site.Limits {
	return site.Limits{
		Connections: 1000, ConnectionsPerIP: 1000, HandshakeTimeout: 5 * time.Second, HeaderBytes: 16 << 10, Headers: 100,
		HeaderTimeout: 5 * time.Second, IdleTimeout: 5 * time.Second, MinRate: 240, Streams: 100,
	}
}

func h1Pool() *site.Pool {
	return &site.Pool{
		Name: "test", HTTP: "h1", ProxyProtocol: "off", Connections: site.Connections{Max: 100, Idle: 10},
		Timeouts: site.Timeouts{Connect: time.Second, FirstByte: 2 * time.Second, Idle: 2 * time.Second, KeepAlive: 5 * time.Second},
	}
}

// endpoint is a scripted HTTP/1.1 endpoint: it records what it is sent and answers with given bytes.
type endpoint struct {
	ln      net.Listener
	answers [][]byte // one for each request, then the connection is closed
	seen    chan []byte
}

func startEndpoint(t *testing.T, answers ...string) *endpoint {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &endpoint{ln: ln, seen: make(chan []byte, 100)}
	for _, a := range answers {
		e.answers = append(e.answers, []byte(a))
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			e.serve(c)
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return e
}

// serve answers requests of one connection, in order, until the script is over.
func (e *endpoint) serve(c net.Conn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(testDeadline))
	r := bufio.NewReader(c)
	for len(e.answers) > 0 {
		request, err := readMessage(r)
		if err != nil {
			return
		}
		e.seen <- request
		answer := e.answers[0]
		e.answers = e.answers[1:]
		c.Write(answer)
		if bytes.Contains(answer, []byte("Connection: close")) {
			return
		}
	}
}

// readMessage reads one request with its body, as the bytes on the wire.
func readMessage(r *bufio.Reader) ([]byte, error) {
	var raw []byte
	length, chunked := 0, false
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		raw = append(raw, line...)
		text := strings.ToLower(strings.TrimSpace(string(line)))
		if v, ok := strings.CutPrefix(text, "content-length: "); ok {
			length, _ = strconv.Atoi(v)
		}
		chunked = chunked || text == "transfer-encoding: chunked"
		if text == "" {
			break
		}
	}
	if chunked {
		for !bytes.HasSuffix(raw, []byte("0\r\n\r\n")) && !regexp.MustCompile(`0\r\n([^\r]+\r\n)+\r\n$`).Match(raw) {
			line, err := r.ReadBytes('\n')
			if err != nil {
				return nil, err
			}
			raw = append(raw, line...)
		}
		return raw, nil
	}
	body := make([]byte, length)
	_, err := io.ReadFull(r, body)
	return append(raw, body...), err
}

// sendTo is the shortest list of stages: everything goes to one endpoint.
func sendTo(t *testing.T, p *Proxy, pool *site.Pool, address string, route *exchange.Route) exchange.Handler {
	t.Helper()
	u, err := p.Upstream(pool)
	if err != nil {
		t.Fatal(err)
	}
	e := &exchange.Endpoint{Pool: pool.Name, Address: address}
	u.Attach(e)
	t.Cleanup(u.Close)
	return func(x *exchange.Exchange) *exchange.Refusal {
		x.Endpoint, x.Route = e, route
		x.Path, _, _ = bytes.Cut(x.Request.Target, []byte("?"))
		return Send(x)
	}
}

// TestH1Scenarios runs testdata/h1/*.txt: what a client sends, what the endpoint sees and
// answers, what the client gets. Lines end with CRLF on the wire.
func TestH1Scenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/h1/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			runScenario(t, file, a)
		})
	}
}

func runScenario(t *testing.T, file string, a *txtar.Archive) {
	var client []byte
	var answers []string
	for _, f := range a.Files {
		switch f.Name {
		case "client":
			client = wireBytes(f.Data)
		case "answer":
			answers = append(answers, string(wireBytes(f.Data)))
		}
	}
	e := startEndpoint(t, answers...)
	p, addr := startProxy(t, h1Limits(), nil)
	p.setHandler(sendTo(t, p.Proxy, h1Pool(), e.ln.Addr().String(), scenarioRoute(string(a.Comment))))
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(testDeadline))
	if _, err := c.Write(client); err != nil {
		t.Fatal(err)
	}
	c.(*net.TCPConn).CloseWrite()
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("read the answer: %v (so far %q)", err, got)
	}
	hide := strings.NewReplacer(addr, "CLIENT", e.ln.Addr().String(), "ENDPOINT")
	result := &txtar.Archive{Comment: a.Comment}
	for _, f := range a.Files {
		switch f.Name {
		case "client", "answer":
			result.Files = append(result.Files, f)
		}
	}
	close(e.seen)
	for request := range e.seen {
		result.Files = append(result.Files, txtar.File{Name: "endpoint sees", Data: textBytes(hide, request)})
	}
	result.Files = append(result.Files, txtar.File{Name: "client sees", Data: textBytes(hide, got)})
	text := txtar.Format(result)
	if *update {
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want := txtar.Format(a); !bytes.Equal(text, want) {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}

// testProxy is a running Proxy with one listener whose handler a test sets.
type testProxy struct {
	*Proxy
	handler atomic.Pointer[exchange.Handler]
}

func (p *testProxy) setHandler(h exchange.Handler) { p.handler.Store(&h) }

func startProxy(t *testing.T, limits site.Limits, h exchange.Handler) (*testProxy, string) {
	t.Helper()
	p := &testProxy{Proxy: started(t, Deps{})}
	p.setHandler(h)
	cfg := testListener("web", site.ProtocolHTTP)
	cfg.Limits = limits
	return p, serving(t, p.Proxy, cfg, func(x *exchange.Exchange) *exchange.Refusal { return (*p.handler.Load())(x) })
}

// scenarioRoute makes the route that the first line of a scenario asks for.
func scenarioRoute(comment string) *exchange.Route {
	r := &exchange.Route{Name: "test"}
	for _, word := range strings.Fields(comment) {
		switch k, v, _ := strings.Cut(word, "="); k {
		case "host":
			r.Host = []byte(v)
		case "path":
			r.Path = []byte(v)
		case "strip":
			r.StripPrefix, r.Prefix = len(v), []byte{}
		case "max":
			r.MaxBody, _ = strconv.ParseInt(v, 10, 64)
		case "remove":
			r.Request.Remove, r.Response.Remove = []string{v}, []string{v}
		}
	}
	return r
}

// wireBytes turns the lines of a scenario into bytes: CRLF, with \n at a line's end meaning a bare LF and
// a last line of \c meaning that the text ends without a line end.
func wireBytes(text []byte) []byte {
	s := strings.ReplaceAll(string(text), "\n", "\r\n")
	s = strings.ReplaceAll(s, "\\n\r\n", "\n")
	return []byte(strings.ReplaceAll(s, "\\c\r\n", ""))
}

var dateLine = regexp.MustCompile(`Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT`)

func textBytes(hide *strings.Replacer, raw []byte) []byte {
	s := hide.Replace(strings.ReplaceAll(string(raw), "\r\n", "\n"))
	s = dateLine.ReplaceAllString(s, "Date: NOW")
	if !strings.HasSuffix(s, "\n") {
		s += "\\c\n"
	}
	return []byte(s)
}

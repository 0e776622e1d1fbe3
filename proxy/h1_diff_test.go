package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

var (
	diffExchanges = flag.Int("exchanges", 800, "exchanges of the randomized end-to-end tests")
	diffSeed      = flag.Uint64("seed", 1, "seed of the randomized end-to-end tests")
)

const (
	// diffPatience is for how long the proxy under test waits where faults are. On a machine under load an exchange
	// without a fault may need longer, which the client then must see.
	diffPatience = 150 * time.Millisecond
	diffDeadline = time.Minute
)

// plan is one exchange, made of a seed and its number alone, so that client and endpoint agree on it without talking.
type plan struct {
	id               int
	method           string
	minor            int
	body, answer     []byte
	chunked          bool // the request body
	trailer          bool
	expect           bool
	last             bool // the client asks to end the connection
	status           int
	framing          string // of the answer: length, chunked, close, old (HTTP/1.0 with a length)
	answerTrailer    bool
	answerClose      bool
	informational    int
	clientCut, cut   int    // faults: after how many bytes the client or the endpoint fails; -1: never
	clientHow, how   string // reset, close or stall
	endpointReadsAll bool
}

func makePlan(seed uint64, id int, faults bool) *plan {
	r := rand.New(rand.NewPCG(seed, uint64(id)))
	p := &plan{id: id, minor: 1, clientCut: -1, cut: -1, endpointReadsAll: true}
	p.method = []string{"GET", "GET", "HEAD", "POST", "POST", "PUT", "DELETE", "OPTIONS", "X-OWN"}[r.IntN(9)]
	size := func() int {
		switch r.IntN(6) {
		case 0:
			return 0
		case 1, 2:
			return r.IntN(20)
		case 3, 4:
			return r.IntN(20 << 10)
		}
		return r.IntN(300 << 10)
	}
	if p.method != "HEAD" && (p.method != "GET" || r.IntN(4) == 0) {
		p.body = randomBytes(r, size())
		p.chunked = r.IntN(2) == 0
		p.trailer = p.chunked && r.IntN(3) == 0
		p.expect = r.IntN(8) == 0 && len(p.body) > 0
	}
	p.answer = randomBytes(r, size())
	p.status = []int{200, 200, 200, 201, 204, 304, 404, 500}[r.IntN(8)]
	p.framing = []string{"length", "length", "length", "chunked", "chunked", "close", "old"}[r.IntN(7)]
	p.answerTrailer = p.framing == "chunked" && r.IntN(3) == 0
	p.answerClose = r.IntN(10) == 0
	if r.IntN(6) == 0 {
		p.informational = 1 + r.IntN(3)
	}
	p.last = r.IntN(25) == 0
	if !p.chunked && !p.expect && r.IntN(12) == 0 {
		p.minor, p.last = 0, true
	}
	if faults {
		how := func() string { return []string{"reset", "close", "close", "stall"}[r.IntN(4)] }
		if r.IntN(5) == 0 {
			p.cut, p.how = r.IntN(300+len(p.answer)), how()
			p.endpointReadsAll = r.IntN(4) > 0
		} else if r.IntN(7) == 0 {
			p.clientCut, p.clientHow = r.IntN(200+len(p.body)), how()
		}
	}
	return p
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	if n > 8 && r.IntN(3) == 0 { // what a careless reader would take for the end of chunks
		copy(b[n-5:], "0\r\n\r\n")
	}
	return b
}

// request is what the client sends.
func (p *plan) request(r *rand.Rand) []byte {
	b := fmt.Appendf(nil, "%s /p/%d HTTP/1.%d\r\nHost: a\r\nX-Id: %d\r\n", p.method, p.id, p.minor, p.id)
	switch {
	case p.minor == 0 && r.IntN(2) == 0:
		b = append(b, "Connection: keep-alive\r\n"...)
	case p.last && p.minor == 1:
		b = append(b, "Connection: close\r\n"...)
	}
	if p.expect {
		b = append(b, "Expect: 100-continue\r\n"...)
	}
	switch {
	case p.chunked:
		b = append(b, "Transfer-Encoding: chunked\r\n\r\n"...)
		return appendChunked(b, p.body, p.trailer, r)
	case p.body != nil:
		b = fmt.Appendf(b, "Content-Length: %d\r\n", len(p.body))
	}
	return append(append(b, "\r\n"...), p.body...)
}

// bodyless reports whether the answer must not have a body.
func (p *plan) bodyless() bool { return p.method == "HEAD" || p.status == 204 || p.status == 304 }

// response is what the endpoint sends; ends says that it then closes.
func (p *plan) response(r *rand.Rand) (b []byte, ends bool) {
	for i := range p.informational {
		b = fmt.Appendf(b, "HTTP/1.1 %d \r\nX-Hint: %d\r\n\r\n", 102+i%2, i)
	}
	minor := 1
	if p.framing == "old" || p.framing == "close" && r.IntN(2) == 0 {
		minor = 0
	}
	b = fmt.Appendf(b, "HTTP/1.%d %d Some Reason\r\nX-Id: %d\r\n", minor, p.status, p.id)
	framing := p.framing
	if p.bodyless() && framing == "close" {
		framing = "length"
	}
	if minor == 0 && framing != "close" {
		b = append(b, "Connection: keep-alive\r\n"...)
	} else if p.answerClose {
		b, ends = append(b, "Connection: close\r\n"...), true
	}
	switch {
	case p.status == 204:
		return append(b, "\r\n"...), ends
	case framing == "chunked" && p.bodyless():
		return append(b, "Transfer-Encoding: chunked\r\n\r\n"...), ends
	case framing == "chunked":
		return appendChunked(append(b, "Transfer-Encoding: chunked\r\n\r\n"...), p.answer, p.answerTrailer, r), ends
	case framing == "close":
		return append(append(b, "\r\n"...), p.answer...), true
	}
	b = fmt.Appendf(b, "Content-Length: %d\r\n\r\n", len(p.answer))
	if p.bodyless() {
		return b, ends
	}
	return append(b, p.answer...), ends
}

func appendChunked(b, body []byte, trailer bool, r *rand.Rand) []byte {
	for len(body) > 0 {
		n := 1 + r.IntN(len(body))
		if r.IntN(2) == 0 {
			n = min(n, 1+r.IntN(100))
		}
		b = strconv.AppendInt(b, int64(n), 16)
		if r.IntN(10) == 0 {
			b = append(b, ";ext=\"a b\""...)
		}
		b = append(append(append(b, "\r\n"...), body[:n]...), "\r\n"...)
		body = body[n:]
	}
	b = append(b, "0\r\n"...)
	if trailer {
		b = append(b, "X-Check: sum\r\n"...)
	}
	return append(b, "\r\n"...)
}

// dribble writes b in random pieces with random pauses, and fails after cut bytes as how says.
func dribble(c net.Conn, r *rand.Rand, b []byte, cut int, how string, stall time.Duration) bool {
	for done := 0; done < len(b); {
		n := len(b) - done
		switch r.IntN(3) {
		case 0:
			n = min(n, 1+r.IntN(50))
		case 1:
			n = min(n, 1+r.IntN(30<<10))
		}
		if cut >= 0 && done+n > cut {
			c.Write(b[done:max(cut, done)])
			fail(c, how, stall)
			return false
		}
		if _, err := c.Write(b[done : done+n]); err != nil {
			return false
		}
		done += n
		if done < len(b) && r.IntN(6) == 0 {
			<-time.After(time.Duration(r.IntN(300)) * time.Microsecond)
		}
	}
	return true
}

func fail(c net.Conn, how string, stall time.Duration) {
	switch how {
	case "reset":
		bare(c).(*net.TCPConn).SetLinger(0)
		bare(c).Close()
	case "stall":
		<-time.After(stall)
	}
	c.Close()
}

// diffRun is one randomized run.
type diffRun struct {
	t      *testing.T
	seed   uint64
	faults bool
	pair   *tls.Certificate // TLS on both sides; nil: plain
	mu     sync.Mutex
	seen   map[int]int // requests that the endpoint saw, by id
	bad    []string
	odd    []string // failed though nothing was planned to, as may be under load
}

func (d *diffRun) wonder(format string, args ...any) {
	d.mu.Lock()
	d.odd = append(d.odd, fmt.Sprintf(format, args...))
	d.mu.Unlock()
}

func (d *diffRun) complain(format string, args ...any) {
	d.mu.Lock()
	d.bad = append(d.bad, fmt.Sprintf(format, args...))
	d.mu.Unlock()
}

// endpoint serves one connection.
func (d *diffRun) endpoint(tcp *net.TCPConn) {
	tcp.SetDeadline(time.Now().Add(diffDeadline))
	var c net.Conn = tcp
	if d.pair != nil {
		c = tls.Server(tcp, &tls.Config{Certificates: []tls.Certificate{*d.pair}})
		defer c.Close()
	}
	in := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		id, err := strconv.Atoi(req.Header.Get("X-Id"))
		if err != nil {
			d.complain("the endpoint got a request without its number: %v", req)
			return
		}
		p := makePlan(d.seed, id, d.faults)
		d.mu.Lock()
		d.seen[id]++
		again := d.seen[id]
		d.mu.Unlock()
		r := rand.New(rand.NewPCG(d.seed, uint64(id)+1<<32))
		if p.expect && r.IntN(2) == 0 {
			io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
		}
		if p.endpointReadsAll {
			body, err := io.ReadAll(req.Body)
			if err != nil {
				if !d.faults {
					d.complain("exchange %d: the endpoint cannot read the body: %v", id, err)
				}
				return
			}
			if req.Method != p.method || req.RequestURI != fmt.Sprintf("/p/%d", id) || !bytes.Equal(body, p.body) {
				d.complain("exchange %d: the endpoint got %s %s with %d bytes, want %s with %d", id, req.Method, req.RequestURI, len(body), p.method, len(p.body))
			}
			if got := req.Trailer.Get("X-Check"); (got == "sum") != p.trailer {
				d.complain("exchange %d: the endpoint got the trailer %q", id, got)
			}
		}
		b, ends := p.response(r)
		if again > 1 {
			p.cut = -1 // a repeated request succeeds
		}
		if !dribble(c, r, b, p.cut, p.how, 2*diffPatience) || ends {
			return
		}
		io.Copy(io.Discard, req.Body)
	}
}

// client runs the exchanges of one connection from first on, and returns how many it did.
func (d *diffRun) client(addr string, first, most int) int {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		d.complain("dial: %v", err)
		return most
	}
	if d.pair != nil {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(diffDeadline))
	r := rand.New(rand.NewPCG(d.seed, uint64(first)+2<<32))
	in := bufio.NewReaderSize(c, 16+r.IntN(8000))
	for did := 0; did < most; {
		var batch []*plan
		for n := 1 + r.IntN(4); len(batch) < n && did+len(batch) < most; {
			p := makePlan(d.seed, first+did+len(batch), d.faults)
			batch = append(batch, p)
			if p.last || p.clientCut >= 0 {
				break
			}
		}
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			w := rand.New(rand.NewPCG(d.seed, uint64(batch[0].id)+3<<32))
			for _, p := range batch {
				if !dribble(c, w, p.request(w), p.clientCut, p.clientHow, 2*diffPatience) {
					return
				}
			}
		}()
		for i, p := range batch {
			if !d.receive(in, p) {
				c.Close()
				<-sent
				if !d.faults && i < len(batch)-1 {
					d.complain("exchange %d: the connection ended before exchange %d", p.id, batch[i+1].id)
				}
				return did + len(batch) // what was sent behind is lost, and must not come twice from here
			}
		}
		<-sent
		did += len(batch)
	}
	return most
}

// receive reads one answer and says whether the connection goes on.
func (d *diffRun) receive(in *bufio.Reader, p *plan) bool {
	for informational := 0; ; {
		resp, err := http.ReadResponse(in, &http.Request{Method: p.method})
		if err != nil {
			if !d.faults {
				d.complain("exchange %d (%s, answer %s): %v", p.id, p.method, p.framing, err)
			} else if err, ok := err.(net.Error); ok && err.Timeout() {
				d.complain("exchange %d hangs", p.id)
			}
			return false
		}
		if resp.StatusCode < 200 {
			if resp.StatusCode != 100 {
				informational++
			}
			continue
		}
		body, err := io.ReadAll(resp.Body)
		own := d.faults && resp.Header.Get("X-Id") == "" && resp.Header.Get("Content-Type") == "application/problem+json"
		switch {
		case own:
			if resp.StatusCode < 400 {
				d.complain("exchange %d was refused with %d %s", p.id, resp.StatusCode, body)
			}
			if p.cut < 0 && p.clientCut < 0 {
				d.wonder("exchange %d (%+.300v) was refused with %d %s", p.id, p, resp.StatusCode, body)
			}
			return err == nil && !resp.Close && p.clientCut < 0
		case err != nil:
			if !d.faults {
				d.complain("exchange %d: the answer's body: %v", p.id, err)
			} else if p.cut < 0 && p.clientCut < 0 {
				d.wonder("exchange %d (%s %s): the answer's body after %d of %d: %v", p.id, p.method, p.framing, len(body), len(p.answer), err)
			}
			return false
		}
		want := p.answer
		if p.bodyless() {
			want = nil
		}
		tail := p.framing == "close" && p.cut >= 0 && bytes.HasPrefix(want, body) // its end cannot be told from a cut by close
		if resp.Header.Get("X-Id") != strconv.Itoa(p.id) || resp.StatusCode != p.status || !bytes.Equal(body, want) && !tail {
			d.complain("exchange %d: got %d of exchange %s with %d bytes, want %d with %d", p.id, resp.StatusCode, resp.Header.Get("X-Id"), len(body), p.status, len(want))
			return false
		}
		if p.minor == 1 && !p.bodyless() && p.answerTrailer != (resp.Trailer.Get("X-Check") == "sum") {
			d.complain("exchange %d: trailer %q", p.id, resp.Trailer.Get("X-Check"))
		}
		if n := informational; p.minor == 1 && (n < p.informational || n > p.informational && !d.faults) || p.minor == 0 && n != 0 {
			d.complain("exchange %d: %d informational answers, want %d", p.id, informational, p.informational)
		}
		if resp.Close && !p.last && p.endpointReadsAll && p.clientCut < 0 {
			d.complain("exchange %d: the connection ends for no reason", p.id)
		}
		return !p.last && !resp.Close
	}
}

// run does n exchanges on several connections at once.
func (d *diffRun) run(addr string, n int) {
	const clients = 4
	var all sync.WaitGroup
	for k := range clients {
		all.Go(func() {
			first, end := k*n/clients, (k+1)*n/clients
			for first < end {
				first += d.client(addr, first, min(end-first, 40))
			}
		})
	}
	all.Wait()
}

func testDiff(t *testing.T, faults, secure bool, n int) {
	d := &diffRun{t: t, seed: *diffSeed, faults: faults, seen: map[int]int{}}
	cfg := testListener("web", site.ProtocolHTTP)
	cfg.Limits = h1Limits()
	if !faults {
		cfg.Limits.IdleTimeout, cfg.Limits.HeaderTimeout, cfg.Limits.MinRate = diffDeadline, diffDeadline, 0
	}
	if secure {
		pair := writeCert(t, t.TempDir(), "both", certOptions{names: []string{"a"}})
		d.pair = loaded(t, pair)
		cfg.TLS = &site.TLS{Certificates: []site.Certificate{pair}, ClientAuth: "none", MinVersion: "1.2"}
	}
	p := &testProxy{Proxy: started(t, Deps{})}
	addr := serving(t, p.Proxy, cfg, func(x *exchange.Exchange) *exchange.Refusal { return (*p.handler.Load())(x) })
	pool := h1Pool()
	if faults {
		pool.Timeouts.FirstByte, pool.Timeouts.Idle = diffPatience, diffPatience
	} else {
		pool.Timeouts.FirstByte, pool.Timeouts.Idle = diffDeadline, diffDeadline
	}
	if secure {
		pool.TLS = &site.EndpointTLS{}
	}
	u, err := p.Upstream(pool)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	e := &exchange.Endpoint{Pool: "test", Address: echoed(t, d.endpoint)}
	u.Attach(e)
	p.setHandler(func(x *exchange.Exchange) *exchange.Refusal {
		x.Endpoint = e
		return Send(x)
	})
	d.run(addr, n)
	d.judge(n)
	eventually(t, "all client connections end", func() bool { return statusOf(t, p.Proxy, "web").Open == 0 })
	eventually(t, "only unused connections to the endpoint are left", func() bool {
		s := u.Status()[0]
		return s.Open == int64(s.Idle)
	})
	u.Detach(e)
	eventually(t, "no connection to the endpoint is left", func() bool { return e.Link.(*Link).open.Load() == 0 })
	for i := range p.sweep.shards {
		s := &p.sweep.shards[i]
		s.mu.Lock()
		if n := len(s.list); n > 0 {
			t.Errorf("%d connections are still watched", n)
		}
		s.mu.Unlock()
	}
}

// judge says what was wrong.
func (d *diffRun) judge(n int) {
	d.mu.Lock() // the endpoint may still be at a request whose client failed
	defer d.mu.Unlock()
	t, faults := d.t, d.faults
	if len(d.bad) > 0 {
		t.Errorf("seed %d: %d faults, the first:\n%s", d.seed, len(d.bad), strings.Join(d.bad[:min(len(d.bad), 10)], "\n"))
	}
	for _, what := range d.odd {
		t.Log(what)
	}
	for id, times := range d.seen {
		if m := makePlan(d.seed, id, faults).method; times > 1 && (m == "POST" || m == "X-OWN") {
			t.Errorf("%s %d reached the endpoint %d times", m, id, times)
		}
	}
	if !faults && len(d.seen) != n {
		t.Errorf("the endpoint saw %d of %d exchanges", len(d.seen), n)
	}
}

// TestH1Differential carries random valid exchanges, in random pieces: what arrives equals what was sent.
func TestH1Differential(t *testing.T) { testDiff(t, false, false, *diffExchanges) }

// TestH1Faults has clients and endpoints reset, close and stall anywhere: never a wrong body, a hang, a repeated POST or a leak.
func TestH1Faults(t *testing.T) { testDiff(t, true, false, *diffExchanges/3) }

// TestH1OverTLS is both with TLS on both sides.
func TestH1OverTLS(t *testing.T) {
	testDiff(t, false, true, *diffExchanges/4)
	testDiff(t, true, true, *diffExchanges/8)
}

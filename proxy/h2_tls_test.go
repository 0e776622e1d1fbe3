package proxy

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// TestH2OverTLS goes through TLS and ALPN on both sides.
func TestH2OverTLS(t *testing.T) {
	end := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Proto", r.Proto)
		io.Copy(w, r.Body)
	}))
	end.EnableHTTP2 = true
	end.StartTLS()
	defer end.Close()
	p := started(t, Deps{})
	pool := testPool()
	pool.HTTP, pool.TLS = "auto", &site.EndpointTLS{Verify: false}
	pool.Connections.Max = 100 // the first requests each dial, before it is known that the endpoint speaks h2
	up, err := p.Upstream(pool)
	if err != nil {
		t.Fatal(err)
	}
	e := &exchange.Endpoint{Address: end.Listener.Addr().String()}
	up.Attach(e)
	h := func(x *exchange.Exchange) *exchange.Refusal {
		x.Endpoint = e
		return Send(x)
	}
	pair := writeCert(t, t.TempDir(), "front", certOptions{names: []string{"front.example"}})
	cfg := tlsListener(pair)
	cfg.Protocol, cfg.HTTP2, cfg.Limits = "http", true, testLimits()
	cfg.Limits.HandshakeTimeout = 5 * time.Second
	cfg.Limits.ConnectionsPerIP = 100
	addr := serving(t, p, cfg, h)
	pem, err := os.ReadFile(pair.Cert)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{ServerName: "front.example", InsecureSkipVerify: true, RootCAs: roots}}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr, Timeout: 10 * time.Second}
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			body := strings.Repeat("t", i*3001)
			res, err := client.Post("https://"+addr+"/", "text/plain", strings.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			got, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || string(got) != body || res.ProtoMajor != 2 || res.Header.Get("X-Proto") != "HTTP/2.0" {
				t.Errorf("%d: %d bytes, %s, %s, %v", i, len(got), res.Proto, res.Header.Get("X-Proto"), err)
			}
		})
	}
	wg.Wait()
}

// What is negotiated with endpoints says whether their connections carry many exchanges; it holds until they are gone or spoken to otherwise.
func TestUpstreamIsShared(t *testing.T) {
	p := started(t, Deps{})
	pool := testPool()
	pool.HTTP, pool.TLS = "auto", &site.EndpointTLS{Verify: false}
	up, err := p.Upstream(pool)
	if err != nil {
		t.Fatal(err)
	}
	ends := map[bool]*exchange.Endpoint{}
	for _, h2 := range []bool{true, false} {
		end := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		end.EnableHTTP2 = h2
		end.StartTLS()
		defer end.Close()
		ends[h2] = &exchange.Endpoint{Address: end.Listener.Addr().String()}
		up.Attach(ends[h2])
	}
	to := make(chan *exchange.Endpoint, 1)
	addr := serving(t, p, testListener("shared", "http"), func(x *exchange.Exchange) *exchange.Refusal {
		x.Endpoint = <-to
		return Send(x)
	})
	ask := func(e *exchange.Endpoint) {
		to <- e
		res, err := http.Get("http://" + addr)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	if up.Shared() {
		t.Error("shared before anything was negotiated")
	}
	ask(ends[true])
	if !up.Shared() {
		t.Error("not shared with HTTP/2")
	}
	ask(ends[false])
	if up.Shared() {
		t.Error("shared though one endpoint speaks HTTP/1.1")
	}
	up.Detach(ends[false])
	if !up.Shared() {
		t.Error("not shared after that one is gone")
	}
	h1 := *pool
	h1.HTTP = "h1"
	if err := up.Update(&h1); err != nil {
		t.Fatal(err)
	}
	if up.Shared() {
		t.Error("shared though nothing is spoken but HTTP/1.1")
	}
}

// TestH2IdleIsSmall: a connection that is open and quiet holds no buffers.
func TestH2IdleIsSmall(t *testing.T) {
	rig := newH2Rig(t, testLimits(), answerOnce)
	const n = 200
	settings := appendH2Head(appendH2Head([]byte(h2Preface), 0, 4, 0, 0), 0, 4, 1, 0)
	head := appendH2Block(nil, append([]byte{0x82, 0x86, 0x84, 0x41, 1, 'a', 0x40, 3, 'x', '-', 'a', 20}, bytes.Repeat([]byte("v"), 20)...), 5, 1)
	conns := make([]net.Conn, 0, n)
	measure := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapInuse + m.StackInuse)
	}
	var before int64
	for i := range 2 * n {
		if i == n {
			before = measure()
		}
		c, err := net.Dial("tcp", rig.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
		c.Write(append(settings[:len(settings):len(settings)], head...))
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		for got := make([]byte, 0, 256); !bytes.Contains(got, []byte{0x88}); {
			k, err := c.Read(got[len(got):cap(got)])
			if err != nil {
				t.Fatal(err)
			}
			got = got[:len(got)+k]
		}
	}
	// Both ends of the connection are in this process, and the test's accept goroutine too.
	if per := (measure() - before) / n; per > 12<<10 {
		t.Errorf("%d bytes per idle connection", per)
	} else {
		t.Log(strconv.FormatInt(per, 10), "bytes per idle connection, both ends")
	}
	runtime.KeepAlive(conns)
}

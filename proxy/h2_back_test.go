package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

func testPool() *site.Pool {
	return &site.Pool{Name: "p", HTTP: "h2", ProxyProtocol: "off", Connections: site.Connections{Max: 4, Idle: 4},
		Timeouts: site.Timeouts{Connect: 2 * time.Second, FirstByte: 5 * time.Second, Idle: 5 * time.Second, KeepAlive: 30 * time.Second}}
}

// h2Through makes a listener whose requests all go to one endpoint by HTTP/2.
func h2Through(t testing.TB, pool *site.Pool, address string) (*h2Rig, *exchange.Endpoint) {
	t.Helper()
	p := newH2Proxy(t)
	up, err := p.Upstream(pool)
	if err != nil {
		t.Fatal(err)
	}
	e := &exchange.Endpoint{Pool: pool.Name, Address: address}
	up.Attach(e)
	limits := testLimits()
	limits.Streams = 1000
	rig := newH2RigOn(t, p, limits, func(x *exchange.Exchange) *exchange.Refusal {
		x.Endpoint = e
		return Send(x)
	})
	t.Cleanup(func() { up.Detach(e) })
	return rig, e
}

// h2cServer serves handler over HTTP/2 without TLS.
func h2cServer(t testing.TB, handler http.HandlerFunc) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: handler, Protocols: new(http.Protocols), HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 50}}
	srv.Protocols.SetUnencryptedHTTP2(true)
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close() })
	return ln.Addr().String()
}

func TestH2ThroughBothEnds(t *testing.T) {
	addr := h2cServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/echo":
			w.Header().Set("Trailer", "X-Sum")
			n, _ := io.Copy(w, r.Body)
			w.Header().Set("X-Sum", strconv.FormatInt(n, 10)+r.Trailer.Get("X-In"))
		case "/early":
			w.Header().Set("X-Early", "1")
			w.WriteHeader(403)
		case "/hints":
			w.Header().Set("Link", "</style.css>")
			w.WriteHeader(103)
			w.WriteHeader(200)
		case "/slow":
			<-r.Context().Done()
		case "/cut":
			w.Header().Set("Content-Length", "100")
			w.Write(make([]byte, 10))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
	})
	pool := testPool()
	pool.Timeouts.FirstByte = 300 * time.Millisecond
	rig, e := h2Through(t, pool, addr)
	client := h2cClient(t)
	url := "http://" + rig.addr
	for _, size := range []int{0, 10, 100_000, 5 << 20} {
		body := bytes.Repeat([]byte("k"), size)
		req, _ := http.NewRequest("POST", url+"/echo", io.MultiReader(bytes.NewReader(body)))
		req.Trailer = http.Header{"X-In": {"!"}}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || !bytes.Equal(got, body) || res.Trailer.Get("X-Sum") != strconv.Itoa(size)+"!" {
			t.Errorf("%d bytes: %d back, trailer %v, %v", size, len(got), res.Trailer, err)
		}
	}
	res, err := client.Post(url+"/early", "text/plain", io.LimitReader(zeros{}, 10<<20))
	if err != nil || res.StatusCode != 403 {
		t.Errorf("early answer: %v %v", res, err)
	}
	if res, err := client.Get(url + "/hints"); err != nil || res.StatusCode != 200 {
		t.Errorf("hints: %v %v", res, err)
	}
	if res, err := client.Get(url + "/slow"); err != nil || res.StatusCode != 504 {
		t.Errorf("slow: %v %v", res, err)
	}
	if res, err := client.Get(url + "/cut"); err == nil {
		if got, err := io.ReadAll(res.Body); err == nil {
			t.Errorf("a cut answer looks whole: %d bytes", len(got))
		}
	}
	if s := e.Link.(*Link).h2.status(); s.Connections == 0 {
		t.Errorf("status %+v", s)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestH2BackOpensMore: when a connection is full another is opened, up to the limit, and requests beyond wait.
func TestH2BackOpensMore(t *testing.T) {
	var mu sync.Mutex
	at, peak := 0, 0
	gate := make(chan struct{})
	addr := h2cServer(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		at++
		peak = max(peak, at)
		if at == 180 {
			close(gate)
		}
		mu.Unlock()
		select {
		case <-gate:
		case <-time.After(5 * time.Second):
		}
		mu.Lock()
		at--
		mu.Unlock()
	})
	rig, e := h2Through(t, testPool(), addr)
	client := h2cClient(t)
	var wg sync.WaitGroup
	bad := 0
	for range 180 {
		wg.Go(func() {
			res, err := client.Get("http://" + rig.addr + "/")
			mu.Lock()
			defer mu.Unlock()
			if err != nil || res.StatusCode != 200 {
				bad++
				return
			}
			res.Body.Close()
		})
	}
	wg.Wait()
	if bad > 0 || peak < 180 {
		t.Errorf("%d failed, at most %d at once; %+v", bad, peak, e.Link.(*Link).h2.status())
	}
}

// TestH2BackRefused: what the endpoint refused, or never saw, is told as unsent.
func TestH2BackRefused(t *testing.T) {
	for _, m := range []string{"refused", "goaway", "close", "reset", "bad", "settings"} {
		t.Run(m, func(t *testing.T) {
			endpoint := echoed(t, func(c *net.TCPConn) { refusingServer(c, m) })
			results := make(chan exchange.Result, 1)
			p := newH2Proxy(t)
			up, _ := p.Upstream(testPool())
			e := &exchange.Endpoint{Address: endpoint}
			up.Attach(e)
			defer up.Detach(e)
			rig := newH2RigOn(t, p, testLimits(), func(x *exchange.Exchange) *exchange.Refusal {
				x.Endpoint = e
				r := Send(x)
				results <- x.Result
				return r
			})
			res, err := h2cClient(t).Post("http://"+rig.addr+"/", "text/plain", nil)
			if err != nil || res.StatusCode != 502 {
				t.Errorf("%v %v", res, err)
			}
			if got, want := (<-results).Unsent, m == "refused" || m == "goaway"; got != want {
				t.Errorf("unsent %v, want %v", got, want)
			}
		})
	}
}

// TestH2BackRefusedUpload: an endpoint that refuses a stream did nothing for it, also when part of the body has gone to it, which then nobody can send again.
func TestH2BackRefusedUpload(t *testing.T) {
	for _, mode := range []string{"refused", "goaway", "reset"} {
		endpoint := echoed(t, func(c *net.TCPConn) { refusingServer(c, mode) })
		results := make(chan exchange.Result, 1)
		p := newH2Proxy(t)
		send := sendTo(t, p, testPool(), endpoint, nil)
		rig := newH2RigOn(t, p, testLimits(), func(x *exchange.Exchange) *exchange.Refusal {
			r := send(x)
			results <- x.Result
			return r
		})
		body, w := io.Pipe()
		go io.WriteString(w, "some of it")
		if resp, err := h2cClient(t).Post("http://"+rig.addr+"/", "text/plain", body); err == nil {
			resp.Body.Close()
		}
		w.Close()
		if r := <-results; r.Kind != exchange.Broken || r.Refused != (mode != "reset") || r.Unsent {
			t.Errorf("%s: %+v", mode, r)
		}
	}
}

// TestH2BackManyHints: an endpoint may send more informational answers at once than are kept for a client.
func TestH2BackManyHints(t *testing.T) {
	endpoint := echoed(t, func(c *net.TCPConn) { refusingServer(c, "hints") })
	p := newH2Proxy(t)
	rig := newH2RigOn(t, p, testLimits(), sendTo(t, p, testPool(), endpoint, nil))
	res, err := h2cClient(t).Get("http://" + rig.addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 204 {
		t.Errorf("status %d", res.StatusCode)
	}
}

// TestH2BackCancels: a CANCEL of the endpoint is its client's doing when the deadline that the client told is about to pass, and a failure before.
func TestH2BackCancels(t *testing.T) {
	endpoint := echoed(t, func(c *net.TCPConn) { refusingServer(c, "cancel") })
	for left, want := range map[time.Duration]exchange.ResultKind{watchTick / 2: exchange.Cancelled, time.Hour: exchange.Broken} {
		results := make(chan exchange.Result, 1)
		p := newH2Proxy(t)
		send := sendTo(t, p, testPool(), endpoint, nil)
		rig := newH2RigOn(t, p, testLimits(), func(x *exchange.Exchange) *exchange.Refusal {
			x.Deadline = time.Now().Add(left)
			r := send(x)
			results <- x.Result
			return r
		})
		r, _ := http.NewRequest("POST", "http://"+rig.addr+"/", nil)
		r.Header.Set("grpc-timeout", "1H")
		resp, err := h2cClient(t).Do(r)
		if broken := err == nil && resp.StatusCode == 502; broken != (want == exchange.Broken) {
			t.Errorf("with %v left the client got %v, %v", left, resp, err)
		}
		if got := <-results; got.Kind != want {
			t.Errorf("with %v left: %+v", left, got)
		}
	}
}

// TestH2BackTakesBack: what waits to be written as its connection ends counts as never sent and is made again elsewhere, so it must not go out after all.
func TestH2BackTakesBack(t *testing.T) {
	up, err := newH2Proxy(t).Upstream(testPool())
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	defer near.Close()
	h, err := newH2Client(&h2Link{l: &Link{up: up}}, near)
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan []byte)
	go func() { b, _ := io.ReadAll(far); sent <- b }()
	b := &h2Back{client: h}
	h.mu.Lock()
	h.last, h.flushing = 1, true // the writer is about to begin
	b.open(&h.h2Conn, 1)
	b.h2Stream.back = b
	h.streams[1] = &b.h2Stream
	b.sendHead([]byte{0x83}, http2.FlagHeadersEndStream)
	h.mu.Unlock()
	ended := make(chan struct{})
	go func() { h.finish(&h2Error{http2.ErrCodeProtocol, closedProtocol}); close(ended) }()
	eventually(t, "the connection ends", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return h.end != nil })
	h.flusher.work()
	h.mu.Lock()
	unsent := b.unsent()
	h.mu.Unlock()
	b.release(false)
	<-ended
	near.Close()
	if got := <-sent; !unsent || !bytes.Equal(got, appendH2GoAway(nil, 0, http2.ErrCodeProtocol)) {
		t.Errorf("unsent %v, on the wire %q", unsent, got)
	}
}

// TestH2LateEndMakesNothingWhole: what arrives after a stream has failed, as its time was over, is dropped, and its end must not make a whole body of what is left.
func TestH2LateEndMakesNothingWhole(t *testing.T) {
	for name, end := range map[string]func(*h2Stream) error{
		"data":     func(s *h2Stream) error { return s.arrived([]byte("rest"), 4, true) },
		"trailers": func(s *h2Stream) error { return s.trailers(&h2Fields{}) },
	} {
		h, s := &h2Conn{client: true}, &h2Stream{}
		h.mu.Lock()
		s.open(h, 1)
		s.fail(os.ErrDeadlineExceeded)
		ended := end(s)
		p, err := s.take()
		h.mu.Unlock()
		if ended != nil || len(p) > 0 || err != os.ErrDeadlineExceeded {
			t.Errorf("%s: %v, then %q %v", name, ended, p, err)
		}
	}
}

// TestH2LateHeadIsNoAnswer: who waits is told why the stream ended, and not given the head that came after that and before it woke, whose body is lost.
func TestH2LateHeadIsNoAnswer(t *testing.T) {
	h := &h2Client{h2Conn: h2Conn{p: newH2Proxy(t), client: true, last: 1, streams: map[uint32]*h2Stream{}}}
	b := &h2Back{client: h}
	h.mu.Lock()
	b.open(&h.h2Conn, 1)
	b.h2Stream.back = b
	h.streams[1] = &b.h2Stream
	b.fail(os.ErrDeadlineExceeded)
	h.mu.Unlock()
	if err := h.headers(1, appendHpackStatus(nil, 200), false); err != nil || len(b.heads) > 0 || b.answered() {
		t.Errorf("%v, %d heads, answered %v", err, len(b.heads), b.answered())
	}
}

func refusingServer(c net.Conn, mode string) {
	defer c.Close()
	io.ReadFull(c, make([]byte, len(h2Preface)))
	fr := http2.NewFramer(c, c)
	fr.WriteSettings()
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return
		}
		if f.Header().Type != http2.FrameHeaders {
			continue
		}
		switch mode {
		case "refused":
			fr.WriteRSTStream(f.Header().StreamID, http2.ErrCodeRefusedStream)
		case "goaway":
			fr.WriteGoAway(0, http2.ErrCodeNo, nil)
		case "hints":
			var out bytes.Buffer
			all := http2.NewFramer(&out, nil)
			for range 100 {
				all.WriteHeaders(http2.HeadersFrameParam{StreamID: f.Header().StreamID, BlockFragment: append([]byte{0x08, 3}, "103"...), EndHeaders: true})
			}
			all.WriteHeaders(http2.HeadersFrameParam{StreamID: f.Header().StreamID, BlockFragment: []byte{0x89}, EndHeaders: true, EndStream: true})
			c.Write(out.Bytes())
		case "answer":
			fr.WriteHeaders(http2.HeadersFrameParam{StreamID: f.Header().StreamID, BlockFragment: []byte{0x89}, EndHeaders: true, EndStream: true})
		case "reset":
			fr.WriteRSTStream(f.Header().StreamID, http2.ErrCodeInternal)
		case "cancel":
			fr.WriteRSTStream(f.Header().StreamID, http2.ErrCodeCancel)
		case "bad":
			fr.WriteHeaders(http2.HeadersFrameParam{StreamID: f.Header().StreamID, BlockFragment: []byte{0x82}, EndHeaders: true})
		case "settings":
			fr.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 0})
		case "close":
			return
		}
	}
}

// bytesValue is the message of the test service.
type bytesValue = wrapperspb.BytesValue

// grpcEcho is a gRPC service without generated code: one method for each kind of call.
var grpcEcho = grpc.ServiceDesc{ServiceName: "test.Echo", HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{MethodName: "Unary", Handler: func(_ any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		var in bytesValue
		if err := dec(&in); err != nil {
			return nil, err
		}
		if string(in.Value) == "fail" {
			grpc.SetTrailer(ctx, metadata.Pairs("why", "asked"))
			return nil, status.Error(codes.FailedPrecondition, "asked to fail")
		}
		return &in, nil
	}}},
	Streams: []grpc.StreamDesc{
		{StreamName: "Down", ServerStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
			var in bytesValue
			if err := s.RecvMsg(&in); err != nil {
				return err
			}
			for range 50 {
				if err := s.SendMsg(&in); err != nil {
					return err
				}
			}
			return nil
		}},
		{StreamName: "Up", ClientStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
			n := 0
			for {
				var in bytesValue
				if err := s.RecvMsg(&in); errors.Is(err, io.EOF) {
					return s.SendMsg(&bytesValue{Value: []byte(strconv.Itoa(n))})
				} else if err != nil {
					return err
				}
				n += len(in.Value)
			}
		}},
		{StreamName: "Both", ServerStreams: true, ClientStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
			s.SendHeader(metadata.Pairs("early", "yes"))
			for {
				var in bytesValue
				if err := s.RecvMsg(&in); errors.Is(err, io.EOF) {
					return nil
				} else if err != nil {
					return err
				}
				if err := s.SendMsg(&in); err != nil {
					return err
				}
			}
		}},
	}}

// grpcThrough is a gRPC client whose calls go through both ends.
func grpcThrough(t *testing.T) *grpc.ClientConn {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	srv.RegisterService(&grpcEcho, struct{}{})
	go srv.Serve(ln)
	t.Cleanup(srv.Stop)
	rig, _ := h2Through(t, testPool(), ln.Addr().String())
	cc, err := grpc.NewClient(rig.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return cc
}

func TestH2GRPC(t *testing.T) {
	cc := grpcThrough(t)
	ctx, stop := context.WithTimeout(context.Background(), 15*time.Second)
	defer stop()
	big := &bytesValue{Value: bytes.Repeat([]byte("m"), 300_000)}

	t.Run("unary", func(t *testing.T) {
		var out bytesValue
		if err := cc.Invoke(ctx, "/test.Echo/Unary", big, &out); err != nil || !bytes.Equal(out.Value, big.Value) {
			t.Error(err, len(out.Value))
		}
		var trailer metadata.MD
		err := cc.Invoke(ctx, "/test.Echo/Unary", &bytesValue{Value: []byte("fail")}, &out, grpc.Trailer(&trailer))
		if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "asked to fail") || len(trailer["why"]) != 1 {
			t.Error(err, trailer)
		}
	})
	t.Run("down", func(t *testing.T) {
		s, err := cc.NewStream(ctx, &grpcEcho.Streams[0], "/test.Echo/Down")
		if err == nil {
			err = errors.Join(s.SendMsg(big), s.CloseSend())
		}
		n := 0
		for ; err == nil; n++ {
			err = s.RecvMsg(new(bytesValue))
		}
		if err != io.EOF || n != 51 {
			t.Error(n, err)
		}
	})
	t.Run("up", func(t *testing.T) {
		s, err := cc.NewStream(ctx, &grpcEcho.Streams[1], "/test.Echo/Up")
		for range 50 {
			err = errors.Join(err, s.SendMsg(big))
		}
		var out bytesValue
		err = errors.Join(err, s.CloseSend(), s.RecvMsg(&out))
		if err != nil || string(out.Value) != strconv.Itoa(50*len(big.Value)) {
			t.Error(string(out.Value), err)
		}
	})
	t.Run("both", func(t *testing.T) {
		s, err := cc.NewStream(ctx, &grpcEcho.Streams[2], "/test.Echo/Both")
		if err != nil {
			t.Fatal(err)
		}
		if md, err := s.Header(); err != nil || len(md["early"]) != 1 { // comes before any message
			t.Error(md, err)
		}
		for range 30 {
			var out bytesValue
			if err := errors.Join(s.SendMsg(big), s.RecvMsg(&out)); err != nil || len(out.Value) != len(big.Value) {
				t.Fatal(err, len(out.Value))
			}
		}
		if err := errors.Join(s.CloseSend(), s.RecvMsg(new(bytesValue))); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	})
}

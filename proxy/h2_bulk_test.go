package proxy

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/net/http2"

	"github.com/even-keel/evenkeel/exchange"
)

// TestH2BulkIsStreamed moves much more than any buffer both ways, and holds little of it.
func TestH2BulkIsStreamed(t *testing.T) {
	const size = 200 << 20
	addr := h2cServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "GET" {
			io.CopyN(w, zeros{}, size)
			return
		}
		n, _ := io.Copy(io.Discard, r.Body)
		io.WriteString(w, strconv.FormatInt(n, 10))
	})
	rig, _ := h2Through(t, testPool(), addr)
	client := h2cClient(t)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	res, err := client.Get("http://" + rig.addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, res.Body); n != size || err != nil {
		t.Fatalf("%d bytes came down, %v", n, err)
	}
	res, err = client.Post("http://"+rig.addr+"/", "text/plain", io.LimitReader(zeros{}, size))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.ReadAll(res.Body); string(n) != strconv.Itoa(size) || err != nil {
		t.Fatalf("%s bytes went up, %v", n, err)
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 32<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
}

// TestH2HungUploads: bodies that nobody takes hold up no other request of the same connection, and no more than their first windows is held of each.
func TestH2HungUploads(t *testing.T) {
	const hung = 40
	gate, begun := make(chan struct{}), make(chan *h2Front, hung)
	rig := newH2Rig(t, testLimits(), func(x *exchange.Exchange) *exchange.Refusal {
		if string(x.Request.Target) == "/hang" {
			begun <- x.Front.(*h2Front)
			<-gate
			return &exchange.Refusal{Stage: "test", Reason: "hung", Status: 504}
		}
		return echoH2(x)
	})
	client := h2cClient(t)
	ended := make(chan struct{}, hung)
	for range hung {
		go func() {
			if resp, err := client.Post("http://"+rig.addr+"/hang", "text/plain", zeros{}); err == nil {
				resp.Body.Close()
			}
			ended <- struct{}{}
		}()
	}
	var conn *h2Conn
	for range hung {
		f := <-begun
		conn = f.h
		eventually(t, "the client sends what it may", func() bool {
			f.h.mu.Lock()
			defer f.h.mu.Unlock()
			return f.recvWin == 0 && len(f.recv) == h2FirstWin
		})
	}
	const size = 4 << 20
	resp, err := client.Post("http://"+rig.addr+"/", "text/plain", io.LimitReader(zeros{}, size))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
		t.Errorf("%d bytes came back, %v", n, err)
	}
	eventually(t, "windows that grew are no longer counted", func() bool {
		conn.mu.Lock()
		defer conn.mu.Unlock()
		return conn.grown == 0
	})
	close(gate)
	for range hung {
		<-ended
	}
}

// TestH2PaddedPeek: a body as long as its window can be looked at although its frames are padded.
func TestH2PaddedPeek(t *testing.T) {
	rig := newH2Rig(t, testLimits(), func(x *exchange.Exchange) *exchange.Refusal {
		body, whole, err := Peek(x, h2FirstWin)
		if len(body) != h2FirstWin || !whole || err != nil {
			t.Errorf("%d bytes, all %v: %v", len(body), whole, err)
		}
		return &exchange.Refusal{Stage: "test", Reason: "read", Status: 403}
	})
	r := dialRawH2(t, rig)
	r.headers(1, false, getLines...)
	for left, win := h2FirstWin, h2FirstWin; left > 0; {
		const n, pad = 1 << 10, 100
		if win >= n+1+pad {
			left -= n
			win -= n + 1 + pad
			r.fr.WriteDataPadded(1, left == 0, make([]byte, n), make([]byte, pad))
			continue
		}
		f, err := r.fr.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if w, is := f.(*http2.WindowUpdateFrame); is && w.StreamID == 1 {
			win += int(w.Increment)
		}
	}
	if got := r.outcome(true); got != "status 403" {
		t.Error(got)
	}
}

// TestH2WindowsGrow: what a client may have on its way grows while its body is taken, for all of its streams together by h2ConnWin.
func TestH2WindowsGrow(t *testing.T) {
	const streams = 8
	conns := make(chan *h2Conn, streams)
	rig := newH2Rig(t, testLimits(), func(x *exchange.Exchange) *exchange.Refusal {
		f := x.Front.(*h2Front)
		conns <- f.h
		for {
			if _, err := f.readBody(); err != nil {
				return nil
			}
		}
	})
	r := dialRawH2(t, rig)
	total := 0
	for i := range uint32(streams) {
		id := 2*i + 1
		r.headers(id, false, getLines...)
		for win, sent := h2FirstWin, 0; sent < 4*h2StreamWin; {
			for ; win >= 16<<10; sent += 16 << 10 {
				r.fr.WriteData(id, false, make([]byte, 16<<10))
				win -= 16 << 10
				total -= 16 << 10
			}
			for win < 16<<10 {
				f, err := r.fr.ReadFrame()
				if err != nil {
					t.Fatal(err)
				}
				if w, is := f.(*http2.WindowUpdateFrame); is && w.StreamID == id {
					win += int(w.Increment)
					total += int(w.Increment)
				}
			}
		}
	}
	r.fr.WritePing(false, [8]byte{})
	for {
		f, err := r.fr.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if w, is := f.(*http2.WindowUpdateFrame); is && w.StreamID > 0 {
			total += int(w.Increment)
		}
		if _, is := f.(*http2.PingFrame); is {
			break
		}
	}
	conn := <-conns
	conn.mu.Lock()
	defer conn.mu.Unlock()
	if conn.grown != h2ConnWin || total > h2ConnWin { // the client knows of less by what is not given back yet
		t.Errorf("windows are larger by %d than at first, of which the client was told %d", conn.grown, total)
	}
}

// TestH2AnswerBeforeBody: an endpoint may answer at length before it takes the request's body, also one that the windows do not let out at once.
func TestH2AnswerBeforeBody(t *testing.T) {
	const size = 2 * h2StreamWin
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan int64, 2)
	srv := &http.Server{Protocols: new(http.Protocols), HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 1 << 10, MaxReceiveBufferPerConnection: 64 << 10}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "GET" {
			return
		}
		io.CopyN(w, zeros{}, size)
		n, _ := io.Copy(io.Discard, r.Body)
		got <- n
	})}
	srv.Protocols.SetUnencryptedHTTP2(true)
	go srv.Serve(ln)
	defer srv.Close()
	rig, _ := h2Through(t, testPool(), ln.Addr().String())
	client := h2cClient(t)
	if _, err := client.Get("http://" + rig.addr + "/"); err != nil { // the endpoint's windows are known then
		t.Fatal(err)
	}
	for _, body := range []io.Reader{bytes.NewReader(make([]byte, 60<<10)), io.MultiReader(bytes.NewReader(make([]byte, 60<<10)))} {
		resp, err := client.Post("http://"+rig.addr+"/", "text/plain", body)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if n != size || err != nil || resp.StatusCode != 200 {
			t.Fatalf("status %d, %d bytes, %v", resp.StatusCode, n, err)
		}
		if n := <-got; n != 60<<10 {
			t.Errorf("the endpoint got %d bytes", n)
		}
	}
}

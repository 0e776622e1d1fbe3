package stress

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// wild is an endpoint whose connections end at every moment that a connection can end. It counts which requests reached it: those
// whose head was there, whatever became of them.
type wild struct {
	address string
	h2      bool
	reached []atomic.Uint32 // by id of the request; shared by all
	mangled *atomic.Uint32  // bodies that ended well and are not what was sent; shared by all

	mu     sync.Mutex // guards what follows
	ln     net.Listener
	server *http.Server // of h2
	conns  map[net.Conn]bool
	closed bool // killed, and not started again
	done   sync.WaitGroup
}

// The shares of what becomes of a request, in a hundred.
const (
	wildBusy      = 5                 // 503
	wildHeadReset = wildBusy + 3      // reset once the head was read
	wildReset     = wildHeadReset + 4 // reset once all was read
	wildClosed    = wildReset + 4     // closed once all was read
	wildCut       = wildClosed + 2    // reset within the answer
	wildHint      = wildCut + 2       // reset after a 1xx
	wildLeaves    = wildHint + 4      // answered, and the connection closed although it may be kept
	wildResets    = wildLeaves + 3    // the same with a reset
	wildTime      = 100 * time.Second // for one request
	wildAnswer    = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"
)

// start listens, at the same address as before after a kill.
func (w *wild) start() (err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.address == "" {
		w.address = "127.0.0.1:0"
	}
	err = wait(servesPatience, func() (err error) { // whoever connects from the port meanwhile has it for a moment
		w.ln, err = net.Listen("tcp", w.address)
		return err
	})
	if err != nil {
		return fmt.Errorf("a wild endpoint cannot listen: %w", err)
	}
	w.address, w.conns, w.closed = w.ln.Addr().String(), map[net.Conn]bool{}, false
	ln := w.ln
	if w.h2 {
		s := &http.Server{Handler: w, Protocols: new(http.Protocols), ConnState: w.track, ErrorLog: nil}
		s.Protocols.SetUnencryptedHTTP2(true)
		w.server = s
		w.done.Go(func() { _ = s.Serve(ln) })
		return nil
	}
	w.done.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			w.track(c, http.StateNew)
			w.done.Go(func() {
				defer w.track(c, http.StateClosed)
				defer c.Close()
				w.serve(c)
			})
		}
	})
	return nil
}

// track notes which connections are open.
func (w *wild) track(c net.Conn, s http.ConnState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s == http.StateNew {
		w.conns[c] = true
		if w.closed {
			reset(c) // accepted as the endpoint was killed
		}
	} else if s == http.StateClosed {
		delete(w.conns, c)
	}
}

// kill ends the endpoint as a killed process ends: all connections are reset, and nobody listens.
func (w *wild) kill() {
	w.mu.Lock()
	w.closed = true
	if w.ln != nil { // else it could not be started again
		w.ln.Close()
	}
	for c := range w.conns {
		reset(c)
	}
	server := w.server
	w.mu.Unlock()
	if server != nil {
		server.Close() // waits for who accepts, and that calls track
	}
	w.done.Wait()
}

func reset(c net.Conn) {
	if tcp, is := c.(*net.TCPConn); is {
		_ = tcp.SetLinger(0)
	}
	c.Close()
}

// note counts a request that reached the endpoint.
func (w *wild) note(r *http.Request) {
	if id, err := strconv.Atoi(r.Header.Get("X-Id")); err == nil && id >= 0 && id < len(w.reached) && r.Method == http.MethodPost {
		w.reached[id].Add(1)
	}
}

// swallow reads the body of a request and compares it with what was sent: repeats send what was kept of it.
func (w *wild) swallow(r *http.Request) error {
	body, err := io.ReadAll(io.LimitReader(r.Body, wildLongest+1))
	if err != nil {
		return err
	}
	want := r.Header.Get("X-Size")
	whole := want == "" || want == strconv.Itoa(len(body))
	for i, c := range body {
		whole = whole && c == wildPiece[i%len(wildPiece)]
	}
	if !whole {
		w.mangled.Add(1)
	}
	return nil
}

// serve is HTTP/1.1 on one connection.
func (w *wild) serve(c net.Conn) {
	in := bufio.NewReader(c)
	for {
		_ = c.SetDeadline(time.Now().Add(wildTime))
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		w.note(r)
		lot := rand.IntN(100)
		if lot >= wildBusy && lot < wildHeadReset {
			reset(c)
			return
		}
		if err := w.swallow(r); err != nil {
			return
		}
		switch {
		case lot < wildBusy:
			_, err = io.WriteString(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\n\r\nbusy\n")
		case lot < wildReset:
			reset(c)
			return
		case lot < wildClosed:
			return
		case lot < wildCut:
			_, _ = io.WriteString(c, wildAnswer[:len(wildAnswer)-2])
			reset(c)
			return
		case lot < wildHint:
			_, _ = io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
			reset(c)
			return
		default:
			_, err = io.WriteString(c, wildAnswer)
		}
		if err != nil || lot < wildLeaves && lot >= wildHint {
			return
		}
		if lot >= wildLeaves && lot < wildResets {
			reset(c)
			return
		}
	}
}

// ServeHTTP is HTTP/2, whose streams end by themselves.
func (w *wild) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	w.note(r)
	lot := rand.IntN(100)
	if lot >= wildHeadReset || lot < wildBusy {
		_ = w.swallow(r)
	}
	switch {
	case lot < wildBusy:
		out.WriteHeader(http.StatusServiceUnavailable)
	case lot < wildClosed:
		panic(http.ErrAbortHandler) // the stream is reset
	case lot < wildHint:
		out.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(out).Flush()
		panic(http.ErrAbortHandler)
	default:
		_, _ = io.WriteString(out, "ok\n")
	}
}

var errWild = errors.New("the wild endpoints cannot be reached")

package stress

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Limits of a caller.
const (
	patience  = 15 * time.Second // an answer that takes longer is a failure: no test of speed, but of being served at all
	maxAnswer = 64 << 10
	reasonCap = 20 // different reasons for failures that are kept
)

// caller sends requests in an open loop: each is due at its moment, whether or not those before it were answered. It uses
// connections of its own, one for each worker, and counts every failure.
//
// One thing is no failure: when a connection that was kept ends before the first byte of the answer, and the request
// is a GET, then it is sent once more on a new connection, as RFC 9112 §9.3.1 has clients do. Those are counted as resent.
type caller struct {
	address string
	from    string // the address that it comes from; empty: any
	tls     *tls.Config
	rate    int // requests per second
	workers int // and so requests under way at once
	path    string
	posts   int           // every so many-th request is a POST; 0: none
	fresh   int           // every so many-th request opens a new connection; 0: only when needed
	short   bool          // a connection for each request, which says so
	late    time.Duration // requests that no connection was free for within this after they were due are not sent; 0: 1 s

	next    atomic.Int64
	stopped atomic.Bool
	done    chan struct{}
	began   time.Time
	took    time.Duration

	mu  sync.Mutex // guards sum, of which every worker hands in its part
	sum tally
}

// tally is what became of requests.
type tally struct {
	Sent    int            `json:"sent"`
	OK      int            `json:"ok"`
	Failed  int            `json:"failed"`
	Wrong   int            `json:"wrong"`    // of the failed: malformed, or the answer to another request
	Resent  int            `json:"resent"`   // once more on a new connection, and then counted as OK or failed
	NotSent int            `json:"not_sent"` // no connection of the client was free in time
	Rate    float64        `json:"rate"`     // sent each second
	P50MS   float64        `json:"p50_ms"`   // from the moment a request was due to the end of its answer
	P99MS   float64        `json:"p99_ms"`
	MaxMS   float64        `json:"max_ms"`
	Reasons map[string]int `json:"reasons,omitempty"` // of failures

	took     []time.Duration
	failures []failure
}

// failure is one failed request.
type failure struct {
	method string
	sent   time.Time
	why    string
}

// start begins to send; stop ends it.
func (c *caller) start(ctx context.Context) {
	c.done, c.began = make(chan struct{}), time.Now()
	go func() {
		defer close(c.done)
		var wg sync.WaitGroup
		for range c.workers {
			wg.Go(func() { c.work(ctx) })
		}
		wg.Wait()
		c.took = time.Since(c.began)
	}()
}

// stop lets requests under way end and returns the sum.
func (c *caller) stop() tally {
	c.stopped.Store(true)
	<-c.done
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &c.sum
	t.Rate = float64(t.Sent) / c.took.Seconds()
	slices.Sort(t.took)
	at := func(share float64) float64 {
		if len(t.took) == 0 {
			return 0
		}
		return float64(t.took[int(share*float64(len(t.took)-1))].Microseconds()) / 1000
	}
	t.P50MS, t.P99MS, t.MaxMS = at(0.5), at(0.99), at(1)
	return *t
}

// work sends whatever is due next, until it is stopped.
func (c *caller) work(ctx context.Context) {
	var mine tally
	var l line
	defer func() {
		l.close()
		c.mu.Lock()
		c.sum.add(mine)
		c.mu.Unlock()
	}()
	t := time.NewTimer(0)
	defer t.Stop()
	for !c.stopped.Load() {
		i := c.next.Add(1) - 1
		due := c.began.Add(time.Duration(i) * time.Second / time.Duration(c.rate))
		t.Reset(time.Until(due))
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		if time.Since(due) > cmp.Or(c.late, time.Second) {
			mine.NotSent++
			continue
		}
		c.one(&l, i, due, &mine)
	}
}

// one sends request i and waits for its answer.
func (c *caller) one(l *line, i int64, due time.Time, mine *tally) {
	method, body := "GET", ""
	if c.posts > 0 && i%int64(c.posts) == 0 {
		method, body = "POST", strings.Repeat("p", 32)
	}
	if c.fresh > 0 && i%int64(c.fresh) == 0 {
		l.close()
	}
	sent := time.Now()
	mine.Sent++
	err := l.ask(c, method, body, i)
	if errors.Is(err, errKept) && method == "GET" {
		mine.Resent++
		err = l.ask(c, method, body, i)
	}
	if err == nil {
		mine.OK++
		mine.took = append(mine.took, time.Since(due))
		return
	}
	mine.Failed++
	if errors.Is(err, errWrong) {
		mine.Wrong++
	}
	mine.failures = append(mine.failures, failure{method, sent, method + ": " + reason(err)})
}

// reason is the kind of an error, without the ports that make each one different.
func reason(err error) string {
	var sys syscall.Errno
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Sprintf("no answer within %s", patience)
	case errors.As(err, &sys):
		return sys.Error()
	}
	return err.Error()
}

// add adds part to t.
func (t *tally) add(part tally) {
	t.Sent, t.OK, t.Failed, t.Wrong = t.Sent+part.Sent, t.OK+part.OK, t.Failed+part.Failed, t.Wrong+part.Wrong
	t.Resent, t.NotSent = t.Resent+part.Resent, t.NotSent+part.NotSent
	t.took = append(t.took, part.took...)
	t.failures = append(t.failures, part.failures...)
	for _, f := range part.failures {
		if t.Reasons == nil {
			t.Reasons = map[string]int{}
		}
		if _, known := t.Reasons[f.why]; known || len(t.Reasons) < reasonCap {
			t.Reasons[f.why]++
		}
	}
}

// line is a connection that is kept between requests.
type line struct {
	conn net.Conn
	in   *bufio.Reader
}

// errWrong means that an answer cannot be to the request, which no flood, kill or haste excuses.
var errWrong = errors.New("wrong answer")

// broken reports whether reading an answer failed because of the connection, and not of what it said.
func broken(err error) bool {
	var net net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &net)
}

// errKept means that a kept connection ended before any byte of the answer.
var errKept = errors.New("a kept connection ended before the answer")

func (l *line) close() {
	if l.conn != nil {
		l.conn.Close()
		l.conn = nil
	}
}

// ask sends one request and checks that the answer is the one to it. The connection is kept after every whole answer, a
// refusal too.
func (l *line) ask(c *caller, method, body string, id int64) error {
	kept := l.conn != nil
	if !kept {
		if err := l.open(c.address, c.from, c.tls); err != nil {
			return err
		}
	}
	_ = l.conn.SetDeadline(time.Now().Add(patience))
	more := ""
	if body != "" {
		more = fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	if c.short {
		more += "Connection: close\r\n"
	}
	_, err := fmt.Fprintf(l.conn, "%s %s HTTP/1.1\r\nHost: localhost\r\nX-Id: %d\r\n%s\r\n%s", method, c.path, id, more, body)
	if err == nil {
		_, err = l.in.Peek(1)
	}
	if err != nil {
		l.close()
		if kept && !errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("%w: %v", errKept, reason(err))
		}
		return err
	}
	answer, err := http.ReadResponse(l.in, nil)
	if err != nil {
		l.close()
		if !broken(err) {
			err = fmt.Errorf("%w: %w", errWrong, err)
		}
		return err
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		l.close()
		return fmt.Errorf("the answer was cut off: %w", err)
	}
	if answer.Close {
		l.close()
	}
	if answer.StatusCode != 200 {
		return fmt.Errorf("status %d: %.80q", answer.StatusCode, word(string(text)))
	}
	if want := fmt.Sprintf("id=%d body=%d\n", id, len(body)); string(text) != want {
		return fmt.Errorf("%w, to another request: %.40q instead of %q", errWrong, text, want)
	}
	return nil
}

// word is the reason in a problem+json body, else the text.
func word(text string) string {
	if _, rest, ok := strings.Cut(text, `"reason":`); ok {
		if w, _, ok := strings.Cut(strings.TrimLeft(rest, ` "`), `"`); ok {
			return w
		}
	}
	return text
}

func (l *line) open(address, from string, secure *tls.Config) error {
	d := net.Dialer{Timeout: patience}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	raw, err := d.Dial("tcp", address)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	l.conn = raw
	if secure != nil {
		t := tls.Client(raw, secure)
		_ = raw.SetDeadline(time.Now().Add(patience))
		if err := t.Handshake(); err != nil {
			l.close()
			return fmt.Errorf("tls handshake: %w", err)
		}
		l.conn = t
	}
	if l.in == nil {
		l.in = bufio.NewReader(nil)
	}
	l.in.Reset(l.conn)
	return nil
}

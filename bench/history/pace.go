package history

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// paced is what requests at a fixed rate came to.
type paced struct {
	Answered int64  `json:"answered"` // with 200 or 404, as asked
	Refused  int64  `json:"refused"`  // with 429 or 503
	Failed   int64  `json:"failed"`
	Detail   string `json:"detail,omitempty"` // of a failure
}

// The requests of a connection in turn: sizes that differ, and now and then a page that is not there.
const (
	paceConns  = 64
	paceSizes  = 5
	paceMissed = 100 // one of so many asks for nothing that is there
	paceTell   = 10 * time.Second
	paceWait   = 20 * time.Second // for an answer
)

// Pace sends rate requests a second to address until seconds have passed, each connection by its own schedule, and writes what came of them to
// standard output: every ten seconds so far, and at the end. A connection that falls behind catches up.
func Pace(address string, rate, seconds int) error {
	var sum paced
	var mu sync.Mutex
	var left atomic.Int64
	left.Store(paceConns)
	out := json.NewEncoder(os.Stdout)
	until := time.Now().Add(time.Duration(seconds) * time.Second)
	every := time.Second * paceConns / time.Duration(rate)
	done := make(chan struct{})
	for i := range paceConns {
		go func() {
			p := pacer{address: address, i: i, at: time.Now().Add(every * time.Duration(i) / paceConns), every: every}
			for time.Now().Before(until) {
				one := p.some(min(time.Until(until), paceTell))
				mu.Lock()
				sum.add(one)
				mu.Unlock()
			}
			p.close()
			if left.Add(-1) == 0 {
				close(done)
			}
		}()
	}
	for tick := time.NewTicker(paceTell); ; {
		select {
		case <-tick.C:
			mu.Lock()
			err := out.Encode(sum)
			mu.Unlock()
			if err != nil {
				return err
			}
		case <-done:
			return out.Encode(sum)
		}
	}
}

func (p *paced) add(o paced) {
	p.Answered, p.Refused, p.Failed = p.Answered+o.Answered, p.Refused+o.Refused, p.Failed+o.Failed
	if o.Detail != "" {
		p.Detail = o.Detail
	}
}

// pacer is one connection's schedule.
type pacer struct {
	address string
	i, n    int
	at      time.Time // of the next request
	every   time.Duration
	conn    net.Conn
	buf     [8 << 10]byte
}

func (p *pacer) close() {
	if p.conn != nil {
		p.conn.Close()
		p.conn = nil
	}
}

// some asks for as long as d.
func (p *pacer) some(d time.Duration) (sum paced) {
	for until := time.Now().Add(d); time.Now().Before(until); {
		time.Sleep(time.Until(p.at))
		p.at = p.at.Add(p.every)
		status, err := p.ask()
		switch {
		case err != nil:
			sum.Failed, sum.Detail = sum.Failed+1, err.Error()
			p.close()
		case status == 429 || status == 503:
			sum.Refused++
		case status == 200 || status == 404:
			sum.Answered++
		default:
			sum.Failed, sum.Detail = sum.Failed+1, fmt.Sprintf("status %d", status)
		}
	}
	return sum
}

// ask sends the next request and reads its whole answer.
func (p *pacer) ask() (status int, err error) {
	if p.conn == nil {
		if p.conn, err = net.DialTimeout("tcp", p.address, paceWait); err != nil {
			return 0, err
		}
	}
	p.n++
	path := fmt.Sprint(100 << ((p.i + p.n) % paceSizes))
	if (p.i+p.n)%paceMissed == 0 {
		path = "none"
	}
	_ = p.conn.SetDeadline(time.Now().Add(paceWait))
	if _, err := fmt.Fprintf(p.conn, "GET /%s HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n", path); err != nil {
		return 0, err
	}
	have, want, body := 0, -1, 0
	for want < 0 || have < want {
		n, err := p.conn.Read(p.buf[have:])
		if err == io.EOF || n == 0 {
			return 0, io.ErrUnexpectedEOF
		}
		if err != nil {
			return 0, err
		}
		have += n
		if want >= 0 {
			continue
		}
		if end := bytes.Index(p.buf[:have], []byte("\r\n\r\n")); end >= 0 {
			head := bytes.ToLower(p.buf[:end])
			if _, err := fmt.Sscanf(string(head), "http/1.1 %d", &status); err != nil {
				return 0, err
			}
			if at := bytes.Index(head, []byte("content-length: ")); at >= 0 {
				_, _ = fmt.Sscanf(string(head[at:]), "content-length: %d", &body)
			}
			if want = end + 4 + body; want > len(p.buf) {
				return 0, fmt.Errorf("an answer of %d bytes", want)
			}
		}
	}
	return status, nil
}

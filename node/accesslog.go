package node

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
	"github.com/even-keel/evenkeel/wire"
)

// Limits of the access log. The queue holds about a tenth of a second of a busy node's lines while the disk is
// slow; after that lines are dropped and counted.
const (
	logQueue     = 8192    // lines
	logText      = 4 << 10 // bytes of one text in a line
	logBuffer    = 64 << 10
	logFlush     = 500 * time.Millisecond // how long a line may wait in the buffer of a quiet node
	logKeepBytes = 1 << 10                // buffers that grew beyond this are not reused
)

// accessLog writes one line per exchange. Lines are made on the goroutine of the exchange and written by one other; a
// full queue drops them, so that a slow disk never holds a request.
type accessLog struct {
	cfg     site.AccessLog
	queue   chan *[]byte
	buffers sync.Pool
	reopen  chan struct{}
	dropped *atomic.Uint64
	out     io.Writer
	file    *os.File // nil for stdout and stderr
}

// newAccessLog opens the log; nil when it is off. dropped counts lines that found the queue full.
func newAccessLog(cfg site.AccessLog, dropped *atomic.Uint64) (*accessLog, error) {
	l := &accessLog{cfg: cfg, dropped: dropped, reopen: make(chan struct{}, 1)}
	switch cfg.Path {
	case "", "off":
		return nil, nil
	case "stdout":
		l.out = os.Stdout
	case "stderr":
		l.out = os.Stderr
	default:
		if err := l.open(); err != nil {
			return nil, err
		}
	}
	l.queue = make(chan *[]byte, logQueue)
	l.buffers.New = func() any { b := make([]byte, 0, 512); return &b }
	return l, nil
}

// open opens the file to append to.
func (l *accessLog) open() error {
	f, err := os.OpenFile(l.cfg.Path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return fmt.Errorf("access log cannot be written: %w", err)
	}
	if l.file != nil {
		l.file.Close()
	}
	l.file, l.out = f, f
	return nil
}

// note logs an exchange that has ended. Refused and failed ones always are logged, of the others a share.
func (l *accessLog) note(x *exchange.Exchange, refusal *exchange.Refusal, status int, took time.Duration) {
	if refusal == nil && !failed(x, status) && l.cfg.Sample < 1 && rand.Float64() >= float64(l.cfg.Sample) {
		return
	}
	line := l.buffers.Get().(*[]byte)
	if l.cfg.Format == "common" {
		*line = appendCommon((*line)[:0], x, status)
	} else {
		*line = appendJSON((*line)[:0], x, refusal, status, took)
	}
	select {
	case l.queue <- line:
	default:
		l.dropped.Add(1)
		l.give(line)
	}
}

// give takes a buffer back.
func (l *accessLog) give(line *[]byte) {
	if cap(*line) <= logKeepBytes {
		l.buffers.Put(line)
	}
}

// run writes lines until ctx ends, then those that are still in the queue.
func (l *accessLog) run(ctx context.Context) error {
	w := bufio.NewWriterSize(l.out, logBuffer)
	tick := time.NewTicker(logFlush)
	defer tick.Stop()
	defer func() {
		w.Flush()
		if l.file != nil {
			l.file.Close()
		}
	}()
	for {
		select {
		case line := <-l.queue:
			l.write(w, line)
		case <-tick.C:
			l.flush(w)
		case <-l.reopen:
			w.Flush()
			if l.file != nil {
				// When it cannot be opened, the old file goes on.
				_ = l.open()
			}
			w.Reset(l.out)
		case <-ctx.Done():
			for {
				select {
				case line := <-l.queue:
					l.write(w, line)
				default:
					return nil
				}
			}
		}
	}
}

// write writes one line. A disk that fails loses lines; they count as dropped, and the log goes on when it works again.
func (l *accessLog) write(w *bufio.Writer, line *[]byte) {
	if _, err := w.Write(*line); err != nil {
		l.dropped.Add(1)
		w.Reset(l.out)
	}
	l.give(line)
}

func (l *accessLog) flush(w *bufio.Writer) {
	if w.Flush() != nil {
		w.Reset(l.out)
	}
}

// reopenSoon makes the writer open the file anew, for logrotate.
func (l *accessLog) reopenSoon() {
	select {
	case l.reopen <- struct{}{}:
	default:
	}
}

// appendJSON appends x as one line of JSON.
func appendJSON(b []byte, x *exchange.Exchange, refusal *exchange.Refusal, status int, took time.Duration) []byte {
	b = append(b, `{"time":"`...)
	b = x.Start.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z07:00")
	b = appendText(append(b, `","listener":`...), x.Listener.Name)
	b = append(append(append(b, `,"protocol":"`...), x.Protocol.String()...), `","client":"`...)
	b = append(clientAddr(x).AppendTo(b), '"')
	if r := x.Request; r != nil {
		b = appendText(append(b, `,"id":`...), x.RequestID)
		b = appendText(append(b, `,"method":`...), r.Method)
		b = appendText(append(b, `,"host":`...), r.Host)
		b = appendText(append(b, `,"target":`...), r.Target)
		b = strconv.AppendInt(append(b, `,"status":`...), int64(status), 10)
		if code := x.Result.Code; code != 0 && refusal == nil {
			b = strconv.AppendUint(append(b, `,"grpc_status":`...), uint64(code), 10)
		}
		b = appendText(append(b, `,"agent":`...), fieldOf(r, wire.UserAgent))
	} else if x.SNI != "" {
		b = appendText(append(b, `,"sni":`...), x.SNI)
	}
	b = strconv.AppendInt(append(b, `,"bytes_in":`...), x.Outcome.BytesIn, 10)
	b = strconv.AppendInt(append(b, `,"bytes_out":`...), x.Outcome.BytesOut, 10)
	b = strconv.AppendFloat(append(b, `,"took_ms":`...), float64(took)/1e6, 'f', 3, 64)
	if d := x.Outcome.FirstByte; d > 0 {
		b = strconv.AppendFloat(append(b, `,"first_byte_ms":`...), float64(d)/1e6, 'f', 3, 64)
	}
	if x.Route != nil {
		b = appendText(append(b, `,"route":`...), x.Route.Name)
		b = append(append(append(b, `,"class":"`...), x.Class.String()...), '"')
	}
	if e := x.Endpoint; e != nil {
		b = appendText(append(b, `,"pool":`...), e.Pool)
		b = appendText(append(b, `,"endpoint":`...), e.Address)
	}
	if x.Attempt > 1 {
		b = strconv.AppendInt(append(b, `,"attempts":`...), int64(x.Attempt), 10)
	}
	if refusal != nil {
		b = append(append(append(b, `,"refused_by":"`...), refusal.Stage...), `","reason":"`...)
		b = append(append(b, refusal.Reason...), '"')
	}
	if r := x.Trace.Record; r != nil {
		b = append(hex.AppendEncode(append(b, `,"trace":"`...), r.ID[:]), '"')
	}
	if x.Outcome.Aborted {
		b = append(b, `,"aborted":true`...)
	}
	if x.Outcome.Truncated {
		b = append(b, `,"truncated":true`...)
	}
	return append(b, "}\n"...)
}

// appendCommon appends x in the common log format of web servers.
func appendCommon(b []byte, x *exchange.Exchange, status int) []byte {
	b = append(clientAddr(x).AppendTo(b), ` - - [`...)
	b = append(x.Start.AppendFormat(b, "02/Jan/2006:15:04:05 -0700"), `] "`...)
	if r := x.Request; r != nil {
		b = append(appendEscaped(b, r.Method), ' ')
		b = append(appendEscaped(b, r.Target), ' ')
		if x.Protocol == exchange.HTTP2 {
			b = append(b, "HTTP/2.0"...)
		} else {
			b = append(append(b, "HTTP/1."...), byte('0'+r.Minor%10))
		}
	} else {
		b = append(b, x.Protocol.String()...)
	}
	b = strconv.AppendInt(append(b, `" `...), int64(status), 10)
	b = strconv.AppendInt(append(b, ' '), x.Outcome.BytesOut, 10)
	return append(b, '\n')
}

// clientAddr is who asked, as far as it is known.
func clientAddr(x *exchange.Exchange) netip.Addr {
	if x.IP.IsValid() {
		return x.IP
	}
	return x.Client.Addr().Unmap()
}

func fieldOf(r *wire.Request, id wire.ID) []byte {
	for i := range r.Fields {
		if r.Fields[i].ID == id {
			return r.Fields[i].Value
		}
	}
	return nil
}

// appendText appends s as a JSON string.
func appendText[T string | []byte](b []byte, s T) []byte {
	return append(appendEscaped(append(b, '"'), s), '"')
}

// appendEscaped appends s so that it fits between the quotes of a JSON string or of a log line: whatever a client
// sends cannot end the line. Long texts are cut.
func appendEscaped[T string | []byte](b []byte, s T) []byte {
	const digits = "0123456789abcdef"
	if len(s) > logText {
		s = s[:logText]
	}
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < 0x20 || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		case c < utf8.RuneSelf:
			b = append(b, c)
		default:
			var tmp [utf8.UTFMax]byte
			n := copy(tmp[:], s[i:])
			r, size := utf8.DecodeRune(tmp[:n])
			b = utf8.AppendRune(b, r)
			i += size
			continue
		}
		i++
	}
	return b
}

// close gives up a log that never ran.
func (l *accessLog) close() {
	if l.file != nil {
		l.file.Close()
	}
}

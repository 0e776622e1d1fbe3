package cost

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// burst is what one turn of load brought.
type burst struct {
	Count   float64 `json:"count"` // requests, connections or bytes
	Seconds float64 `json:"seconds"`
	Errors  int     `json:"errors"`
	Detail  string  `json:"detail,omitempty"` // the words for the errors
}

// The lines of wrk 4 and h2load 1 that count.
var (
	wrkTotal   = regexp.MustCompile(`(\d+) requests in ([\d.]+)(us|ms|s|m|h),`)
	wrkErrors  = regexp.MustCompile(`Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)|Non-2xx or 3xx responses: (\d+)`)
	wrkRefused = regexp.MustCompile(`Non-2xx or 3xx responses: (\d+)`)
	h2Total    = regexp.MustCompile(`requests: (\d+) total, \d+ started, \d+ done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout`)
	h2Rate     = regexp.MustCompile(`finished in [\w.]+, ([\d.]+) req/s`)
	h2Status   = regexp.MustCompile(`status codes: \d+ 2xx, \d+ 3xx, (\d+) 4xx, (\d+) 5xx`)
)

// readWrk reads what wrk wrote.
func readWrk(out string) (burst, error) {
	m := wrkTotal.FindStringSubmatch(out)
	if m == nil {
		return burst{}, fmt.Errorf("wrk said no total: %s", strings.TrimSpace(out))
	}
	unit := map[string]float64{"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}[m[3]]
	b := burst{Count: number(m[1]), Seconds: number(m[2]) * unit}
	for _, m := range wrkErrors.FindAllStringSubmatch(out, -1) {
		b.blame(m)
	}
	return b, nil
}

// readRefusals reads what wrk wrote of a proxy that refuses everything: an answer that is no refusal is the error there.
func readRefusals(out string) (burst, error) {
	b, err := readWrk(wrkRefused.ReplaceAllString(out, ""))
	if err != nil {
		return b, err
	}
	n := 0.0
	if m := wrkRefused.FindStringSubmatch(out); m != nil {
		n = number(m[1])
	}
	if n != b.Count {
		b.Errors += max(1, int(b.Count-n))
		b.Detail = strings.TrimSpace(fmt.Sprintf("%s of %.0f requests %.0f were refused", b.Detail, b.Count, n))
	}
	return b, nil
}

// readH2load reads what h2load wrote.
func readH2load(out string) (burst, error) {
	m, rate := h2Total.FindStringSubmatch(out), h2Rate.FindStringSubmatch(out)
	if m == nil || rate == nil || number(rate[1]) == 0 {
		return burst{}, fmt.Errorf("h2load said no total: %s", strings.TrimSpace(out))
	}
	b := burst{Count: number(m[2])}
	b.Seconds = b.Count / number(rate[1])
	b.blame(append(m[:1], m[3:]...))
	if m := h2Status.FindStringSubmatch(out); m != nil {
		b.blame(m)
	}
	return b, nil
}

// blame adds the numbers of a match to the errors.
func (b *burst) blame(match []string) {
	sum := 0
	for _, n := range match[1:] {
		sum += int(number(n))
	}
	if sum > 0 {
		b.Errors += sum
		b.Detail = strings.TrimSpace(b.Detail + " " + match[0])
	}
}

func number(s string) float64 {
	f, _ := strconv.ParseFloat(s, 64)
	return f
}

// Work does what `bench worker` was told: the load that no installed tool gives. It writes a burst to standard output.
func Work(kind, address string, conns, seconds int) error {
	var b burst
	began := time.Now()
	switch kind {
	case "bulk":
		b = each(conns, func() (int64, error) { return download(address, began.Add(time.Duration(seconds)*time.Second)) })
	case "connect":
		b = each(conns, func() (int64, error) { return connect(address, began.Add(time.Duration(seconds)*time.Second)) })
	case "idle":
		return idle(address, conns, seconds)
	default:
		return fmt.Errorf("there is no worker %q", kind)
	}
	b.Seconds = time.Since(began).Seconds()
	return json.NewEncoder(os.Stdout).Encode(b)
}

// each adds up what n goroutines count.
func each(n int, count func() (int64, error)) burst {
	var total, failed atomic.Int64
	var detail atomic.Value
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			k, err := count()
			total.Add(k)
			if err != nil {
				failed.Add(1)
				detail.Store(err.Error())
			}
		})
	}
	wg.Wait()
	b := burst{Count: float64(total.Load()), Errors: int(failed.Load())}
	b.Detail, _ = detail.Load().(string)
	return b
}

// download receives until the time is over. MSG_TRUNC lets the kernel drop the bytes, so that the client costs little.
func download(address string, until time.Time) (sum int64, err error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if _, err := c.Write([]byte("D")); err != nil {
		return 0, err
	}
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	buf := make([]byte, 1<<20)
	_ = c.SetDeadline(until)
	for time.Now().Before(until) {
		var n int
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			n, _, failed = unix.Recvfrom(int(fd), buf, unix.MSG_TRUNC)
			return failed != unix.EAGAIN
		})
		if os.IsTimeout(err) {
			break
		}
		if err == nil {
			err = failed
		}
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return sum, err
		}
		sum += int64(n)
	}
	return sum, nil
}

// connect opens connections, one after the other: a byte there and back, then a reset, which leaves no port in TIME_WAIT.
func connect(address string, until time.Time) (n int64, err error) {
	b := make([]byte, 1)
	for ; time.Now().Before(until); n++ {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return n, err
		}
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		b[0] = 'B'
		if _, err = c.Write(b); err == nil {
			_, err = io.ReadFull(c, b)
		}
		c.Close()
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// idleFrom are the addresses that idle clients come from: no proxy should count 10,000 connections of one client as
// normal, and one address has not ports for many more.
const idleFrom = 8

// idle opens n connections, has one request answered on each, says so with a first burst, keeps them for the given
// seconds, and says with a second burst how many the proxy has kept.
func idle(address string, n, seconds int) error {
	conns := make([]net.Conn, n)
	var next atomic.Int64
	opened := each(16, func() (k int64, err error) {
		for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
			d := net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%idleFrom))}}
			if conns[i], err = d.Dial("tcp4", address); err == nil {
				err = askOnce(conns[i], address)
			}
			if err != nil {
				return k, err
			}
			k++
		}
		return k, nil
	})
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(opened); err != nil {
		return err
	}
	time.Sleep(time.Duration(seconds) * time.Second)
	kept := burst{}
	now := time.Now()
	for _, c := range conns {
		if c == nil {
			continue
		}
		_ = c.SetReadDeadline(now.Add(time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); os.IsTimeout(err) {
			kept.Count++
		}
	}
	return out.Encode(kept)
}

// askOnce sends one request and reads the whole answer.
func askOnce(c net.Conn, host string) error {
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := fmt.Fprintf(c, "GET /100 HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n", host); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	for n := 0; n < len(buf); {
		k, err := c.Read(buf[n:])
		if err != nil {
			return err
		}
		n += k
		if strings.HasSuffix(string(buf[:n]), strings.Repeat("x", 100)) {
			return nil
		}
	}
	return fmt.Errorf("an idle connection got another answer: %.60q", buf)
}

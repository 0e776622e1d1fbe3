package stress

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/even-keel/evenkeel/bench/machine"
)

// Floods come from these addresses and not from the bystander's: evenkeel lets one address have half of a listener's
// connections at the most.
const floodFrom, floodSources = 2, 16

// dialFrom opens the i-th connection of a flood.
func dialFrom(address string, i int) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(floodFrom+i%floodSources))}}
	c, err := d.Dial("tcp4", address)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// idleMany holds as many idle connections as one process may have descriptors. Each client process has the same limit as
// evenkeel, so there are several.
func idleMany(ctx context.Context, t *trial) error {
	want, each := pick(t.lab, 20000, 400), pick(t.lab, 4000, 100)
	before, err := machine.RSS(t.pid)
	if err != nil {
		return err
	}
	var clients []*machine.Process
	defer func() {
		for _, c := range clients {
			c.Stop(0)
		}
	}()
	for i := 0; i < want/each && ctx.Err() == nil; i++ {
		c, err := machine.Start(machine.Command{Name: "idle" + strconv.Itoa(i), Dir: t.dir, Grab: true,
			Argv: []string{t.lab.self, "worker", "idle", t.web, strconv.Itoa(each), pick(t.lab, "5", "1")}})
		if err != nil {
			return err
		}
		clients = append(clients, c)
		err = wait(time.Minute, func() error {
			if strings.Count(c.Output(), "\n") == 0 {
				return errors.New("idle connections were not opened within a minute: " + c.LogTail())
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	after, err := machine.RSS(t.pid)
	if err != nil {
		return err
	}
	var opened, kept float64
	for _, c := range clients {
		if !c.Wait(time.Minute) {
			return errors.New("a client process did not end")
		}
		var first, second struct{ Count float64 }
		d := json.NewDecoder(strings.NewReader(c.Output()))
		if err := errors.Join(d.Decode(&first), d.Decode(&second)); err != nil {
			return err
		}
		opened, kept = opened+first.Count, kept+second.Count
	}
	// A tenth of its descriptors evenkeel keeps for other things, and some go to endpoints and the bystander.
	possible := min(float64(want), 0.85*float64(machine.FileLimit()))
	t.say("%d client processes opened %.0f of %d connections (evenkeel may have %d descriptors); %.0f were kept; refused: %s",
		len(clients), opened, want, machine.FileLimit(), kept, t.refused())
	t.say("resident memory grew by %.0f bytes for each", float64(after-before)/max(opened, 1))
	if opened < possible {
		t.fail("only %.0f connections were opened, fewer than %.0f", opened, possible)
	}
	if kept < opened {
		t.fail("%.0f idle connections were closed before their time", opened-kept)
	}
	return nil
}

// dribble opens n connections and lets each do as it is told until it fails, or the time is over, which bounds the experiment and is
// several times what evenkeel's limits say. It says how many ended before, and returns that number, with those that limits refused.
func (t *trial) dribble(ctx context.Context, n int, d time.Duration, what func(c *net.TCPConn, step int) error) (ended int64) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var opened, over, refused atomic.Int64
	var firstEnd, lastEnd atomic.Int64
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			c, err := dialFrom(t.web, i)
			if err != nil {
				refused.Add(1)
				return
			}
			defer c.Close()
			_ = c.SetLinger(0)
			opened.Add(1)
			began := time.Now()
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for step := 0; ; step++ {
				if err := what(c, step); err != nil {
					over.Add(1)
					took := int64(time.Since(began))
					firstEnd.CompareAndSwap(0, took)
					for old := lastEnd.Load(); took > old && !lastEnd.CompareAndSwap(old, took); old = lastEnd.Load() {
					}
					return
				}
				select {
				case <-tick.C:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	wg.Wait()
	when := ""
	if over.Load() > 0 {
		when = fmt.Sprintf(", from %.1f s to %.1f s after they came", time.Duration(firstEnd.Load()).Seconds(), time.Duration(lastEnd.Load()).Seconds())
	}
	t.say("%d clients connected, %d could not; evenkeel ended %d of them%s; refused: %s", opened.Load(), refused.Load(), over.Load(), when, t.refused())
	if t.setup.limits != "" { // a reset may come before the client knows that it is connected
		return over.Load() + refused.Load()
	}
	return over.Load()
}

// allEnded asks that evenkeel ended the slow clients, when there was time for it.
func (t *trial) allEnded(ended int64, n int) {
	if !t.lab.short && ended < int64(n) {
		t.fail("only %d of %d slow clients were ended", ended, n)
	}
}

// closed reports the end of a connection that may have sent an answer before.
func closed(c *net.TCPConn) error {
	_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
	buf := make([]byte, 512)
	for {
		if _, err := c.Read(buf); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return nil
			}
			return err
		}
	}
}

func slowHeaders(ctx context.Context, t *trial) error {
	n := pick(t.lab, 5000, 200)
	ended := t.dribble(ctx, n, pick(t.lab, time.Minute, 2*time.Second), func(c *net.TCPConn, step int) error {
		piece := "a"
		if step == 0 {
			piece = "GET /slow HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
		}
		if _, err := io.WriteString(c, piece); err != nil {
			return err
		}
		return closed(c)
	})
	t.allEnded(ended, n)
	return nil
}

func slowBody(ctx context.Context, t *trial) error {
	n := pick(t.lab, 3000, 100)
	ended := t.dribble(ctx, n, pick(t.lab, time.Minute, 2*time.Second), func(c *net.TCPConn, step int) error {
		piece := "b"
		if step == 0 {
			piece = "POST /slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
		}
		if _, err := io.WriteString(c, piece); err != nil {
			return err
		}
		return closed(c)
	})
	t.allEnded(ended, n)
	return nil
}

func slowRead(ctx context.Context, t *trial) error {
	n := pick(t.lab, 2000, 50)
	one := make([]byte, 1)
	ended := t.dribble(ctx, n, pick(t.lab, 3*time.Minute, 2*time.Second), func(c *net.TCPConn, step int) error {
		if step == 0 {
			_ = c.SetReadBuffer(4096)
			_, err := io.WriteString(c, "GET /big?bytes=268435456 HTTP/1.1\r\nHost: localhost\r\n\r\n")
			return err
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := c.Read(one); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		return wasReset(c)
	})
	t.allEnded(ended, n)
	return nil
}

// wasReset finds a reset that hides behind bytes that were not read yet.
func wasReset(c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	sys := 0
	if err := raw.Control(func(fd uintptr) { sys, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR) }); err != nil {
		return err
	}
	if err == nil && sys != 0 {
		err = unix.Errno(sys)
	}
	return err
}

// connects opens connections in an open loop, with one request on each.
func connects(ctx context.Context, t *trial) error {
	rate, d := pick(t.lab, 10000, 500), pick(t.lab, 10*time.Second, 2*time.Second)
	const workers = 128
	var next, done, failed, late atomic.Int64
	var detail atomic.Value
	var wg sync.WaitGroup
	began := time.Now()
	for range workers {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := next.Add(1) - 1
				due := began.Add(time.Duration(i) * time.Second / time.Duration(rate))
				if due.Sub(began) > d {
					return
				}
				time.Sleep(time.Until(due))
				if time.Since(due) > time.Second {
					late.Add(1)
					continue
				}
				if err := visit(t.web, int(i)); err != nil {
					failed.Add(1)
					detail.Store(reason(err))
					continue
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	took := time.Since(began).Seconds()
	t.say("%d connections with a request each were served, %.0f each second of %d asked for (%d were never opened: the machine had no time); %d failed; refused: %s",
		done.Load(), float64(done.Load())/took, rate, late.Load(), failed.Load(), t.refused())
	if why, ok := detail.Load().(string); ok {
		t.say("the last failure: %s", why)
	}
	if all := done.Load() + failed.Load(); float64(done.Load()) < bystanderShare*float64(all) {
		t.fail("%d of %d connections failed", failed.Load(), all)
	}
	return nil
}

// errRefused is no fault of evenkeel: a limit was reached.
var errRefused = errors.New("refused by a limit")

// visit opens a connection, asks once, and resets it, so that no port is left in TIME_WAIT.
func visit(address string, i int) error {
	c, err := dialFrom(address, i)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetLinger(0)
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, "GET /5 HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		return err
	}
	first, err := bufio.NewReaderSize(c, 512).ReadString('\n')
	if err == nil && strings.HasPrefix(first, "HTTP/1.1 429") {
		return errRefused
	}
	if err == nil && !strings.HasPrefix(first, "HTTP/1.1 200") {
		err = fmt.Errorf("answer %q", first)
	}
	return err
}

// fullTable opens many more connections than evenkeel has descriptors, and keeps them.
func fullTable(ctx context.Context, t *trial) error {
	n, d := pick(t.lab, 3000, 1500), pick(t.lab, 10*time.Second, 3*time.Second)
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var opened, ended, failed atomic.Int64
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			for ctx.Err() == nil {
				c, err := dialFrom(t.web, i)
				if err != nil {
					failed.Add(1)
				} else {
					opened.Add(1)
					_, err = io.WriteString(c, "GET /5 HTTP/1.1\r\nHost: localhost\r\n\r\n")
					for err == nil && ctx.Err() == nil {
						pause(ctx, 100*time.Millisecond)
						err = closed(c)
					}
					if err != nil {
						ended.Add(1)
					}
					_ = c.SetLinger(0)
					c.Close()
				}
				pause(ctx, 100*time.Millisecond)
			}
		})
	}
	most := 0
	for ctx.Err() == nil {
		if s, err := t.status(); err == nil {
			most = max(most, s.Node.Go.FDs)
		}
		pause(ctx, 100*time.Millisecond)
	}
	wg.Wait()
	t.say("%d clients tried again and again: %d connections opened, %d ended by evenkeel, %d not opened; refused: %s",
		n, opened.Load(), ended.Load(), failed.Load(), t.refused())
	t.say("evenkeel had at most %d of %d descriptors in use, when the admin listener answered", most, t.setup.files)
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

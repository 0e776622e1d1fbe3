package stress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/even-keel/evenkeel/bench/machine"
)

// changePatience is how long evenkeel may take for one change.
const changePatience = 30 * time.Second

// load puts requests on evenkeel; the returned function ends it and asks for no failure.
func (t *trial) load(ctx context.Context, c *caller) (end func() tally) {
	c.address = t.web
	if c.tls != nil {
		c.address = t.secure
	}
	c.workers = 64
	c.start(ctx)
	return func() tally {
		sum := c.stop()
		t.result.Load = &sum
		if sum.Rate < 0.98*float64(c.rate) {
			t.say("this machine gave %.0f of %d requests/s", sum.Rate, c.rate)
		}
		return sum
	}
}

// noFailures ends the load and asks that no request failed.
func (t *trial) noFailures(end func() tally) {
	if sum := end(); sum.Failed > 0 || sum.OK == 0 {
		t.fail("%d of %d requests failed", sum.Failed, sum.Sent)
	}
}

// reloads changes the site file again and again.
func reloads(ctx context.Context, t *trial) error {
	n := pick(t.lab, 100, 10)
	end := t.load(ctx, &caller{rate: pick(t.lab, 5000, 500), path: "/reload", posts: 4})
	defer t.noFailures(end)
	began, worst := time.Now(), time.Duration(0)
	for i := 1; i <= n && ctx.Err() == nil; i++ {
		before, err := t.status()
		if err != nil {
			return err
		}
		if err := t.writeSite(i); err != nil {
			return err
		}
		told := time.Now()
		if err := t.signal(syscall.SIGHUP); err != nil {
			return err
		}
		err = wait(changePatience, func() error {
			now, err := t.status()
			if err != nil {
				return err
			}
			if r := now.Node.LastReload; r.At.After(before.Node.LastReload.At) && !r.OK {
				return fatal{fmt.Errorf("reload %d was refused: %s", i, r.Error)}
			}
			if now.Node.Revision == before.Node.Revision {
				return fmt.Errorf("reload %d did not happen within %s", i, changePatience)
			}
			return nil
		})
		if err != nil {
			t.fail("%v", err)
			return nil
		}
		worst = max(worst, time.Since(told))
		time.Sleep(pick(t.lab, 100*time.Millisecond, 50*time.Millisecond))
	}
	t.say("%d reloads by SIGHUP in %.1f s, the slowest in force after %s", n, time.Since(began).Seconds(), worst.Round(time.Millisecond))
	return nil
}

// rolling restarts one endpoint after the other, as a deployment does.
func rolling(ctx context.Context, t *trial) error {
	n := pick(t.lab, 20, 4)
	end := t.load(ctx, &caller{rate: pick(t.lab, 5000, 300), path: "/work?ms=5", posts: 4})
	defer t.noFailures(end)
	began, worst := time.Now(), time.Duration(0)
	for i := 0; i < n && ctx.Err() == nil; i++ {
		which := i % len(t.endpoints)
		e := t.endpoints[which]
		told := time.Now()
		if err := t.set(e, "drain"); err != nil {
			return err
		}
		err := wait(changePatience, func() error {
			v, err := t.endpoint(e.address)
			if err == nil && v.InFlight > 0 {
				err = fmt.Errorf("draining %s: %d requests still in flight after %s", e.address, v.InFlight, changePatience)
			}
			return err
		})
		if err != nil {
			t.fail("%v", err)
			return nil
		}
		worst = max(worst, time.Since(told))
		e.process.Stop(0)
		if err := t.startEndpoint(e, which); err != nil {
			return err
		}
		if err := t.set(e, "up"); err != nil {
			return err
		}
		if err := t.up(e); err != nil {
			t.fail("%v", err)
			return nil
		}
	}
	t.say("%d endpoints drained, ended and started again in %.1f s; the slowest drain took %s", n, time.Since(began).Seconds(), worst.Round(time.Millisecond))
	return nil
}

// set says what is wanted of an endpoint.
func (t *trial) set(e *endpoint, state string) error {
	return t.get("POST", "/api/v1/pools/service/endpoints/"+e.address+"/"+state, nil)
}

// up waits until evenkeel uses an endpoint again.
func (t *trial) up(e *endpoint) error {
	return wait(changePatience, func() error {
		v, err := t.gateway.endpoint(e.address)
		if err == nil && v.State != "up" && v.State != "slow" {
			err = fmt.Errorf("%s is %s (%s) %s after it was started again", e.address, v.State, v.Why, changePatience)
		}
		return err
	})
}

// upgrade replaces the running program by itself.
func upgrade(ctx context.Context, t *trial) error {
	n := pick(t.lab, 5, 1)
	end := t.load(ctx, &caller{rate: pick(t.lab, 5000, 300), path: "/upgrade", posts: 4, fresh: 50, short: t.setup.short})
	defer t.noFailures(end)
	for i := 1; i <= n && ctx.Err() == nil; i++ {
		time.Sleep(pick(t.lab, 500*time.Millisecond, 200*time.Millisecond))
		old, told := t.pid, time.Now()
		peak := t.peakRSS()
		if err := t.signal(syscall.SIGUSR2); err != nil {
			return err
		}
		next := 0
		err := wait(changePatience, func() error {
			s, err := t.status()
			if err == nil && s.Node.PID == old {
				err = fmt.Errorf("upgrade %d: no successor serves within %s: %s", i, changePatience, t.process.LogTail())
			}
			next = s.Node.PID
			return err
		})
		if err != nil {
			t.fail("%v", err)
			return nil
		}
		served := time.Since(told)
		ended := func() bool { return gone(old) }
		if old == t.process.Pid() {
			ended = t.process.Ended
		}
		t.peak = max(t.peak, peak)
		t.succeed(next)
		err = wait(changePatience, func() error {
			if !ended() {
				return fmt.Errorf("upgrade %d: process %d still runs %s after SIGUSR2", i, old, changePatience)
			}
			return nil
		})
		if err != nil {
			t.fail("%v", err)
			return nil
		}
		t.say("upgrade %d: process %d answered after %s, process %d had ended after %s", i, next, served.Round(time.Millisecond), old, time.Since(told).Round(time.Millisecond))
	}
	if s := t.process.Ending(); s != "exit status 0" {
		t.fail("the first process ended with %s", s)
	}
	return nil
}

// certificate replaces certificate and key under TLS load.
func certificate(ctx context.Context, t *trial) error {
	n := pick(t.lab, 10, 2)
	secure := &tls.Config{InsecureSkipVerify: true, ServerName: "localhost", MinVersion: tls.VersionTLS12}
	end := t.load(ctx, &caller{rate: pick(t.lab, 5000, 300), path: "/tls", posts: 4, fresh: 20, tls: secure})
	defer t.noFailures(end)
	worst := time.Duration(0)
	for i := 2; i < 2+n && ctx.Err() == nil; i++ {
		if err := machine.Certificate(t.file("cert.pem"), t.file("key.pem"), "", int64(i)); err != nil {
			return err
		}
		told := time.Now()
		err := wait(changePatience, func() error {
			d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 10 * time.Second}, Config: secure}
			c, err := d.DialContext(ctx, "tcp", t.secure)
			if err != nil {
				return fmt.Errorf("handshake: %w", err)
			}
			defer c.Close()
			if serial := c.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.Int64(); serial != int64(i) {
				return fmt.Errorf("certificate %d is still shown %s after it was replaced", serial, changePatience)
			}
			return nil
		})
		if err != nil {
			t.fail("%v", err)
			return nil
		}
		worst = max(worst, time.Since(told))
	}
	t.say("%d certificates replaced; the slowest was shown after %s", n, worst.Round(time.Millisecond))
	return nil
}

// afterKill is what a request may have been late in being written when its endpoint died. Requests sent later than this
// after the kill were not in flight.
const afterKill = time.Second

// kill ends an endpoint without a word.
func kill(ctx context.Context, t *trial) error {
	c := &caller{rate: pick(t.lab, 2000, 300), path: "/work?ms=10", posts: 2}
	end := t.load(ctx, c)
	time.Sleep(time.Second)
	e := t.endpoints[0]
	before, err := t.endpoint(e.address)
	if err != nil {
		end()
		return err
	}
	killed := time.Now()
	e.process.Signal(syscall.SIGKILL)
	<-e.process.Done()
	last, picks, out := time.Duration(0), before.Picks, time.Duration(0)
	for time.Since(killed) < pick(t.lab, 5*time.Second, 1500*time.Millisecond) {
		v, err := t.endpoint(e.address)
		if err != nil {
			end()
			return err
		}
		if v.Picks != picks {
			last, picks = time.Since(killed), v.Picks
		}
		if out == 0 && v.State != "up" && v.State != "slow" {
			out = time.Since(killed)
		}
		time.Sleep(look)
	}
	t.say("the dead endpoint was out after %s; it was picked %d more times, the last %s after its death", out.Round(time.Millisecond), picks-before.Picks, last.Round(time.Millisecond))
	back := errors.Join(t.startEndpoint(e, 0), t.up(e))
	sum := end()
	if back != nil {
		t.fail("%v", back)
	}
	inFlight := 0
	for _, f := range sum.failures {
		if late := f.sent.Sub(killed); f.method == "POST" && late < afterKill {
			inFlight++
		} else {
			t.fail("a %s sent %s after the kill failed: %s", f.method, late.Round(time.Millisecond), f.why)
		}
	}
	t.say("%d POST requests that were in flight failed", inFlight)
	if inFlight > c.workers {
		t.fail("%d POST requests failed, more than the %d that can be in flight", inFlight, c.workers)
	}
	return nil
}

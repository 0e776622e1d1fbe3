package stress

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/bench/machine"
)

// Limits that a flood runs into and the bystander, with 200 requests/s on 16 connections, does not.
const (
	limitedConnections = "connections_per_ip: 60"
	limitedRequests    = "limits: [{name: per-ip, by: ip, rate: 400/s, burst: 400}]\n"
)

// connectsLimited is connects from so few addresses that a limit refuses most of it.
func connectsLimited(ctx context.Context, t *trial) error {
	rate, d := pick(t.lab, 10000, 2000), pick(t.lab, 10*time.Second, 2*time.Second)
	const workers = 128
	var next, served, refused, failed, late atomic.Int64
	var detail atomic.Value
	var wg sync.WaitGroup
	began := time.Now()
	for range workers {
		wg.Go(func() {
			for ctx.Err() == nil {
				due := began.Add(time.Duration(next.Add(1)-1) * time.Second / time.Duration(rate))
				if due.Sub(began) > d {
					return
				}
				pause(ctx, time.Until(due))
				if time.Since(due) > time.Second {
					late.Add(1)
					continue
				}
				switch err := visit(t.web, 0); {
				case err == nil:
					served.Add(1)
				case errors.Is(err, errRefused):
					refused.Add(1)
				default:
					failed.Add(1)
					detail.Store(reason(err))
				}
			}
		})
	}
	wg.Wait()
	t.say("of %d connections from one address %d were served and %d refused (%d were never opened: the machine had no time); %d failed",
		served.Load()+refused.Load()+failed.Load(), served.Load(), refused.Load(), late.Load(), failed.Load())
	if why, ok := detail.Load().(string); ok {
		t.say("the last failure: %s", why)
	}
	if refused.Load() == 0 {
		t.fail("nothing was refused")
	}
	if all := served.Load() + refused.Load() + failed.Load(); float64(failed.Load()) > (1-bystanderShare)*float64(all) {
		t.fail("%d of %d connections got no answer", failed.Load(), all)
	}
	return nil
}

// The lines of wrk 4 that count.
var (
	wrkRequests = regexp.MustCompile(`(\d+) requests in`)
	wrkRefused  = regexp.MustCompile(`Non-2xx or 3xx responses: (\d+)`)
	wrkBroken   = regexp.MustCompile(`Socket errors: .*`)
)

// refusals floods evenkeel from one address over kept connections, in a closed loop, and says what a refusal costs.
func refusals(ctx context.Context, t *trial) error {
	if _, err := exec.LookPath("wrk"); err != nil {
		return errors.New("wrk is not installed (Debian: apt-get install wrk)")
	}
	cpus := machine.CPUs()
	seconds := pick(t.lab, 10, 2)
	for _, conns := range []int{64, 512} {
		before, err := machine.CPUTime(t.pid)
		if err != nil {
			return err
		}
		// Not the bystander's address, which would share its limit.
		out, err := machine.Run(machine.Command{Name: "wrk", Dir: t.dir, CPUs: cpus[len(cpus)-1:],
			Argv: []string{"wrk", "-t1", "-c", strconv.Itoa(conns), "-d", fmt.Sprint(seconds, "s"), "--timeout", "15s", "http://" + t.web + "/5"}},
			time.Duration(seconds)*time.Second+patience)
		if err != nil {
			return err
		}
		after, err := machine.CPUTime(t.pid)
		if err != nil {
			return err
		}
		all, refused := count(wrkRequests, out), count(wrkRefused, out)
		if refused == 0 {
			t.fail("with %d connections nothing was refused", conns)
			continue
		}
		used := after.Since(before).Total()
		t.say("%d connections: %.0f refusals a second (%.2f %% of the requests), %.1f us of a core for each request: %.0f a second with a whole core",
			conns, refused/float64(seconds), 100*refused/all, float64(used.Microseconds())/all, all/used.Seconds())
		if broken := wrkBroken.FindString(out); broken != "" {
			t.fail("with %d connections: %s", conns, broken)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// count is the number in a match; 0 without one.
func count(form *regexp.Regexp, text string) float64 {
	m := form.FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	n, _ := strconv.ParseFloat(m[1], 64)
	return n
}

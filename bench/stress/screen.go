package stress

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/even-keel/evenkeel/bench/machine"
)

// The site of the attack flood: everything is screened. The route that is attacked never passes a request unscreened; the critical one
// rather lets one pass than refuse it. One rule holds off who asks too often.
const (
	screenRoutes = "  - {name: critical, paths: [/slept/critical/*], pool: slept, class: critical, screen: {mode: block}}\n" +
		"  - {name: attacked, paths: [/slept/attacked/*], pool: slept, screen: {mode: block, always: true}}\n"
	screenSite = "rules:\n  - {name: too-many, paths: [/slept/attacked/limited], action: limit, count: 500, window: 1s, by: ip}\n"
)

// Of the flood: requests each second, connections, and how long.
const (
	floodRate  = 3000
	floodConns = 64
	floodTime  = 15 * time.Second
)

// criticalRate is what of the capacity critical requests take, criticalGoal what of them must be answered within criticalTime.
const (
	criticalRate = sleptRate * 2 / 5
	criticalGoal = 0.95
	criticalTime = 500 * time.Millisecond
)

// attacks are sent in turn: two that the cheap checks find, one that only the rule set does, one that a rule limits before
// anything looks at it, and one that has a body.
func attacks() []string {
	const more = " HTTP/1.1\r\nHost: localhost\r\nUser-Agent: Mozilla/5.0\r\nAccept: */*\r\n"
	body := `{"name":"x' UNION SELECT password FROM users -- ","a":[1,2,3]}`
	return []string{
		"GET /slept/attacked/a?id=1%27+or+1%3D1+--+-" + more + "\r\n",
		"GET /slept/attacked/b?q=%3Cscript%3Ealert(1)%3C/script%3E" + more + "\r\n",
		"GET /slept/attacked/c?file=/etc/passwd" + more + "\r\n",
		"GET /slept/attacked/limited?id=1%27+or+1%3D1+--+-" + more + "\r\n",
		"POST /slept/attacked/d" + more + fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body),
	}
}

// screenFlood compares critical requests in quiet with those during an attack flood from one address.
func screenFlood(ctx context.Context, t *trial) error {
	d := pick(t.lab, floodTime, 2*time.Second)
	critical := func(with func() error) (tally, time.Duration, error) {
		c := &caller{address: t.web, rate: criticalRate, workers: 64, path: "/slept/critical/x"}
		before, err := machine.CPUTime(t.pid)
		if err != nil {
			return tally{}, 0, err
		}
		c.start(ctx)
		err = with()
		sum := c.stop()
		after, err2 := machine.CPUTime(t.pid)
		if err == nil {
			err = err2
		}
		return sum, after.Since(before).Total(), err
	}
	quiet, quietCPU, err := critical(func() error { return sleep(ctx, d/3) })
	if err != nil {
		return err
	}
	var answers map[string]int
	hit, hitCPU, err := critical(func() error { answers = flood(ctx, t.web, d); return ctx.Err() })
	if err != nil {
		return err
	}
	total := 0
	for _, n := range answers {
		total += n
	}
	t.say("critical requests in quiet: %.2f %% within %s; %s", 100*quiet.within(criticalTime), criticalTime, quiet)
	t.say("critical requests in the flood: %.2f %% within %s; %s", 100*hit.within(criticalTime), criticalTime, hit)
	t.say("flood: %.0f attacks each second from one address; answers: %s", float64(total)/d.Seconds(), counts(answers))
	t.say("evenkeel used %.2f cores in quiet and %.2f in the flood: %.0f µs of processor time more for each attack", quietCPU.Seconds()/quiet.seconds(),
		hitCPU.Seconds()/hit.seconds(), float64(hitCPU.Microseconds())/float64(max(total, 1))-float64(quietCPU.Microseconds())*hit.seconds()/quiet.seconds()/float64(max(total, 1)))
	if got := hit.within(criticalTime); got < criticalGoal {
		t.fail("only %.2f %% of the critical requests were answered within %s", 100*got, criticalTime)
	}
	if answers["200"] > 0 {
		t.fail("%d attacks got through", answers["200"])
	}
	if total < int(d.Seconds()*floodRate/10) {
		t.fail("only %d attacks were answered: that was no flood", total)
	}
	return nil
}

// flood sends attacks in an open loop from one address, and counts the answers by status.
func flood(ctx context.Context, address string, d time.Duration) map[string]int {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var mu sync.Mutex
	sum := map[string]int{}
	all := attacks()
	var wg sync.WaitGroup
	for i := range floodConns {
		wg.Go(func() {
			mine := map[string]int{}
			attack(ctx, address, all, i, mine)
			mu.Lock()
			defer mu.Unlock()
			for what, n := range mine {
				sum[what] += n
			}
		})
	}
	wg.Wait()
	return sum
}

// attack sends over one connection after the other.
func attack(ctx context.Context, address string, all []string, i int, sum map[string]int) {
	tick := time.NewTicker(time.Second * floodConns / floodRate)
	defer tick.Stop()
	for ctx.Err() == nil {
		c, err := dialFrom(address, 0)
		if err != nil {
			sum["no connection"]++
			return
		}
		in := bufio.NewReader(c)
		for ; ctx.Err() == nil; i++ {
			_ = c.SetDeadline(time.Now().Add(patience))
			if _, err := io.WriteString(c, all[i%len(all)]); err != nil {
				break
			}
			answer, err := http.ReadResponse(in, nil)
			if err != nil {
				sum["cut off"]++
				break
			}
			_, _ = io.Copy(io.Discard, answer.Body)
			sum[fmt.Sprint(answer.StatusCode)]++
			if answer.Close {
				i++
				break
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
		c.Close()
	}
}

// within is the share of the requests that were due that were answered rightly within d of being due.
func (t tally) within(d time.Duration) float64 {
	n := 0
	for _, took := range t.took {
		if took <= d {
			n++
		}
	}
	return float64(n) / float64(max(t.Sent+t.NotSent, 1))
}

// seconds is how long the requests were sent.
func (t tally) seconds() float64 { return float64(t.Sent) / max(t.Rate, 1e-9) }

// counts are numbers in a line, the largest first.
func counts(of map[string]int) string {
	var list []string
	for what, n := range of {
		list = append(list, fmt.Sprintf("%9d × %s", n, what))
	}
	slices.Sort(list)
	slices.Reverse(list)
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return strings.Join(list, ", ")
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

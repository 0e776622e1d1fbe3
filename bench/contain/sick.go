package contain

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The numbers of the sick endpoint.
const (
	sickEndpoints = 5
	sickRate      = 300.0
	sickWork      = 5 * time.Millisecond
	sickErrors    = 0.001 // share of safe requests that clients may see failing
	sickFew       = 10    // as many may in a quick run, which is too short for a share
	sickSoon      = 5 * time.Second
	noticedGaps   = 10 // mean times between its requests
)

// sick has one of five endpoints fall ill in each way, behind probes that see nothing of most of them.
func sick(ctx context.Context, t *trial) error {
	for _, kind := range []string{slow, hang, fail, mute, garbage, reset} {
		if err := t.sickWith(ctx, kind); err != nil {
			return err
		}
	}
	return nil
}

func (t *trial) sickWith(ctx context.Context, kind string) error {
	var ends []*endpoint
	var addresses []string
	for range sickEndpoints {
		e, err := startEndpoint(0, sickWork)
		if err != nil {
			return err
		}
		defer e.stop()
		ends, addresses = append(ends, e), append(addresses, e.address)
	}
	f, err := t.startFront(kind, func(listen, admin string) string {
		if t.proxy == haproxy {
			return sickHaproxy(listen, addresses)
		}
		return sickSite(listen, admin, addresses)
	})
	if err != nil {
		return err
	}
	defer f.stop()
	ill, calm, long := ends[2], t.long(5*time.Second, 3*time.Second), t.long(60*time.Second, 12*time.Second)
	d := run(ctx, calm+long, t.lab.seed, []stream{{url: "http://" + f.address + "/work", class: "standard", rate: sickRate, patience: 10 * time.Second}},
		happens{calm, func() { ill.sicken(kind) }})
	t.watch(d, ends...)
	before, after := d.between(0, calm, nil), d.between(calm, calm+long, nil)
	if before.share() < 0.999 {
		t.doubt(fmt.Sprintf("%s: %d of %d requests failed before the endpoint fell ill", kind, before.sent-before.good, before.sent))
	}
	failed, errors := after.sent-after.good, 1-after.share()
	t.goal(kind+": requests that failed", fmt.Sprintf("%d of %d, %s", failed, after.sent, inPercent(errors)), "<= 0.1 %",
		errors <= sickErrors || t.lab.quick && failed <= sickFew)
	came, got := ill.arrivals(), 0
	for _, at := range came {
		if since := at.Sub(d.start) - calm; since >= 0 && since < sickSoon {
			got++
		}
	}
	t.tell(fmt.Sprintf("%s: requests it got in the first %v", kind, sickSoon), fmt.Sprintf("%d, its share were %.0f", got, sickRate/sickEndpoints*sickSoon.Seconds()))
	took, ok := noticed(came, d.start.Add(calm), d.start.Add(calm+long))
	if !ok {
		t.goal(kind+": noticed after", "never", "some time", false)
	} else {
		t.tell(kind+": noticed after", inMS(took))
	}
	t.tell(kind+": slowest of a thousand", inMS(quantile(after.took, 0.999)))
	return nil
}

// noticed is how long it took until the endpoint got nothing for the first time in noticedGaps times as long as its requests are apart otherwise: by
// chance that happens once in 20,000 requests.
func noticed(came []time.Time, from, to time.Time) (time.Duration, bool) {
	gap := noticedGaps * sickEndpoints * time.Second / time.Duration(sickRate)
	last := from
	for _, c := range append(slices.SortedFunc(slices.Values(came), time.Time.Compare), to) {
		if c.Before(from) {
			continue
		}
		if c.Sub(last) >= gap {
			return last.Sub(from), true
		}
		last = c
	}
	return 0, false
}

// sickSite has evenkeel as it comes; what it is told is how long one attempt may take, as HAProxy is.
func sickSite(listen, admin string, addresses []string) string {
	return fmt.Sprintf(`admin: {listen: %q}
listeners: {web: {listen: %q}}
pools: {all: {endpoints: ["%s"], probe: {http: {path: /healthz}, every: 1s, timeout: 500ms}}}
routes: [{name: all, pool: all, retry: {attempt_timeout: 1s}}]
`, admin, listen, strings.Join(addresses, `", "`))
}

// sickHaproxy has probes, repeats of what may be repeated, and the passive checks of HAProxy's manual.
func sickHaproxy(listen string, addresses []string) string {
	text := haproxyHead + "  timeout server 1s\n  retries 3\n  option redispatch 1\n  retry-on all-retryable-errors\n" +
		"listen all\n  bind " + listen + "\n  balance roundrobin\n  option httpchk GET /healthz\n"
	for i, a := range addresses {
		text += fmt.Sprintf("  server s%d %s check inter 1s fall 3 rise 1 observe layer7 error-limit 10 on-error mark-down\n", i, a)
	}
	return text
}

package cost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"crypto/tls"

	"github.com/even-keel/evenkeel/bench/machine"
)

// bench measures one case after the other.
type bench struct {
	*plan
	dir   string
	ports machine.Ports
}

// proxy is one proxy during one case.
type proxy struct {
	name    string
	address string
	process *machine.Process
	row     *row
}

func (b *bench) file(name string) string { return filepath.Join(b.dir, name) }

// worker starts a part of this program on the load core.
func (b *bench) worker(name string, args ...string) (*machine.Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return machine.Start(machine.Command{Name: name, Argv: append([]string{self, "worker"}, args...), CPUs: b.load, Dir: b.dir, Grab: true})
}

// measure runs one case with fresh processes: all are checked and warmed up, then loaded in turn, round by round.
func (b *bench) measure(ctx context.Context, k kase) (*table, error) {
	t := &table{Case: k.name, Unit: k.unit}
	at, err := b.ports.FreeAddress("127.0.0.1")
	if err != nil {
		return nil, err
	}
	service, err := b.worker("service", "service", at)
	if err != nil {
		return nil, err
	}
	defer service.Stop(0)
	if err := service.Listening(at); err != nil {
		return nil, err
	}
	var all []*proxy
	for _, name := range append([]string{evenkeel}, b.rivals...) {
		p, err := b.start(k, name, at)
		if errors.Is(err, errNoStream) {
			fmt.Fprintf(b.talk, "(%v) ", err)
			continue
		}
		if p != nil {
			defer p.process.Stop(stopGrace)
		}
		if err != nil {
			return nil, err
		}
		all, t.Rows = append(all, p), append(t.Rows, p.row)
		if err := b.check(k, p); err != nil {
			p.row.Invalid = err.Error()
		}
	}
	if k.kind == memory {
		for _, p := range all {
			b.idle(ctx, k, p)
		}
	} else {
		b.rounds(ctx, k, all, t)
	}
	t.sum(b.rivals[0])
	return t, nil
}

// start starts a proxy in front of the service.
func (b *bench) start(k kase, name, service string) (*proxy, error) {
	at, err := b.ports.FreeAddress("127.0.0.1")
	if err != nil {
		return nil, err
	}
	dir := b.file("run-" + name) // the program that was built may have the proxy's name
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	line, err := argv(name, setting{mode: k.mode, listen: at, service: service, dir: dir, program: b.program,
		cert: b.file("cert.pem"), key: b.file("key.pem"), both: b.file("both.pem")})
	if err != nil {
		return nil, err
	}
	process, err := machine.Start(machine.Command{Name: name, Argv: line, CPUs: b.proxyCPU, Dir: dir})
	if err != nil {
		return nil, err
	}
	p := &proxy{name: name, address: at, process: process, row: &row{Proxy: name}}
	return p, process.Listening(at)
}

// check asks for one right answer over HTTP/1.1, so that no proxy looks cheap by answering something else.
func (b *bench) check(k kase, p *proxy) error {
	if k.mode == modeTCP || k.mode == modeH2C {
		return nil // the load tools count what is wrong
	}
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	answer, err := client.Get(k.url(p.address))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if k.kind == refusals {
		if answer.StatusCode != refusedWith {
			return fmt.Errorf("got status %d instead of a refusal with %d", answer.StatusCode, refusedWith)
		}
		return nil
	}
	if body, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != 200 || len(body) != k.body {
		return fmt.Errorf("asked for %d bytes, got status %d with %d bytes (%v)", k.body, answer.StatusCode, len(body), err)
	}
	return nil
}

func (k kase) url(address string) string {
	scheme := "http"
	if k.mode == modeTLS {
		scheme = "https"
	}
	return fmt.Sprintf("%s://%s/%d", scheme, address, k.body)
}

// rounds loads the proxies in turn. Disturbed rounds are taken again, as many times as there are rounds; what is disturbed
// after that stays, and the table says so.
func (b *bench) rounds(ctx context.Context, k kase, all []*proxy, t *table) {
	for _, p := range all {
		if _, err := b.turn(ctx, k, p, warmUp); err != nil && !errors.Is(err, errNothing) && p.row.Invalid == "" {
			p.row.Invalid = err.Error()
		}
	}
	for done := 0; done < b.plan.rounds; {
		round := make([]sample, len(all))
		disturbed := false
		for i, p := range all {
			if p.row.Invalid != "" || ctx.Err() != nil {
				continue
			}
			s, err := b.turn(ctx, k, p, b.seconds)
			if err != nil {
				p.row.Invalid = err.Error()
			}
			round[i], disturbed = s, disturbed || s.Other > otherShare
		}
		if ctx.Err() != nil {
			return
		}
		if disturbed && t.Repeated < b.plan.rounds {
			t.Repeated++
			fmt.Fprint(b.talk, "~")
			continue
		}
		if disturbed {
			t.Disturbed++
		}
		fmt.Fprint(b.talk, ".")
		done++
		for i, p := range all {
			p.row.Rounds = append(p.row.Rounds, round[i])
		}
	}
}

// errNothing is no fault in the warm-up: 64 handshakes may take longer on a core that others use.
var errNothing = errors.New("nothing was answered")

// turn loads one proxy once.
func (b *bench) turn(ctx context.Context, k kase, p *proxy, seconds int) (s sample, err error) {
	before, err := machine.CPUTime(p.process.Pid())
	if err != nil {
		return s, err
	}
	busy, began := machine.Busy(b.proxyCPU), time.Now()
	got, err := b.burst(ctx, k, p.address, seconds)
	time.Sleep(rest)
	took, worked := time.Since(began), machine.Busy(b.proxyCPU)-busy
	after, failed := machine.CPUTime(p.process.Pid())
	switch {
	case err != nil:
		return s, err
	case failed != nil || p.process.Ended():
		return s, fmt.Errorf("%s ended under load: %s", p.name, p.process.LogTail())
	case got.Errors > 0:
		return s, fmt.Errorf("%d errors: %s", got.Errors, got.Detail)
	case got.Count == 0:
		return s, errNothing
	}
	used := after.Since(before)
	s.Rate, s.PSS = got.Count/got.Seconds, 0
	scale := 1e6 / got.Count // microseconds for each
	if k.kind == bulk {
		s.Rate, scale = s.Rate/1e9, 1e12/got.Count // GB/s and milliseconds for each GB
	}
	s.Cost, s.User = used.Total().Seconds()*scale, used.User.Seconds()*scale
	if len(b.load) > 0 && len(b.proxyCPU) > 0 && b.load[0] != b.proxyCPU[0] {
		s.Other = max(0, (worked-used.Total()).Seconds()/took.Seconds())
	}
	s.PSS, _ = machine.PSS(p.process.Pid())
	return s, nil
}

// burst puts load on an address.
func (b *bench) burst(ctx context.Context, k kase, address string, seconds int) (burst, error) {
	if ctx.Err() != nil {
		return burst{}, ctx.Err()
	}
	conns, secs := strconv.Itoa(k.conns), strconv.Itoa(seconds)
	limit := time.Duration(seconds)*time.Second + toolGrace
	switch k.kind {
	case requests, handshakes, refusals:
		line := []string{"wrk", "-t1", "-c", conns, "-d", secs + "s", "--timeout", "10s"}
		if k.kind == handshakes {
			line = append(line, "-H", "Connection: close")
		}
		out, err := machine.Run(machine.Command{Name: "wrk", Argv: append(line, k.url(address)), CPUs: b.load, Dir: b.dir}, limit)
		if err != nil {
			return burst{}, err
		}
		if k.kind == refusals {
			return readRefusals(out)
		}
		return readWrk(out)
	case streams:
		out, err := machine.Run(machine.Command{Name: "h2load", Argv: []string{"h2load", "-t1", "-c", conns, "-m", "16", "-D", secs, k.url(address)}, CPUs: b.load, Dir: b.dir}, limit)
		if err != nil {
			return burst{}, err
		}
		return readH2load(out)
	}
	name := map[kind]string{bulk: "bulk", connects: "connect"}[k.kind]
	w, err := b.worker(name, name, address, conns, secs)
	if err != nil {
		return burst{}, err
	}
	if !w.Wait(limit) {
		w.Stop(0)
		return burst{}, fmt.Errorf("the load did not end within %s", limit)
	}
	var got burst
	if err := json.Unmarshal([]byte(w.Output()), &got); err != nil {
		return got, fmt.Errorf("the load said no result: %s", w.LogTail())
	}
	return got, nil
}

// idle measures the memory of idle connections, once.
func (b *bench) idle(ctx context.Context, k kase, p *proxy) {
	if p.row.Invalid != "" || ctx.Err() != nil {
		return
	}
	s, err := b.hold(k, p)
	if err != nil {
		p.row.Invalid = err.Error()
		return
	}
	fmt.Fprint(b.talk, ".")
	p.row.Rounds = append(p.row.Rounds, s)
}

func (b *bench) hold(k kase, p *proxy) (s sample, err error) {
	before, err := machine.PSS(p.process.Pid())
	if err != nil {
		return s, err
	}
	w, err := b.worker("idle", "idle", p.address, strconv.Itoa(k.conns), strconv.Itoa(idleHold))
	if err != nil {
		return s, err
	}
	defer w.Stop(0)
	for until := time.Now().Add(time.Minute); strings.Count(w.Output(), "\n") < 1; time.Sleep(look) {
		if w.Ended() || time.Now().After(until) {
			return s, fmt.Errorf("idle connections cannot be opened: %s", w.LogTail())
		}
	}
	w.Wait(idleHold*time.Second - time.Second)
	after, err := machine.PSS(p.process.Pid())
	if err != nil {
		return s, err
	}
	w.Wait(toolGrace)
	var opened, kept burst
	d := json.NewDecoder(strings.NewReader(w.Output()))
	if err := errors.Join(d.Decode(&opened), d.Decode(&kept)); err != nil {
		return s, fmt.Errorf("idle connections: the worker said no result: %w", err)
	}
	if int(kept.Count) != k.conns {
		return s, fmt.Errorf("of %d idle connections %.0f were opened and %.0f kept %s", k.conns, opened.Count, kept.Count, opened.Detail)
	}
	return sample{Cost: float64(after-before) / float64(k.conns), PSS: after}, nil
}

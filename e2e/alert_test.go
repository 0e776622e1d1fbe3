package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// alertmanager runs Debian's Alertmanager and returns its address.
func alertmanager(t *testing.T) string {
	t.Helper()
	need(t, "prometheus-alertmanager")
	dir, address := t.TempDir(), "127.0.0.1:"+freePort(t)
	config := filepath.Join(dir, "alertmanager.yml")
	if err := os.WriteFile(config, []byte("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("prometheus-alertmanager", "--config.file="+config, "--storage.path="+dir, "--web.listen-address="+address, "--cluster.listen-address=")
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		end := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		end.Stop()
		log.Close()
		if said, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("Alertmanager said:\n%s", said)
		}
	})
	until(t, "Alertmanager is ready", func() bool { return statusOf("http://"+address+"/-/ready") == http.StatusOK })
	return address
}

func statusOf(url string) int {
	resp, err := (&http.Client{Timeout: patience}).Get(url)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// received are the alerts that Alertmanager has as active, by name.
func received(t *testing.T, address string) map[string]map[string]string {
	t.Helper()
	resp, err := http.Get("http://" + address + "/api/v2/alerts")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var list []struct {
		Labels      map[string]string
		Annotations map[string]string
	}
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
		t.Fatal(err)
	}
	out := map[string]map[string]string{}
	for _, a := range list {
		out[a.Labels["alertname"]] = a.Labels
		for k, v := range a.Annotations {
			out[a.Labels["alertname"]]["annotation "+k] = v
		}
	}
	return out
}

// mailSink is a mail server that takes everything.
type mailSink struct {
	mu    sync.Mutex
	mails []string
}

func newMailSink(t *testing.T) (s *mailSink, address string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s = new(mailSink)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return s, ln.Addr().String()
}

func (s *mailSink) serve(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprint(conn, "220 sink\r\n")
	for in := bufio.NewScanner(conn); in.Scan(); {
		switch word, _, _ := strings.Cut(strings.ToUpper(in.Text()), " "); word {
		case "DATA":
			fmt.Fprint(conn, "354 go on\r\n")
			var mail strings.Builder
			for in.Scan() && in.Text() != "." {
				mail.WriteString(in.Text() + "\n")
			}
			s.mu.Lock()
			s.mails = append(s.mails, mail.String())
			s.mu.Unlock()
			fmt.Fprint(conn, "250 taken\r\n")
		case "QUIT":
			fmt.Fprint(conn, "221 bye\r\n")
			return
		default:
			fmt.Fprint(conn, "250 ok\r\n")
		}
	}
}

func (s *mailSink) has(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.mails, func(m string) bool { return strings.Contains(strings.ReplaceAll(m, "=\n", ""), text) })
}

// drill is the site of the alert drill. Waits are short, causes are real.
const drill = `
name: drill
state_dir: DIR/state
guard: {mode: "off"}
listeners:
  web: {listen: "127.0.0.1:0"}
  few: {listen: "127.0.0.1:0", limits: {connections: 5, connections_per_ip: 5}}
  secure: {listen: "127.0.0.1:0", tls: {certificates: [{cert: CERT, key: KEY}]}}
pools:
  good: {endpoints: ["GOOD"], outliers: {mode: "off"}, panic: 0%}
  broken: {endpoints: ["127.0.0.1:3"], probe: {off: true}, outliers: {mode: "off"}, breaker: {row: 5, row_for: 1s}}
  gone: {endpoints: ["127.0.0.1:1", "127.0.0.1:2"], probe: {every: 50ms, timeout: 1s, fall: 1}}
  moody: {endpoints: ["GOOD"], probe: {http: {path: /moody}, every: 50ms, rise: 1, fall: 1}}
routes:
  - {name: gone, paths: [/gone], pool: gone}
  - {name: moody, paths: [/never], pool: moody}
  - {name: tight, paths: [/tight], pool: good}
  - {name: broken, paths: [/broken], pool: broken}
  - {name: busy, paths: [/503, /429], pool: good}
  - {name: rest, pool: good}
limits: [{name: tight, by: global, routes: [tight], rate: 1/s}]
objectives: [{name: available, route: rest, target: 99.9%, window: 1d}]
alerts:
  every: 100ms
  group_wait: 100ms
  group_interval: 1s
  own:
    - {name: own-figures, expr: 'up{job="host"} == 1', summary: The machine shows its figures, runbook: "https://wiki.example/docs/alerts.md#own-figures"}
  rules:
    many-503: {for: 1ms}
    many-429: {for: 1ms}
    limit-breached: {for: 1ms}
    connections-near-cap: {for: 1ms}
    pool-capacity: {for: 1ms}
    receiver-failing: {for: 1ms}
    certificate-expiry: {within: 200d}
    certificate-expiry-soon: {within: 150d}
  receivers:
    - {name: am, alertmanager: {url: "http://ALERTMANAGER"}}
    - {name: heartbeat, alerts: [watchdog], alertmanager: {url: "http://ALERTMANAGER"}}
    - {name: gone, webhook: {url: "http://127.0.0.1:4/"}}
    - {name: mail, email: {server: "MAIL", from: evenkeel@drill.example, to: [ops@drill.example], tls: "off"}}
`

// crowd is the site of a node that is overloaded, and whose probes do not get their turn: commands that hang take all places for commands.
const crowd = `
name: crowd
guard: {scheduler: 1ms}
listeners: {web: {listen: "127.0.0.1:0"}}
pools:
  good: {endpoints: ["GOOD"]}
  hangs: {endpoints: [HANGS], probe: {exec: {command: [sleep, "60"]}, every: 60s, timeout: 60s}}
  starved: {endpoints: ["GOOD"], probe: {exec: {command: ["true"]}, every: 100ms, timeout: 100ms}}
routes:
  - {name: hangs, paths: [/hangs], pool: hangs}
  - {name: starved, paths: [/starved], pool: starved}
  - {name: rest, pool: good}
alerts:
  every: 100ms
  group_wait: 100ms
  rules:
    self-overloaded: {for: 1ms}
    prober-silent: {for: 1ms}
  receivers:
    - {name: am, alertmanager: {url: "http://ALERTMANAGER"}}
    - {name: mail, email: {server: "MAIL", from: evenkeel@drill.example, to: [ops@drill.example], tls: "off"}}
`

// crowded runs a node that is overloaded until the test ends: it has one processor, and more to do than that can.
func crowded(t *testing.T, fill *strings.Replacer) *gateway {
	t.Helper()
	var hangs []string
	for port := 100; port < 180; port++ {
		hangs = append(hangs, fmt.Sprintf("%q", fmt.Sprintf("127.0.0.1:%d", port)))
	}
	t.Setenv("GOMAXPROCS", "1")
	g := runSite(t, fill.Replace(strings.ReplaceAll(crowd, "HANGS", strings.Join(hangs, ", "))))
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	for range 64 {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{}, Timeout: patience}
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				if resp, err := client.Get("http://" + g.at["web"]); err == nil {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			}
		})
	}
	t.Cleanup(func() { cancel(); wg.Wait() })
	return g
}

// TestAlertDrill makes every shipped alert fire by a real cause, and looks for their notifications in Debian's Alertmanager and at a mail server.
// But disk-full, for which TestFullDisk fills one. Their waits are shorter than shipped; a test of package node fires each in fake time with those.
func TestAlertDrill(t *testing.T) {
	manager := alertmanager(t)
	mails, mail := newMailSink(t)
	var asked atomic.Int64
	good := service(t, func(w http.ResponseWriter, r *http.Request) {
		code := map[string]int{"/500": 500, "/503": 503, "/429": 429}[r.URL.Path]
		if r.URL.Path == "/moody" && asked.Add(1)%2 == 0 {
			code = 500
		}
		if code != 0 {
			w.WriteHeader(code)
		}
		io.WriteString(w, "hello")
	})
	dir := t.TempDir()
	cert, key := newAuthority(t).pair("drill", "drill.example") // for 100 days
	fill := strings.NewReplacer("DIR", dir, "CERT", cert, "KEY", key, "GOOD", good, "ALERTMANAGER", manager, "MAIL", mail)
	text := fill.Replace(drill)
	file := filepath.Join(dir, "site.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	g := run(t, "-f", file)
	defer causeAlerts(t, g, dir, file)()
	want := []string{"burn-page", "burn-ticket", "budget-spent", "many-503", "many-429", "limit-breached", "connections-near-cap", "accept-drops", "pool-capacity",
		"breaker-open", "probe-flapping", "certificate-expiry", "certificate-expiry-soon", "reload-failed", "state-not-kept", "receiver-failing", "watchdog", "own-figures"}
	leftOut := []string{"burn-ticket", "budget-spent", "certificate-expiry"} // because of burn-page and certificate-expiry-soon
	lacking := func(list []string, has func(string) bool) []string {
		return slices.DeleteFunc(slices.Clone(list), has)
	}
	var fires []string
	seen := map[string]bool{} // some last for a moment only
	waitAll(t, "alerts fire", func() []string {
		fires = firing(t, g.at["console"])
		for _, name := range fires {
			seen[name] = true
		}
		return lacking(want, func(name string) bool { return seen[name] })
	})
	told := lacking(want, func(name string) bool { return slices.Contains(leftOut, name) })
	inManager := map[string]bool{}
	waitAll(t, "Alertmanager has", func() []string {
		for name := range received(t, manager) {
			inManager[name] = true
		}
		return lacking(told, func(name string) bool { return inManager[name] })
	})
	waitAll(t, "mails tell of", func() []string {
		return lacking(told, func(name string) bool { return name == "watchdog" || mails.has("docs/alerts.md#"+name+"\n") })
	})
	checkDrill(t, manager, inManager, leftOut)
	crowdDrill(t, manager, mails, fill)

	// What is over is over there too.
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if resp, err := http.Post("http://"+g.at["console"]+"/api/v1/reload", "", nil); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("reload: %v %v", err, resp)
	}
	until(t, "Alertmanager knows that it is over", func() bool { _, still := received(t, manager)["reload-failed"]; return !still })
	until(t, "a mail says that it is over", func() bool { return mails.has("reload-failed: over since") })
}

// checkDrill looks at what Alertmanager has, and at what it must not have.
func checkDrill(t *testing.T, manager string, inManager map[string]bool, leftOut []string) {
	t.Helper()
	one := received(t, manager)["reload-failed"]
	if one["severity"] != "ticket" || one["site"] != "drill" || !strings.HasSuffix(one["annotation runbook_url"], "docs/alerts.md#reload-failed") || !strings.Contains(one["annotation description"], "unknown key") {
		t.Errorf("Alertmanager has %v", one)
	}
	for _, name := range leftOut {
		if inManager[name] {
			t.Errorf("%s was told although it is left out", name)
		}
	}
}

// crowdDrill is the drill of a node that is overloaded.
func crowdDrill(t *testing.T, manager string, mails *mailSink, fill *strings.Replacer) {
	t.Helper()
	t.Run("crowd", func(t *testing.T) {
		g := crowded(t, fill)
		seen := map[string]bool{}
		waitAll(t, "of a node that is overloaded fire", func() (left []string) {
			for _, name := range firing(t, g.at["console"]) {
				seen[name+" fires"] = true
			}
			for name := range received(t, manager) {
				seen[name+" is in Alertmanager"] = true
			}
			for _, name := range []string{"self-overloaded", "prober-silent"} {
				seen[name+" is mailed"] = mails.has("docs/alerts.md#" + name + "\n")
				for _, what := range []string{" fires", " is in Alertmanager", " is mailed"} {
					if !seen[name+what] {
						left = append(left, name+what)
					}
				}
			}
			return left
		})
	})
}

// causeAlerts does all that can go wrong. end gives back what it holds.
func causeAlerts(t *testing.T, g *gateway, dir, file string) (end func()) {
	t.Helper()
	var open []net.Conn
	for range 30 {
		for _, path := range []string{"/500", "/503", "/429", "/tight"} {
			statusOf("http://" + g.at["web"] + path)
		}
	}
	until(t, "the breaker of a pool that is not there is open", func() bool { return statusOf("http://"+g.at["web"]+"/broken") == http.StatusServiceUnavailable })
	for range 4 {
		conn, err := net.Dial("tcp", g.at["few"])
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, conn)
	}
	dropConnections(t)
	if err := os.WriteFile(file, []byte("nonsense: true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if resp, err := http.Post("http://"+g.at["console"]+"/api/v1/reload", "", nil); err == nil {
		resp.Body.Close()
	}
	if err := os.Rename(filepath.Join(dir, "state"), filepath.Join(dir, "moved")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "state"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return func() {
		for _, conn := range open {
			conn.Close()
		}
	}
}

// waitAll waits until nothing is lacking, and says what is.
func waitAll(t *testing.T, what string, lacking func() []string) {
	t.Helper()
	end, tick := time.After(9*patience), time.NewTicker(100*time.Millisecond) // a machine that others keep busy gives this node little to be overloaded with
	defer tick.Stop()
	for {
		left := lacking()
		if len(left) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("%s: not %q", what, left)
		}
	}
}

// firing are the names of alerts that the node knows as firing.
func firing(t *testing.T, console string) (names []string) {
	t.Helper()
	resp, err := http.Get("http://" + console + "/api/v1/alerts")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var v struct {
		Alerts []struct{ Name, State string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		t.Fatal(err)
	}
	for _, a := range v.Alerts {
		if a.State == "firing" {
			names = append(names, a.Name)
		}
	}
	return names
}

// dropConnections makes the kernel drop connections: a socket that nobody accepts from has room for one.
func dropConnections(t *testing.T) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	at, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond) // the first retry of a dropped SYN comes after a second
	defer cancel()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", at.(*syscall.SockaddrInet4).Port))
			if err == nil {
				defer conn.Close()
				<-ctx.Done()
			}
		})
	}
	wg.Wait()
}

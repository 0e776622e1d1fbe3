package stress

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/even-keel/evenkeel/bench/machine"
)

// Waits for what evenkeel is asked to do. They are long: a busy machine is no failure.
const (
	readyPatience = 30 * time.Second
	stopPatience  = 30 * time.Second
	look          = 10 * time.Millisecond
)

// gateway is evenkeel as a user runs it: with a site file in front of endpoints, which are processes of their own.
type gateway struct {
	lab       *lab
	setup     setup
	dir       string
	web       string // address of the plain listener
	secure    string // of the one with TLS
	admin     string
	endpoints []*endpoint
	process   *machine.Process // the first; a binary upgrade makes it end
	pid       int              // of the one that serves now
	old       []int            // those before it
	peak      int64            // of those that ended
	client    http.Client
}

// endpoint is one process of the service.
type endpoint struct {
	address string
	process *machine.Process
}

// status is the part of /api/v1/status that the experiments look at.
type status struct {
	Node struct {
		PID        int    `json:"pid"`
		Revision   string `json:"site_revision"`
		LastReload struct {
			At    time.Time `json:"at"`
			OK    bool      `json:"ok"`
			Error string    `json:"error"`
		} `json:"last_reload"`
		Go struct {
			FDs int `json:"fds"`
		} `json:"go"`
	} `json:"node"`
	Listeners []struct {
		Name    string         `json:"name"`
		Open    int            `json:"open"`
		Refused map[string]int `json:"refused"`
	} `json:"listeners"`
	Pools []struct {
		Name      string         `json:"name"`
		Endpoints []endpointView `json:"endpoints"`
		Retries   struct {
			Repeats map[string]int `json:"repeats"`
		} `json:"retries"`
	} `json:"pools"`
}

type endpointView struct {
	Address  string `json:"address"`
	State    string `json:"state"`
	Why      string `json:"why"`
	InFlight int    `json:"in_flight"`
	Picks    int    `json:"picks"`
}

// newGateway starts endpoints and evenkeel, and waits until it is ready.
func newGateway(l *lab, s setup, dir string) (g *gateway, err error) {
	g = &gateway{lab: l, setup: s, dir: dir, client: http.Client{Timeout: 10 * time.Second}}
	for _, at := range []*string{&g.web, &g.secure, &g.admin} {
		if *at, err = l.ports.FreeAddress("127.0.0.1"); err != nil {
			return g, err
		}
	}
	for i := range max(s.endpoints, 1) {
		at, err := l.ports.FreeAddress("127.0.0.1")
		if err != nil {
			return g, err
		}
		e := &endpoint{address: at}
		if err := g.startEndpoint(e, i); err != nil {
			return g, err
		}
		g.endpoints = append(g.endpoints, e)
	}
	if err := machine.Certificate(g.file("cert.pem"), g.file("key.pem"), "", 1); err != nil {
		return g, err
	}
	if err := g.writeSite(0); err != nil {
		return g, err
	}
	line := []string{l.program, "run", "-f", g.file("site.yaml")}
	if s.files > 0 {
		line = append([]string{"sh", "-c", `ulimit -n "$0" && exec "$@"`, strconv.Itoa(s.files)}, line...)
	}
	var cpus []int
	if all := machine.CPUs(); s.pinned && len(all) > 1 {
		cpus = all[:1]
	}
	if g.process, err = machine.Start(machine.Command{Name: "evenkeel", Argv: line, Dir: dir, CPUs: cpus, Env: []string{"GORACE=halt_on_error=0 exitcode=66"}}); err != nil {
		return g, err
	}
	g.pid = g.process.Pid()
	return g, wait(readyPatience, func() error {
		if g.process.Ended() {
			return fatal{fmt.Errorf("evenkeel ended with %s: %s", g.process.Ending(), g.process.LogTail())}
		}
		return g.ready()
	})
}

func (g *gateway) file(name string) string { return filepath.Join(g.dir, name) }

func (g *gateway) startEndpoint(e *endpoint, i int) (err error) {
	e.process, err = machine.Start(machine.Command{Name: "endpoint" + strconv.Itoa(i), Argv: []string{g.lab.self, "worker", "endpoint", e.address}, Dir: g.dir})
	if err != nil {
		return err
	}
	return e.process.Listening(e.address)
}

// writeSite writes the site file; each generation is another site: a route comes or goes, a header has another value, the pool another
// method, and a second listener is there or not.
func (g *gateway) writeSite(generation int) error {
	var b strings.Builder
	limits := ""
	if g.setup.limits != "" {
		limits = ", limits: {" + g.setup.limits + "}"
	}
	fmt.Fprintf(&b, "name: stress\nadmin: {listen: %q}\nlisteners:\n  web: {listen: %q%s}\n", g.admin, g.web, limits)
	fmt.Fprintf(&b, "  secure: {listen: %q, tls: {certificates: [{cert: %q, key: %q}]}}\n", g.secure, g.file("cert.pem"), g.file("key.pem"))
	if generation%4 == 3 {
		fmt.Fprintf(&b, "  extra: {listen: \"127.0.0.1:0\"}\n")
	}
	fmt.Fprintf(&b, "pools:\n  service:\n    probe: {http: {path: /healthz}, every: 500ms, timeout: 2s, fall: 2}\n    method: %s\n    endpoints:\n",
		[]string{"least_requests", "round_robin"}[generation%2])
	for _, e := range g.endpoints {
		fmt.Fprintf(&b, "      - %q\n", e.address)
	}
	if g.setup.routes != "" {
		// The bystander's pool sheds nothing here: where a flood takes the processor, shedding would show too, and that has its own
		// experiments. Requests of another kind have a pool of their own, with shedding.
		fmt.Fprintf(&b, "    shed: {mode: off}\n")
		fmt.Fprintf(&b, "  slept: {probe: {http: {path: /healthz}}, endpoints: [%q]}\n", g.endpoints[0].address)
	}
	b.WriteString(g.setup.pools)
	fmt.Fprint(&b, "routes:\n")
	if generation%3 == 1 {
		fmt.Fprint(&b, "  - {name: gone, paths: [/gone/*], respond: {status: 410, body: gone}}\n")
	}
	b.WriteString(g.setup.routes)
	fmt.Fprintf(&b, "  - {name: all, pool: service, response: {set: {X-Generation: \"%d\"}}}\nstop: {drain: 15s}\n", generation)
	b.WriteString(g.setup.site)
	b.WriteString(g.setup.protect)
	return machine.Replace(g.file("site.yaml"), []byte(b.String()))
}

// get asks the admin listener. Connections are not kept, so that an upgrade cannot leave one on the old process.
func (g *gateway) get(method, path string, into any) error {
	r, err := http.NewRequest(method, "http://"+g.admin+path, nil)
	if err != nil {
		return err
	}
	r.Close = true
	answer, err := g.client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: status %d: %.200s", method, path, answer.StatusCode, text)
	}
	if err == nil && into != nil {
		err = json.Unmarshal(text, into)
	}
	return err
}

func (g *gateway) ready() error { return g.get("GET", "/readyz", nil) }

func (g *gateway) status() (s status, err error) {
	err = g.get("GET", "/api/v1/status", &s)
	return s, err
}

// endpoint finds an endpoint in the status.
func (g *gateway) endpoint(address string) (endpointView, error) {
	s, err := g.status()
	for _, p := range s.Pools {
		for _, e := range p.Endpoints {
			if e.Address == address {
				return e, err
			}
		}
	}
	return endpointView{}, errors.Join(err, fmt.Errorf("the status has no endpoint %s", address))
}

// refused is what the plain listener refused, by reason.
func (g *gateway) refused() string {
	s, err := g.status()
	if err != nil {
		return "unknown, " + err.Error()
	}
	var list []string
	for _, l := range s.Listeners {
		for why, n := range l.Refused {
			if l.Name == "web" && n > 0 {
				list = append(list, fmt.Sprintf("%s %d", why, n))
			}
		}
	}
	if len(list) == 0 {
		return "nothing"
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// signal sends a signal to the process that serves.
func (g *gateway) signal(s syscall.Signal) error { return syscall.Kill(g.pid, s) }

// ended reports whether the process that serves has ended.
func (g *gateway) ended() bool {
	if g.pid == g.process.Pid() {
		return g.process.Ended()
	}
	return gone(g.pid)
}

// gone reports whether a successor has ended. It is our child once its parent has ended; until then its parent waits for it.
func gone(pid int) bool {
	var status unix.WaitStatus
	if got, err := unix.Wait4(pid, &status, unix.WNOHANG, nil); err == nil {
		return got == pid
	}
	return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

// peakRSS is the largest resident memory of any of the processes that served.
func (g *gateway) peakRSS() int64 {
	n, _ := machine.PeakRSS(g.pid)
	return max(n, g.peak)
}

// succeed notes that pid serves now.
func (g *gateway) succeed(pid int) {
	g.old = append(g.old, g.pid)
	g.pid = pid
}

// stop ends evenkeel by SIGTERM and says what was wrong with its ending.
func (g *gateway) stop() error {
	if g.ended() {
		return fmt.Errorf("evenkeel ended by itself with %s: %s", g.process.Ending(), g.process.LogTail())
	}
	if err := g.signal(syscall.SIGTERM); err != nil {
		return err
	}
	err := wait(stopPatience, func() error {
		if !g.ended() {
			return errors.New("evenkeel did not end within " + stopPatience.String() + " of SIGTERM")
		}
		return nil
	})
	if err == nil && g.pid == g.process.Pid() && g.process.Ending() != "exit status 0" {
		err = fmt.Errorf("evenkeel ended with %s: %s", g.process.Ending(), g.process.LogTail())
	}
	return err
}

// close ends everything that is left.
func (g *gateway) close() {
	if g.process != nil {
		g.process.Stop(0) // first, so that the others are our children now
		for _, pid := range append(g.old, g.pid) {
			if pid != g.process.Pid() && !gone(pid) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				_ = wait(stopPatience, func() error {
					if !gone(pid) {
						return errors.New("still there")
					}
					return nil
				})
			}
		}
	}
	for _, e := range g.endpoints {
		if e.process != nil {
			e.process.Stop(0)
		}
	}
}

// complaints are signs of bugs in what evenkeel wrote.
func (g *gateway) complaints() (list []string) {
	log := g.process.Log()
	for _, sign := range []string{"panic:", "fatal error:", "DATA RACE", "goroutine 1 ["} {
		if i := strings.Index(log, sign); i >= 0 {
			list = append(list, fmt.Sprintf("evenkeel wrote %q: %.1500s", sign, log[i:]))
		}
	}
	return list
}

// fatal is an error for which waiting longer is of no use.
type fatal struct{ error }

// wait calls try until it succeeds; after patience its last error is returned.
func wait(patience time.Duration, try func() error) error {
	for until := time.Now().Add(patience); ; time.Sleep(look) {
		err := try()
		var over fatal
		if err == nil || errors.As(err, &over) || time.Now().After(until) {
			return err
		}
	}
}

// adopt makes orphans of our children our children, so that the successor of an upgrade can be waited for.
func adopt() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// keepLog copies evenkeel's log to where a person finds it.
func (g *gateway) keepLog(to string) error {
	return os.WriteFile(to, []byte(g.process.Log()), 0o644)
}

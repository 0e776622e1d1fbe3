// Package e2e_test puts the program, as a process of its own, between peers by others and looks at what comes through.
package e2e_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/bench/machine"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

// testMain builds the program once and puts it into PATH. It has no race detector, whose memory would be measured with it.
func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "evenkeel-e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "evenkeel"), "github.com/even-keel/evenkeel/cmd/evenkeel")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "the program cannot be built: %v\n%s", err, out)
		return 1
	}
	os.Setenv("PATH", dir+string(filepath.ListSeparator)+os.Getenv("PATH"))
	return m.Run()
}

// gateway is a running evenkeel.
type gateway struct {
	t     testing.TB
	cmd   *exec.Cmd
	at    map[string]string // listener name, or console: host:port
	mu    sync.Mutex
	log   strings.Builder
	ended chan struct{}
	gone  bool // killed, or succeeded by another process
}

// run starts `evenkeel run` with arguments and waits until it serves. It is ended with the test, and must end well.
func run(t testing.TB, args ...string) *gateway {
	t.Helper()
	g := &gateway{t: t, cmd: exec.Command("evenkeel", append([]string{"run", "--admin", "127.0.0.1:0"}, args...)...), at: map[string]string{}, ended: make(chan struct{})}
	talk, err := g.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	go g.listen(talk, ready)
	t.Cleanup(g.end)
	select {
	case <-ready:
	case <-g.ended:
		t.Fatalf("evenkeel ended at once:\n%s", g.talk())
	case <-time.After(patience):
		t.Fatalf("evenkeel does not serve:\n%s", g.talk())
	}
	return g
}

// runSite starts `evenkeel run -f` with a site file of this text.
func runSite(t testing.TB, text string) *gateway {
	t.Helper()
	file := filepath.Join(t.TempDir(), "site.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return run(t, "-f", file)
}

// listen reads what the program says: first where it serves, the console last, then its log.
func (g *gateway) listen(talk io.Reader, ready chan struct{}) {
	defer close(g.ended)
	for in := bufio.NewScanner(talk); in.Scan(); {
		g.mu.Lock()
		g.log.WriteString(in.Text() + "\n")
		g.mu.Unlock()
		if word := strings.Fields(in.Text()); ready != nil && len(word) == 2 {
			if _, address, ok := strings.Cut(word[1], "://"); ok {
				g.at[word[0]] = address
				if word[0] == "console" {
					close(ready)
					ready = nil
				}
			}
		}
	}
}

func (g *gateway) talk() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.log.String()
}

// end stops the program as a service manager would, and asks a second time when connections stay.
func (g *gateway) end() {
	g.t.Helper()
	if g.gone {
		return
	}
	for _, wait := range []time.Duration{5 * time.Second, patience} {
		_ = g.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-g.ended:
			if err := g.cmd.Wait(); err != nil {
				g.t.Errorf("evenkeel ended with %v:\n%s", err, g.talk())
			} else if g.t.Failed() {
				g.t.Logf("evenkeel said:\n%s", g.talk())
			}
			return
		case <-time.After(wait):
		}
	}
	_ = g.cmd.Process.Kill()
	<-g.ended
	_ = g.cmd.Wait()
	g.t.Errorf("evenkeel did not end when told to:\n%s", g.talk())
}

// kill ends the program as a crash does, and returns when it is gone.
func (g *gateway) kill() {
	g.t.Helper()
	g.gone = true
	if err := g.cmd.Process.Kill(); err != nil {
		g.t.Fatal(err)
	}
	<-g.ended
	_ = g.cmd.Wait()
}

// tool runs a program by others and returns its output. Without the program the test is skipped.
func tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	need(t, name)
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// need skips a test whose peer is not installed.
func need(t testing.TB, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("no %s: evenkeel together with it is not tested", name)
	}
}

// freePort is a TCP port of 127.0.0.1 that nobody has, for programs that cannot choose one.
func freePort(t testing.TB) string {
	t.Helper()
	address, err := new(machine.Ports).FreeAddress("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(address)
	return port
}

// until waits for a condition, asking every 10 ms.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	end := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// listenTCP serves connections with f, each in a goroutine of its own, until the test ends.
func listenTCP(t testing.TB, f func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, ln, f)
	return ln.Addr().String()
}

// serveOn is listenTCP on an open listener.
func serveOn(t testing.TB, ln net.Listener, f func(net.Conn)) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("accept: %v", err)
				}
				return
			}
			wg.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(2 * patience))
				f(c)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
}

// reachable says whether somebody listens.
func reachable(address string) bool {
	c, err := net.DialTimeout("tcp", address, time.Second)
	if err == nil {
		c.Close()
	}
	return err == nil
}

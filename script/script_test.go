// Package script_test runs the program as users do: every *.txtar here is one story on the command line.
package script_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/bench/machine"
	"github.com/rogpeppe/go-internal/testscript"
)

// patience bounds every wait of a script.
const patience = 20 * time.Second

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

// testMain builds the program once and puts it into PATH: upgrades and signals need a real process.
func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "evenkeel-script")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "evenkeel"), "github.com/even-keel/evenkeel/cmd/evenkeel").CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "the program cannot be built: %v\n%s", err, out)
		return 1
	}
	os.Setenv("PATH", dir+string(filepath.ListSeparator)+os.Getenv("PATH"))
	return m.Run()
}

func TestScripts(t *testing.T) {
	held := new(loads)
	testscript.Run(t, testscript.Params{
		Dir: ".",
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"freeport": freePort, "service": service, "get": get, "hold": held.hold, "release": held.release, "signal": sendSignal, "waitfor": waitFor, "waitlog": waitLog, "edit": edit, "number": number,
		},
	})
}

// freePort NAME... sets each variable to a port that is free now.
func freePort(ts *testscript.TestScript, neg bool, args []string) {
	var ports machine.Ports
	for _, name := range args {
		address, err := ports.FreeAddress("127.0.0.1")
		ts.Check(err)
		_, port, _ := net.SplitHostPort(address)
		ts.Setenv(name, port)
	}
}

// service NAME TEXT starts an HTTP service that answers every request with TEXT, until the script ends, and sets NAME to
// its address.
func service(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("use: service NAME TEXT")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, args[1]+"\n") })}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ln)
	}()
	ts.Defer(func() {
		s.Close()
		<-done
	})
	ts.Setenv(args[0], ln.Addr().String())
}

// get URL WANT asks once; the answer must contain WANT.
func get(ts *testscript.TestScript, neg bool, args []string) {
	got, err := fetch(args[0])
	ts.Check(err)
	if strings.Contains(got, args[1]) == neg {
		ts.Fatalf("%s answered %q, looked for %q", args[0], got, args[1])
	}
}

// waitFor URL [WANT] asks until the answer contains WANT.
func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	want := ""
	if len(args) > 1 {
		want = args[1]
	}
	last := ""
	until(ts, func() bool {
		got, err := fetch(args[0])
		last = fmt.Sprint(got, err)
		return (err == nil && strings.Contains(got, want)) != neg
	}, func() string { return fmt.Sprintf("%s answered %q, waited for %q", args[0], last, want) })
}

// waitLog FILE WANT waits until a file contains WANT.
func waitLog(ts *testscript.TestScript, neg bool, args []string) {
	until(ts, func() bool {
		b, err := os.ReadFile(ts.MkAbs(args[0]))
		return (err == nil && strings.Contains(string(b), args[1])) != neg
	}, func() string {
		b, _ := os.ReadFile(ts.MkAbs(args[0]))
		return fmt.Sprintf("%s holds %q, waited for %q", args[0], b, args[1])
	})
}

// edit FILE OLD NEW replaces text in a file, with variables expanded in NEW.
func edit(ts *testscript.TestScript, neg bool, args []string) {
	path := ts.MkAbs(args[0])
	b, err := os.ReadFile(path)
	ts.Check(err)
	if !strings.Contains(string(b), args[1]) {
		ts.Fatalf("%s does not contain %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(path, []byte(strings.ReplaceAll(string(b), args[1], args[2])), 0o600))
}

// number NAME FILE sets NAME to the number in a file.
func number(ts *testscript.TestScript, neg bool, args []string) {
	b, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	ts.Setenv(args[0], strings.TrimSpace(string(b)))
}

// load is what hold sends.
type load struct {
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	sent   int
	failed []string
}

// loads are the loads of scripts that run, by the script's folder.
type loads struct{ byScript sync.Map }

// hold URL sends requests one after the other from four clients until release or the end of the script.
// Clients keep their connections, as browsers do, and send again what a closed idle connection did not take.
func (s *loads) hold(ts *testscript.TestScript, neg bool, args []string) {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{stop: cancel}
	for range 4 {
		l.wg.Go(func() {
			for ctx.Err() == nil {
				_, err := fetch(args[0])
				l.mu.Lock()
				l.sent++
				if err != nil {
					l.failed = append(l.failed, err.Error())
				}
				l.mu.Unlock()
			}
		})
	}
	s.byScript.Store(ts.Getenv("WORK"), l)
	ts.Defer(func() {
		cancel()
		l.wg.Wait()
	})
}

// release ends what hold began, once it has sent at least 50 requests; it fails the script when one of them failed.
func (s *loads) release(ts *testscript.TestScript, neg bool, args []string) {
	v, ok := s.byScript.Load(ts.Getenv("WORK"))
	if !ok {
		ts.Fatalf("release without hold")
	}
	l := v.(*load)
	until(ts, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.sent >= 50
	}, func() string { return "hold does not get on" })
	l.stop()
	l.wg.Wait()
	if len(l.failed) > 0 {
		ts.Fatalf("%d of %d requests failed: %.300q", len(l.failed), l.sent, l.failed)
	}
	ts.Logf("%d requests, none failed", l.sent)
}

// sendSignal NAME PID sends a signal to a process that the script started.
func sendSignal(ts *testscript.TestScript, neg bool, args []string) {
	names := map[string]syscall.Signal{"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM, "USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2, "KILL": syscall.SIGKILL}
	pid, err := strconv.Atoi(args[1])
	ts.Check(err)
	if names[args[0]] == 0 || pid <= 1 {
		ts.Fatalf("use: signal HUP|TERM|USR1|USR2|KILL PID")
	}
	ts.Check(syscall.Kill(pid, names[args[0]]))
}

// fetch is the body of a URL; an answer of 400 and above is an error.
func fetch(url string) (string, error) {
	client := http.Client{Timeout: patience}
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 400 {
		err = fmt.Errorf("status %s: %.200s", resp.Status, b)
	}
	return string(b), err
}

// until waits until over reports true.
func until(ts *testscript.TestScript, over func() bool, why func() string) {
	end := time.NewTimer(patience)
	defer end.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !over() {
		select {
		case <-tick.C:
		case <-end.C:
			ts.Fatalf("%s", why())
		}
	}
}

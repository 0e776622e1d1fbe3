package contain

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/even-keel/evenkeel/bench/machine"
)

// The proxies that can be measured.
const (
	evenkeel = "evenkeel"
	haproxy  = "haproxy"
)

// front is a running proxy.
type front struct {
	process *machine.Process
	address string
	admin   string // of evenkeel
}

// startFront starts the trial's proxy with the configuration that text makes of its own addresses.
func (t *trial) startFront(name string, text func(listen, admin string) string) (*front, error) {
	f := &front{}
	var err error
	for _, at := range []*string{&f.address, &f.admin} {
		if *at, err = t.lab.ports.FreeAddress("127.0.0.1"); err != nil {
			return nil, err
		}
	}
	dir := filepath.Join(t.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "site.yaml")
	argv := []string{t.lab.program, "run", "-f", file}
	if t.proxy == haproxy {
		file = filepath.Join(dir, "haproxy.cfg")
		argv = []string{"haproxy", "-db", "-f", file}
	}
	if err := os.WriteFile(file, []byte(text(f.address, f.admin)), 0o600); err != nil {
		return nil, err
	}
	if f.process, err = machine.Start(machine.Command{Name: name, Argv: argv, Dir: dir}); err != nil {
		return nil, err
	}
	if err := f.process.Listening(f.address); err != nil {
		f.stop()
		return nil, err
	}
	return f, nil
}

func (f *front) stop() {
	f.process.Signal(syscall.SIGKILL) // nothing is open any more that would have to end well
	f.process.Stop(5 * time.Second)
}

// status is what evenkeel says of itself, as far as it matters here.
type status struct {
	Node struct {
		Go struct {
			Goroutines int    `json:"goroutines"`
			RSS        uint64 `json:"rss_bytes"`
		} `json:"go"`
	} `json:"node"`
	Routes []struct {
		Name    string            `json:"name"`
		Refused map[string]uint64 `json:"refused"` // by reason
	} `json:"routes"`
}

func (f *front) status(ctx context.Context) (v status, err error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+f.admin+"/api/v1/status", nil)
	if err != nil {
		return v, err
	}
	answer, err := http.DefaultClient.Do(q)
	if err != nil {
		return v, err
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(answer.Body).Decode(&v); err != nil {
		return v, fmt.Errorf("the node's status cannot be read: %w", err)
	}
	return v, nil
}

// haproxyHead are HAProxy's usual settings.
const haproxyHead = "global\n  maxconn 20000\n  no strict-limits\ndefaults\n  mode http\n  timeout connect 1s\n  timeout client 30s\n  timeout http-request 10s\n"

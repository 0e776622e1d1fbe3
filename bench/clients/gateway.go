package clients

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/even-keel/evenkeel/bench/machine"
)

// gateway is a running evenkeel in front of the server.
type gateway struct {
	process *machine.Process
	dir     string
	address string
}

// startGateway starts program before the server at to. It is told nothing of what that can do.
func startGateway(program, to string) (*gateway, error) {
	var ports machine.Ports
	address, err := ports.FreeAddress("127.0.0.1")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "evenkeel-clients-")
	if err != nil {
		return nil, err
	}
	g := &gateway{dir: dir, address: address}
	site := fmt.Sprintf(`admin: {listen: "off"}
listeners: {web: {listen: %q, limits: {connections_per_ip: 20000}}}
pools: {service: {endpoints: [%q], shed: {mode: on}, probe: {http: {path: /healthz}, every: 1s}}}
`, address, to)
	file := filepath.Join(dir, "site.yaml")
	if err := os.WriteFile(file, []byte(site), 0o600); err != nil {
		g.stop()
		return nil, err
	}
	if g.process, err = machine.Start(machine.Command{Name: "evenkeel", Argv: []string{program, "run", "-f", file}, Dir: dir}); err != nil {
		g.stop()
		return nil, err
	}
	if err := g.process.Listening(address); err != nil {
		g.stop()
		return nil, err
	}
	return g, nil
}

func (g *gateway) stop() {
	if g.process != nil {
		g.process.Signal(syscall.SIGKILL) // nothing is open any more that would have to end well
		g.process.Stop(5 * time.Second)
	}
	_ = os.RemoveAll(g.dir)
}

package machine

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// inside marks a run that is within its own network namespace.
const inside = "EVENKEEL_BENCH_NAMESPACE"

// Inside reports whether this process runs in a namespace that Enter made.
func Inside() bool { return os.Getenv(inside) != "" }

// Enter runs this program anew, with the same arguments, in a network namespace of its own, and returns its exit code. It
// needs root; an error means that nothing ran. Signals are passed on.
func Enter() (code int, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGTERM}
	caught := make(chan os.Signal, 4)
	signal.Notify(caught, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(caught)
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("no network namespace: %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case s := <-caught:
			_ = cmd.Process.Signal(s)
		case err := <-done:
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				return 0, err
			}
			return max(cmd.ProcessState.ExitCode(), 0), nil
		}
	}
}

// Prepare brings the loopback of a new namespace up and makes it fit for measuring: reno instead of a congestion
// control that paces by timers, deep accept queues, and ephemeral ports above those that are listened on.
func Prepare() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("loopback stays down: %w", err)
	}
	for _, set := range []struct{ name, value string }{
		{"ipv4/tcp_congestion_control", "reno"},
		{"ipv4/ip_local_port_range", "12000 65000"},
		{"ipv4/tcp_max_syn_backlog", "16384"},
		{"core/somaxconn", "16384"},
	} {
		if err := os.WriteFile("/proc/sys/net/"+set.name, []byte(set.value), 0o644); err != nil {
			return fmt.Errorf("namespace cannot be set up: %w", err)
		}
	}
	return nil
}

// Congestion is the congestion control of TCP in force.
func Congestion() string {
	b, _ := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control")
	return strings.TrimSpace(string(b))
}

// Kernel is the version of the running kernel.
func Kernel() string {
	b, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return strings.TrimSpace(string(b))
}

// FileLimit is how many descriptors one process may have.
func FileLimit() int {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil {
		return 1024
	}
	return int(min(l.Max, 1<<30))
}

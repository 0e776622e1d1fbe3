package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/even-keel/evenkeel/site"
)

const (
	// outputMax is how many bytes of a command's output are kept; the rest is read and dropped, so that the command
	// does not block on it.
	outputMax = 4 << 10
	// afterMax is how long a command's output may stay open after it ended: a child that left the group and
	// holds it would else hold the probe too.
	afterMax = 200 * time.Millisecond
)

// execKind runs a command in a process group of its own; exit code 0 is healthy. The environment is PATH, ADDRESS,
// HOST and PORT and nothing else: what evenkeel was given as secrets stays with it.
type execKind struct {
	command []string
}

func newExec(cfg *site.ProbeExec) (*execKind, error) {
	if len(cfg.Command) == 0 || cfg.Command[0] == "" {
		return nil, errors.New("command: want a program and its arguments")
	}
	for _, arg := range cfg.Command {
		if strings.ContainsRune(arg, 0) {
			return nil, fmt.Errorf("command: argument %q has a zero byte", arg)
		}
	}
	return &execKind{command: cfg.Command}, nil
}

func (k *execKind) ask(ctx context.Context, t Target) finding {
	host, port, err := net.SplitHostPort(t.Address)
	if err != nil {
		return bad("address %q: want host:port", t.Address)
	}
	out := &head{}
	cmd := exec.CommandContext(ctx, k.command[0], k.command[1:]...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "ADDRESS=" + t.Address, "HOST=" + host, "PORT=" + port}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = afterMax
	if err := cmd.Start(); err != nil {
		return failedStart(err)
	}
	err = cmd.Wait()
	// Children that the command left behind go with it: one per probe would fill the host.
	syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return finding{late: errors.Is(ctx.Err(), context.DeadlineExceeded), reason: "cut short"}
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return good("exit 0%s", out.line())
	case errors.As(err, &exit) && exit.Exited():
		return bad("exit %d, want 0%s", exit.ExitCode(), out.line())
	case errors.As(err, &exit):
		return bad("ended by %s, want exit 0%s", exit.ProcessState, out.line())
	}
	return bad("command: %v", err)
}

func failedStart(err error) finding {
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
		return bad("command: not found")
	case errors.Is(err, os.ErrPermission):
		return bad("command: not allowed to run it")
	}
	return failed("command", err)
}

// head keeps the first bytes that are written to it.
type head struct{ kept []byte }

func (h *head) Write(b []byte) (int, error) {
	h.kept = append(h.kept, b[:min(len(b), outputMax-len(h.kept))]...)
	return len(b), nil
}

// line is the first line of the output, as an addition to a reason.
func (h *head) line() string {
	first, _, _ := strings.Cut(strings.TrimSpace(string(h.kept)), "\n")
	if first = tidy(first, 2*shownMax); first == "" {
		return ""
	}
	return ": " + first
}

// Package machine owns the processes of a measurement: it starts them pinned to cores, in a network namespace of their own, reads what they cost, and ends them by process id.
package machine

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Command is a process to start.
type Command struct {
	Name string // of its log file
	Argv []string
	CPUs []int  // cores it may use; nil: all that this process may use
	Dir  string // its log goes here, and it runs here
	Env  []string
	Grab bool // its standard output is kept apart for Output; else it goes to the log
}

// Process is a started child. Its methods may be called by any goroutine.
type Process struct {
	Name  string
	cmd   *exec.Cmd
	log   string
	out   string
	done  chan struct{}
	state atomic.Pointer[os.ProcessState]
}

// Start starts c. The child is killed when this process dies.
func Start(c Command) (*Process, error) {
	p := &Process{Name: c.Name, log: filepath.Join(c.Dir, c.Name+".log"), out: filepath.Join(c.Dir, c.Name+".out"), done: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be started: %w", c.Name, err)
	}
	defer log.Close()
	p.cmd = exec.Command(c.Argv[0], c.Argv[1:]...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = c.Dir, log, log
	p.cmd.Env = append(os.Environ(), c.Env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if c.Grab {
		out, err := os.Create(p.out)
		if err != nil {
			return nil, fmt.Errorf("%s cannot be started: %w", c.Name, err)
		}
		defer out.Close()
		p.cmd.Stdout = out
	}
	if err := startOn(p.cmd, c.CPUs); err != nil {
		return nil, fmt.Errorf("%s cannot be started: %w", c.Name, err)
	}
	go func() {
		_ = p.cmd.Wait() // what it ended with is in ProcessState
		p.state.Store(p.cmd.ProcessState)
		close(p.done)
	}()
	return p, nil
}

// startOn starts cmd on cpus. A child inherits the affinity of the thread that forks it; setting it afterwards would be too
// late for a Go program, which counts its cores once, at its start.
func startOn(cmd *exec.Cmd, cpus []int) error {
	if len(cpus) == 0 {
		return cmd.Start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var old, want unix.CPUSet
	for _, c := range cpus {
		want.Set(c)
	}
	if err := errors.Join(unix.SchedGetaffinity(0, &old), unix.SchedSetaffinity(0, &want)); err != nil {
		return fmt.Errorf("cores %v: %w", cpus, err)
	}
	err := cmd.Start()
	return errors.Join(err, unix.SchedSetaffinity(0, &old))
}

// CPUs lists the cores this process may use.
func CPUs() (list []int) {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil {
		return nil
	}
	for c := 0; len(list) < set.Count(); c++ {
		if set.IsSet(c) {
			list = append(list, c)
		}
	}
	return list
}

// Pid is the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Ended reports whether the process has ended.
func (p *Process) Ended() bool { return p.state.Load() != nil }

// Ending says how the process ended, such as "exit status 0"; empty while it runs.
func (p *Process) Ending() string {
	if s := p.state.Load(); s != nil {
		return s.String()
	}
	return ""
}

// Signal sends a signal; to an ended process it does nothing.
func (p *Process) Signal(s syscall.Signal) {
	if !p.Ended() {
		_ = p.cmd.Process.Signal(s) // it may just have ended
	}
}

// Wait waits at most d for the process to end.
func (p *Process) Wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-p.done:
		return true
	case <-t.C:
		return false
	}
}

// Stop asks the process to end and kills it after grace, its children too.
func (p *Process) Stop(grace time.Duration) {
	tree := Tree(p.Pid())
	p.Signal(syscall.SIGTERM)
	if !p.Wait(grace) {
		for _, pid := range tree[1:] {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		p.Signal(syscall.SIGKILL)
		<-p.done
	}
}

// Log is what the process wrote so far.
func (p *Process) Log() string {
	b, _ := os.ReadFile(p.log)
	return string(b)
}

// Output is what the process wrote to standard output, when its Command said Grab.
func (p *Process) Output() string {
	b, _ := os.ReadFile(p.out)
	return string(b)
}

// LogTail is the end of the log, for messages.
func (p *Process) LogTail() string {
	lines := strings.Split(strings.TrimSpace(p.Log()), "\n")
	return strings.Join(lines[max(0, len(lines)-6):], "\n")
}

// Run runs c to its end and returns its standard output. A process that takes longer than limit is ended.
func Run(c Command, limit time.Duration) (string, error) {
	c.Grab = true
	p, err := Start(c)
	if err != nil {
		return "", err
	}
	if !p.Wait(limit) {
		p.Stop(time.Second)
		return "", fmt.Errorf("%s did not end within %s", c.Name, limit)
	}
	if s := p.Ending(); s != "exit status 0" {
		return "", fmt.Errorf("%s ended with %s: %s", c.Name, s, p.LogTail())
	}
	return p.Output(), nil
}

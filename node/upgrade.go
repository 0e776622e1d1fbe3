package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// successorPatience is how long a successor may take until it serves. Reading the site and the first verdicts of the
// probes are part of it.
const successorPatience = 30 * time.Second

var errUpgrading = errors.New("a reload or upgrade is under way")

// Upgrade starts the successor: the program as it now lies on disk, with the same arguments and our listening sockets. Once
// it reports that it serves, this node drains and ends. When it fails or takes longer than 30 s, it is killed and
// this node serves on as before. command is the program and its arguments; nil: our own.
func (n *Node) Upgrade(ctx context.Context, command []string) error {
	if !n.reloading.TryLock() {
		return errUpgrading
	}
	pid, err := n.handOver(ctx, command)
	n.reloading.Unlock()
	if err != nil {
		n.event("upgrade", "the successor did not come up, this process serves on: "+err.Error())
		return err
	}
	notify(fmt.Sprintf("MAINPID=%d", pid))
	n.event("upgrade", fmt.Sprintf("process %d serves; this one drains", pid))
	n.handed.Store(true)
	n.Stop()
	return nil
}

// handOver starts the successor and waits until it serves.
func (n *Node) handOver(ctx context.Context, command []string) (pid int, err error) {
	if ok, why := n.ready(); !ok {
		return 0, errors.New("this node cannot hand over: " + why)
	}
	if command == nil {
		path, err := os.Executable()
		if err != nil {
			return 0, fmt.Errorf("own program is not found: %w", err)
		}
		command = append([]string{path}, os.Args[1:]...)
	}
	files, names, err := n.sockets()
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	if err != nil {
		return 0, err
	}
	ready, report, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("successor cannot report: %w", err)
	}
	defer ready.Close()

	env := append(os.Environ(),
		fmt.Sprintf("%s=%d", envFDs, len(files)), envNames+"="+strings.Join(names, ":"),
		fmt.Sprintf("%s=%d", envReadyFD, firstFD+len(files)))
	successor, err := startProcess(command, env, append([]*os.File{os.Stdin, os.Stdout, os.Stderr}, append(files, report)...))
	report.Close()
	if err != nil {
		return 0, fmt.Errorf("successor cannot be started: %w", err)
	}
	if err := awaitReport(ctx, ready, n.abort); err != nil {
		_ = successor.Kill()
		_, _ = successor.Wait()
		return 0, err
	}
	// It outlives us: nobody waits for it here.
	pid = successor.Pid
	return pid, successor.Release()
}

// startProcess starts a program with files as its descriptors from 0 on. os/exec would make the files block, and with them
// our own listeners, which share their state: an accept that blocks cannot be ended any more.
func startProcess(command, env []string, files []*os.File) (*os.Process, error) {
	fds := make([]uintptr, len(files))
	for i, f := range files {
		raw, err := f.SyscallConn()
		if err != nil {
			return nil, err
		}
		if err := raw.Control(func(fd uintptr) { fds[i] = fd }); err != nil {
			return nil, err
		}
	}
	pid, err := syscall.ForkExec(command[0], command, &syscall.ProcAttr{Env: env, Files: fds})
	runtime.KeepAlive(files)
	if err != nil {
		return nil, err
	}
	return os.FindProcess(pid)
}

// awaitReport reads the successor's word. Its end without a word shows as the end of the pipe.
func awaitReport(ctx context.Context, ready *os.File, abort <-chan struct{}) error {
	_ = ready.SetReadDeadline(time.Now().Add(successorPatience))
	stop := context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	word := make([]byte, 8)
	k, err := ready.Read(word)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("upgrade was given up: %w", ctx.Err())
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("successor did not serve within %s", successorPatience)
	case string(word[:k]) != "ready":
		return errors.New("successor ended before it served; its own messages say why")
	}
	select {
	case <-abort:
		return errors.New("this node was told to stop at once")
	default:
		return nil
	}
}

// sockets are duplicates of all listening sockets with their names, the admin listener's too.
func (n *Node) sockets() (files []*os.File, names []string, err error) {
	byName, err := n.front.Files()
	if err != nil {
		return nil, nil, fmt.Errorf("sockets cannot be handed over: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		for _, f := range byName[name] {
			files, names = append(files, f), append(names, name)
		}
	}
	if n.admin == nil {
		return files, names, nil
	}
	filer, ok := n.admin.ln.(interface{ File() (*os.File, error) })
	if !ok {
		return files, names, nil
	}
	f, err := filer.File()
	if err != nil {
		return files, names, fmt.Errorf("the admin socket cannot be handed over: %w", err)
	}
	return append(files, f), append(names, adminName), nil
}

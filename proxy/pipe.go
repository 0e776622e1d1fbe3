package proxy

import (
	"sync"
	"syscall"
)

// pipeSize is what one splice may move. The kernel gives an unprivileged user 64 MiB of pipe
// buffers in all and smaller pipes beyond that, which still work.
const pipeSize = 512 << 10

// pipesKept bounds the unused pipes that are kept: two descriptors each.
const pipesKept = 32

// fSetPipeSize is F_SETPIPE_SZ of fcntl(2), which package syscall lacks.
const fSetPipeSize = 1031

// A pipe is where the kernel keeps bytes on their way from one socket to the other.
type pipe struct{ r, w int }

// pipePool keeps empty pipes. The zero value is ready.
type pipePool struct {
	mu   sync.Mutex
	free []pipe
}

// get returns an empty pipe, or false when the system has none to give.
func (p *pipePool) get() (pipe, bool) {
	p.mu.Lock()
	if n := len(p.free); n > 0 {
		q := p.free[n-1]
		p.free = p.free[:n-1]
		p.mu.Unlock()
		return q, true
	}
	p.mu.Unlock()
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		return pipe{}, false
	}
	_, _, _ = syscall.Syscall(syscall.SYS_FCNTL, uintptr(fds[1]), fSetPipeSize, pipeSize) // best effort
	return pipe{fds[0], fds[1]}, true
}

// put takes a pipe back. It is closed when it still holds bytes or enough are kept.
func (p *pipePool) put(q pipe, empty bool) {
	if empty {
		p.mu.Lock()
		if len(p.free) < pipesKept {
			p.free = append(p.free, q)
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
	}
	q.close()
}

func (p *pipePool) empty() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range p.free {
		q.close()
	}
	p.free = nil
}

func (q pipe) close() {
	syscall.Close(q.r)
	syscall.Close(q.w)
}

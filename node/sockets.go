package node

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// adminName is the name of the admin listener among inherited sockets. No listener can have it.
const adminName = "@admin"

// Environment by which sockets are handed over: systemd's (sd_listen_fds(3)), and what an upgrade adds.
const (
	envFDs     = "LISTEN_FDS"
	envNames   = "LISTEN_FDNAMES"
	envPID     = "LISTEN_PID"
	envReadyFD = "EVENKEEL_READY_FD" // pipe on which a successor reports that it serves
	firstFD    = 3
	maxFDs     = 1024 // more sockets than any site has listeners
)

// Sockets are listening sockets from systemd or from a predecessor.
type Sockets struct {
	Listeners map[string][]*os.File // by listener name
	admin     *os.File
	ready     *os.File
}

// InheritedSockets takes over the sockets that the environment announces, and clears it, so that no child mistakes them for
// its own. Without any it returns an empty set.
func InheritedSockets() (*Sockets, error) {
	s := &Sockets{Listeners: map[string][]*os.File{}}
	fds, names, pid, ready := os.Getenv(envFDs), os.Getenv(envNames), os.Getenv(envPID), os.Getenv(envReadyFD)
	for _, name := range []string{envFDs, envNames, envPID, envReadyFD} {
		os.Unsetenv(name)
	}
	if ready != "" {
		fd, err := strconv.Atoi(ready)
		if err != nil || fd < firstFD {
			return nil, fmt.Errorf("%s is %q, which is no file descriptor", envReadyFD, ready)
		}
		syscall.CloseOnExec(fd)
		s.ready = os.NewFile(uintptr(fd), "ready")
	}
	// A predecessor cannot know our process id before we run; systemd can.
	if fds == "" || ready == "" && pid != strconv.Itoa(os.Getpid()) {
		return s, nil
	}
	count, err := strconv.Atoi(fds)
	if err != nil || count < 0 || count > maxFDs {
		return nil, fmt.Errorf("%s is %q, want a number up to %d", envFDs, fds, maxFDs)
	}
	list := strings.Split(names, ":")
	for i := range count {
		syscall.CloseOnExec(firstFD + i)
		name := "unknown"
		if i < len(list) && list[i] != "" {
			name = list[i]
		}
		f := os.NewFile(uintptr(firstFD+i), name)
		if name == adminName && s.admin == nil {
			s.admin = f
			continue
		}
		s.Listeners[name] = append(s.Listeners[name], f)
	}
	return s, nil
}

// adminListener is the inherited admin listener when it has the address, else a new one.
func (s *Sockets) adminListener(address string) (net.Listener, error) {
	if s.admin == nil {
		return net.Listen("tcp", address)
	}
	ln, err := net.FileListener(s.admin)
	s.admin.Close()
	s.admin = nil
	if err != nil {
		return nil, fmt.Errorf("the inherited socket is of no use: %w", err)
	}
	if !sameAddress(ln.Addr(), address) {
		ln.Close()
		return net.Listen("tcp", address)
	}
	return ln, nil
}

// sameAddress reports whether a socket listens where address says.
func sameAddress(have net.Addr, address string) bool {
	want, err := net.ResolveTCPAddr("tcp", address)
	tcp, ok := have.(*net.TCPAddr)
	if err != nil || !ok {
		return false
	}
	return (want.Port == tcp.Port || want.Port == 0) && (want.IP.Equal(tcp.IP) || len(want.IP) == 0 && tcp.IP.IsUnspecified())
}

// reportReady tells the predecessor that this node serves.
func (s *Sockets) reportReady() {
	if s.ready != nil {
		_, _ = s.ready.WriteString("ready")
		s.ready.Close()
		s.ready = nil
	}
}

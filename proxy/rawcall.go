package proxy

import (
	"net/netip"
	"syscall"
	"unsafe"
)

// Calls on non-blocking sockets that do not tell the scheduler: telling it costs little, but a connect or send
// on loopback runs the whole path to the other side, often longer than the 20 µs after which the runtime gives
// the processor to another thread. With the scheduler told, a third of the cost of a short session was switching threads.

// rawRead reads once.
func rawRead(fd uintptr, b []byte) (int, error) {
	for {
		n, _, e := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, 0, 0)
		if e == 0 {
			return int(n), nil
		}
		if e != syscall.EINTR {
			return -1, e
		}
	}
}

// rawSend sends once.
func rawSend(fd uintptr, b []byte) (int, error) {
	for {
		n, _, e := syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), syscall.MSG_NOSIGNAL, 0, 0)
		if e == 0 {
			return int(n), nil
		}
		if e != syscall.EINTR {
			return 0, e
		}
	}
}

// rawConnect begins to connect, or asks how connecting goes.
func rawConnect(fd uintptr, to netip.AddrPort) error {
	var p unsafe.Pointer
	var size uintptr
	if to.Addr().Is4() {
		sa := syscall.RawSockaddrInet4{Family: syscall.AF_INET, Port: networkOrder(to.Port()), Addr: to.Addr().As4()}
		p, size = unsafe.Pointer(&sa), unsafe.Sizeof(sa)
	} else {
		sa := syscall.RawSockaddrInet6{Family: syscall.AF_INET6, Port: networkOrder(to.Port()), Addr: to.Addr().As16()}
		p, size = unsafe.Pointer(&sa), unsafe.Sizeof(sa)
	}
	return rawConnectTo(fd, p, size)
}

// rawReset sends a reset and leaves the socket unconnected: connecting to "unspecified" does that (tcp(7)). A close
// that follows has nothing left to send.
func rawReset(fd uintptr) error {
	sa := syscall.RawSockaddr{Family: syscall.AF_UNSPEC}
	return rawConnectTo(fd, unsafe.Pointer(&sa), unsafe.Sizeof(sa))
}

func rawConnectTo(fd uintptr, p unsafe.Pointer, size uintptr) error {
	for {
		_, _, e := syscall.RawSyscall(syscall.SYS_CONNECT, fd, uintptr(p), size)
		if e == 0 {
			return nil
		}
		if e != syscall.EINTR {
			return e
		}
	}
}

// networkOrder is n as it must lie in memory.
func networkOrder(n uint16) (v uint16) {
	b := (*[2]byte)(unsafe.Pointer(&v))
	b[0], b[1] = byte(n>>8), byte(n)
	return v
}

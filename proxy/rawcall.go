package proxy

import (
	"net/netip"
	"strconv"
	"syscall"
	"unsafe"
)

// Calls on non-blocking sockets that do not tell the scheduler: telling it costs little, but a connect or send
// on loopback runs the whole path to the other side, often longer than the 20 µs after which the runtime gives
// the processor to another thread. With the scheduler told, a third of the cost of a short session was switching threads.
// The first call that is told after a moment of rest also wakes the runtime's monitor, which then looks around every
// 20 µs for some milliseconds: a tenth of the cost of a short session, so that none of its calls may be one.

// rawRead reads once.
func rawRead(fd uintptr, b []byte) (int, error) {
	for {
		n, _, e := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), syscall.MSG_DONTWAIT, 0, 0)
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
		n, _, e := syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), syscall.MSG_NOSIGNAL|syscall.MSG_DONTWAIT, 0, 0)
		if e == 0 {
			return int(n), nil
		}
		if e != syscall.EINTR {
			return 0, e
		}
	}
}

// rawSplice moves up to n bytes, one of from and to being a pipe.
func rawSplice(from, to uintptr, n int) (int, error) {
	for {
		k, _, e := syscall.RawSyscall6(syscall.SYS_SPLICE, from, 0, to, 0, uintptr(n), spliceMove)
		if e == 0 {
			return int(k), nil
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

// rawAccept takes a waiting connection, and says where it comes from. ln must not
// block for long, see acceptWaits; when it does, EINTR says that the runtime wants something of this thread.
func rawAccept(ln uintptr) (fd int, from netip.AddrPort, err error) {
	var sa syscall.RawSockaddrInet6
	for {
		size := uint32(unsafe.Sizeof(sa))
		n, _, e := syscall.RawSyscall6(syscall.SYS_ACCEPT4, ln, uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)), syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0, 0)
		switch e {
		case 0:
			return int(n), addrPortOf(&sa), nil
		case syscall.ECONNABORTED: // reset before it was accepted
		default:
			return -1, netip.AddrPort{}, e
		}
	}
}

// localAddr is the address of this side of a connection.
func localAddr(fd int) (netip.AddrPort, error) {
	var sa syscall.RawSockaddrInet6
	size := uint32(unsafe.Sizeof(sa))
	if _, _, e := syscall.RawSyscall(syscall.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size))); e != 0 {
		return netip.AddrPort{}, e
	}
	return addrPortOf(&sa), nil
}

// addrPortOf is an address from the kernel, IPv4 in its short form.
func addrPortOf(sa *syscall.RawSockaddrInet6) netip.AddrPort {
	if sa.Family == syscall.AF_INET {
		four := (*syscall.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(four.Addr), networkOrder(four.Port))
	}
	a := netip.AddrFrom16(sa.Addr).Unmap()
	if sa.Scope_id != 0 && a.Is6() {
		a = a.WithZone(strconv.FormatUint(uint64(sa.Scope_id), 10))
	}
	return netip.AddrPortFrom(a, networkOrder(sa.Port))
}

// rawNoDelay switches Nagle's algorithm off.
func rawNoDelay(fd int) error {
	on := int32(1)
	return rawSetsockopt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, unsafe.Pointer(&on), unsafe.Sizeof(on))
}

// rawLinger is what SetLinger of a net.TCPConn does: with 0 a close resets the connection.
func rawLinger(fd, sec int) error {
	l := syscall.Linger{Onoff: 1, Linger: int32(sec)}
	if sec < 0 {
		l = syscall.Linger{}
	}
	return rawSetsockopt(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, unsafe.Pointer(&l), unsafe.Sizeof(l))
}

func rawSetsockopt(fd int, level, option uintptr, value unsafe.Pointer, size uintptr) error {
	if _, _, e := syscall.RawSyscall6(syscall.SYS_SETSOCKOPT, uintptr(fd), level, option, uintptr(value), size, 0); e != 0 {
		return e
	}
	return nil
}

// rawShutdown sends the end of the stream.
func rawShutdown(fd uintptr) error {
	if _, _, e := syscall.RawSyscall(syscall.SYS_SHUTDOWN, fd, syscall.SHUT_WR, 0); e != 0 {
		return e
	}
	return nil
}

// rawClose closes a socket without waiting for what it still sends.
func rawClose(fd int) { _, _, _ = syscall.RawSyscall(syscall.SYS_CLOSE, uintptr(fd), 0, 0) }

// networkOrder is n as it must lie in memory, and back.
func networkOrder(n uint16) (v uint16) {
	b := (*[2]byte)(unsafe.Pointer(&v))
	b[0], b[1] = byte(n>>8), byte(n)
	return v
}

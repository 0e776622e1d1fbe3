package node

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/even-keel/evenkeel/site"
)

// What the kernel should be set to before many clients come at once.
const (
	wantBacklog = 1024 // connections that wait to be accepted: 100 ms of 10,000 a second
	wantSYN     = 1024 // half-open connections, when there are no SYN cookies
	filesKept   = 64   // descriptors for everything but clients, at least
)

// machineWarnings says what of the machine will be in the way of a flood, each in one sentence with its remedy. What cannot be
// read is not warned of.
func machineWarnings(proc string, s *site.Site) (all []string) {
	if n, ok := sysctl(proc, "net/core/somaxconn"); ok && n < wantBacklog {
		all = append(all, fmt.Sprintf("only %d connections may wait to be accepted, so that bursts of new clients are dropped; remedy: sysctl -w net.core.somaxconn=4096, and start evenkeel again", n))
	}
	cookies, known := sysctl(proc, "net/ipv4/tcp_syncookies")
	if known && cookies == 0 {
		all = append(all, "SYN cookies are off, so that a flood of SYN packets keeps clients out; remedy: sysctl -w net.ipv4.tcp_syncookies=1")
	}
	if n, ok := sysctl(proc, "net/ipv4/tcp_max_syn_backlog"); ok && n < wantSYN && (!known || cookies == 0) {
		all = append(all, fmt.Sprintf("only %d connections may be half open; remedy: sysctl -w net.ipv4.tcp_max_syn_backlog=4096", n))
	}
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		all = append(all, fileWarnings(limit.Cur, s)...)
	}
	return all
}

// fileWarnings compares the descriptors with what the listeners are allowed. A tcp listener needs two for each connection.
// The connections of all listeners together are not expected at once.
func fileWarnings(files uint64, s *site.Site) (all []string) {
	for _, name := range slices.Sorted(maps.Keys(s.Listeners)) {
		cfg := s.Listeners[name]
		need := uint64(cfg.Limits.Connections)
		if cfg.Protocol == site.ProtocolTCP {
			need *= 2
		}
		if cfg.Protocol == site.ProtocolUDP || files >= need-need/10 {
			continue
		}
		all = append(all, fmt.Sprintf("listener %s may have %d connections, but this process only %d file descriptors, a tenth of which is kept for other things; remedy: ulimit -n %d, or LimitNOFILE=%d in its systemd unit, or a lower limits.connections",
			name, cfg.Limits.Connections, files, roundFiles(need), roundFiles(need)))
	}
	return all
}

// roundFiles is a limit of descriptors that is enough for need.
func roundFiles(need uint64) uint64 {
	n := uint64(1024)
	for n-n/10 < need+filesKept {
		n *= 2
	}
	return n
}

// sysctl reads a number of the kernel.
func sysctl(proc, name string) (int, bool) {
	b, err := os.ReadFile(filepath.Join(proc, "sys", name))
	if err != nil {
		return 0, false
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	return n, err == nil
}

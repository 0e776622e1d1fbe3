package proxy

import (
	"net/netip"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// reason is why a connection was refused or ended before it was served.
type reason uint8

const (
	refusedConnections reason = iota
	refusedPerIP
	refusedAcceptRate
	refusedHandshakeRate
	refusedNodeFull
	refusedTableFull
	refusedDraining
	refusedProxyHeader
	refusedHandshake
	refusedTimeout
	refusedClientLeft
	refusedBadHead
	refusedHeaderTimeout
	reasons
)

// String is the reason in status and metrics.
func (r reason) String() string {
	return [...]string{"connections", "connections_per_ip", "accept_rate", "handshake_rate", "node_full",
		"fd_table_full", "draining", "proxy_header", "tls_handshake", "handshake_timeout", "client_left",
		"bad_head", "header_timeout"}[r]
}

// pace is a rate limit with a burst of one second (GCRA: the state is the time at which the bucket is
// full again). The zero value is full. Any goroutine may use it.
type pace struct{ full atomic.Int64 }

// take reports whether one more event is within rate events per second at now (ns on any steady clock above
// 0), and if so counts it. A rate of 0 is no limit.
func (p *pace) take(now int64, rate float64) bool {
	if rate <= 0 {
		return true
	}
	step := int64(1e9 / rate)
	burst := max(int64(1e9), step) // a rate below 1/s still lets one through
	for {
		old := p.full.Load()
		next := max(old, now) + step
		if next-now > burst {
			return false
		}
		if p.full.CompareAndSwap(old, next) {
			return true
		}
	}
}

// ipKey is what connections are counted by: an IPv4 address or an IPv6 /64, since one subscriber
// has at least a /64 (RFC 6177).
type ipKey struct {
	net  uint64
	four bool
}

func keyOf(a netip.Addr) ipKey {
	if a.Is4() || a.Is4In6() {
		b := a.As4()
		return ipKey{uint64(b[0])<<24 | uint64(b[1])<<16 | uint64(b[2])<<8 | uint64(b[3]), true}
	}
	b := a.As16()
	var n uint64
	for _, c := range b[:8] {
		n = n<<8 | uint64(c)
	}
	return ipKey{n, false}
}

// ipTable counts connections by address. It holds an entry only while one is open, so that the listener's
// connection limit bounds it. The zero value is empty.
type ipTable struct {
	shards [16]struct {
		mu sync.Mutex
		n  map[ipKey]int32
		_  [48]byte
	}
}

// take counts one more connection of k unless there are limit already.
func (t *ipTable) take(k ipKey, limit int) bool {
	s := &t.shards[k.shard()]
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.n[k]
	if int(n) >= limit {
		return false
	}
	if s.n == nil {
		s.n = make(map[ipKey]int32)
	}
	s.n[k] = n + 1
	return true
}

// give counts one connection of k less.
func (t *ipTable) give(k ipKey) {
	s := &t.shards[k.shard()]
	s.mu.Lock()
	if n := s.n[k]; n > 1 {
		s.n[k] = n - 1
	} else {
		delete(s.n, k)
	}
	s.mu.Unlock()
}

func (k ipKey) shard() uint64 { return (k.net * 0x9E3779B97F4A7C15) >> 60 }

// tally is a counter that many cores may add to at once.
type tally struct {
	cells [8]struct {
		n atomic.Int64
		_ [56]byte
	}
}

func (t *tally) add(shard uint32, n int64) { t.cells[shard%8].n.Add(n) }

func (t *tally) sum() (n int64) {
	for i := range t.cells {
		n += t.cells[i].n.Load()
	}
	return n
}

// room is how many connections the whole process may have, from its file descriptors and its memory.
type room struct {
	used  atomic.Int64 // file descriptors of clients and of open connections to endpoints
	limit int64        // of clients
	all   int64        // of clients and endpoints; 0: no limit
}

// take holds n, unless the process is full.
func (r *room) take(n int64) bool {
	if r.used.Add(n) <= r.limit {
		return true
	}
	r.used.Add(-n)
	return false
}

func (r *room) give(n int64) { r.used.Add(-n) }

// holdFD counts a connection to an endpoint (n = 1 when opened, -1 when closed) against the room of the process,
// so that new clients are refused while there is still room to serve those who are here. It reports false when the
// last descriptors are reached, which the console, reloads and probes need. Connections that a tcp
// listener's clients cause are counted with their client and must not be counted here.
func (p *Proxy) holdFD(n int64) bool {
	if p.room.used.Add(n) <= p.room.all || n < 0 || p.room.all == 0 {
		return true
	}
	p.room.used.Add(-n)
	return false
}

// connectionBytes is the memory that one connection is given when memory is the limit: about twice what an
// idle HTTP connection with its endpoint connection and buffers was measured to take.
const connectionBytes = 16 << 10

// keptFiles is how many descriptors are never given to connections: log, listeners, console and what a reload opens.
const keptFiles = 40

func newRoom() *room {
	// The Go runtime raised the soft limit to the hard one at start.
	files := int64(1024)
	var lim syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim) == nil {
		files = int64(min(lim.Cur, 1<<30))
	}
	return &room{limit: roomFor(files, memoryLimit()), all: max(files-keptFiles, 16)}
}

// roomFor is the number of descriptors for connections: a tenth of all, at least 64, is left for files,
// the console, probes and name look-ups; half of the memory is left for what connections do.
func roomFor(files, memory int64) int64 {
	n := files - max(64, files/10)
	if memory > 0 {
		n = min(n, memory/2/connectionBytes)
	}
	return max(n, 16)
}

// memoryLimit is the least of GOMEMLIMIT, the limits of the control group and the machine's memory; 0: unknown.
func memoryLimit() int64 {
	least := int64(0)
	see := func(n int64) {
		if n > 0 && (least == 0 || n < least) {
			least = n
		}
	}
	if n := debug.SetMemoryLimit(-1); n < 1<<62 {
		see(n)
	}
	for _, path := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		if b, err := os.ReadFile(path); err == nil {
			n, _ := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64) // "max" parses to 0: unknown
			see(n)
		}
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kb int64
		if f := strings.Fields(string(b)); len(f) > 1 && f[0] == "MemTotal:" {
			kb, _ = strconv.ParseInt(f[1], 10, 64)
		}
		see(kb << 10)
	}
	return least
}

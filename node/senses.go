package node

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"strconv"
	"syscall"
	"time"

	"github.com/even-keel/evenkeel/admit/guard"
)

// What the runtime says of itself. It knows these numbers anyway; asking costs tens of microseconds.
const (
	metricWaits   = "/sched/latencies:seconds"
	metricFree    = "/memory/classes/heap/free:bytes"
	metricObjects = "/memory/classes/heap/objects:bytes"
	metricLive    = "/gc/heap/live:bytes"
)

// memoryEvery is in how many windows memory is read once while it is far from its threshold; the kernel adds memory.stat up anew
// for each reader.
const memoryEvery, memoryNear = 4, 0.7

// senses look at this process and what it may use. They are used by one goroutine.
type senses struct {
	proc  string // /proc, or a test's
	group memoryGroup
	limit int64 // bytes; 0: unknown

	metrics []runtimemetrics.Sample
	before  []uint64 // counts of the histogram of waits
	diff    []uint64
	cpu     time.Duration
	at      time.Time
	ran     int64 // ns of all threads when crowd last looked; 0: it did not
	waited  int64
	memory  float64
	turn    int
	// overflows counts clients that found an accept queue full, since the first look, in the whole network namespace; first is 1
	// more than what the kernel had counted then.
	first, overflows uint64
	files            uint64 // descriptors that may be open
}

// newSenses finds out what this process may use.
func newSenses(proc, cgroups string) *senses {
	s := &senses{proc: proc, group: findMemoryGroup(filepath.Join(proc, "self/cgroup"), cgroups)}
	s.limit = s.group.limit
	if s.limit == 0 {
		s.limit = machineMemory(filepath.Join(proc, "meminfo"))
		if soft := debug.SetMemoryLimit(-1); soft > 0 && (soft < s.limit || s.limit == 0) && soft < 1<<60 {
			s.limit = soft
		}
	}
	for _, name := range []string{metricWaits, metricFree, metricObjects, metricLive} {
		s.metrics = append(s.metrics, runtimemetrics.Sample{Name: name})
	}
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		s.files = limit.Cur
	}
	return s
}

// sample looks. The first one has no window behind it and says only what is, not what was.
func (s *senses) sample(now time.Time) guard.Sample {
	runtimemetrics.Read(s.metrics)
	out := guard.Sample{Took: now.Sub(s.at)}
	if m := s.metrics[0].Value; m.Kind() == runtimemetrics.KindFloat64Histogram {
		out.Scheduler, out.Waits = s.waits(m.Float64Histogram())
	}
	procs := float64(runtime.GOMAXPROCS(0)) // follows the cgroup's quota
	var used syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &used) == nil {
		cpu := time.Duration(used.Utime.Nano() + used.Stime.Nano())
		if out.Took > 0 {
			out.CPU = min(float64(cpu-s.cpu)/float64(out.Took)/procs, 1)
		}
		s.cpu = cpu
	}
	if out.Scheduler >= crowdFrom {
		out.Crowded = s.crowd()
	} else {
		s.ran, s.waited = 0, 0
	}
	if s.turn--; s.turn < 0 || s.memory >= memoryNear {
		s.turn = memoryEvery - 1
		s.memory = s.memoryShare()
		if n, ok := tcpExt(filepath.Join(s.proc, "net/netstat"), "ListenOverflows"); ok {
			if s.first == 0 {
				s.first = n + 1
			}
			s.overflows = n + 1 - s.first
		}
	}
	out.Memory = s.memory
	if st, err := os.Stat(filepath.Join(s.proc, "self/fd")); err == nil && s.files > 0 { // its size is how many there are, since Linux 6.2
		out.Files = float64(st.Size()) / float64(s.files)
	}
	if s.at.IsZero() {
		out.Took, out.CPU, out.Waits = guard.Window, 0, 0
	}
	s.at = now
	return out
}

// crowdFrom is the wait for a processor from which it is asked whose fault it is: reading it of all threads costs 100 us.
const crowdFrom = 5 * time.Millisecond

// crowd is how long the threads of this process waited for a processor, for each time that they ran, since the last call (proc(5),
// schedstat). Other processes, a quota of the cgroup and other machines on the same hardware make them wait, own work hardly: there
// are not more threads at work than processors. The first call knows no before, and calls the machine crowded, which costs a window.
func (s *senses) crowd() float64 {
	var ran, waited int64
	threads, err := os.ReadDir(filepath.Join(s.proc, "self/task"))
	if err != nil {
		return 0
	}
	for _, t := range threads {
		b, err := os.ReadFile(filepath.Join(s.proc, "self/task", t.Name(), "schedstat"))
		if f := bytes.Fields(b); err == nil && len(f) == 3 {
			on, _ := strconv.ParseInt(string(f[0]), 10, 64)
			off, _ := strconv.ParseInt(string(f[1]), 10, 64)
			ran, waited = ran+on, waited+off
		}
	}
	if ran == 0 { // a kernel without these numbers
		return 0
	}
	before, waitedBefore := s.ran, s.waited
	s.ran, s.waited = ran, waited
	if before == 0 {
		return unknownCrowd
	}
	return float64(max(waited-waitedBefore, 0)) / float64(max(ran-before, 1))
}

// unknownCrowd is above what the guard calls crowded.
const unknownCrowd = 100

func number64(m runtimemetrics.Sample) uint64 {
	if m.Value.Kind() != runtimemetrics.KindUint64 {
		return 0
	}
	return m.Value.Uint64()
}

// waits is the 99th percentile of what came since the last call, and of how many waits. The bounds of buckets lie a quarter
// apart; the lower one is told, since an alarm too late is better than a false one.
func (s *senses) waits(h *runtimemetrics.Float64Histogram) (p99 time.Duration, n uint64) {
	if s.before == nil {
		s.before, s.diff = make([]uint64, len(h.Counts)), make([]uint64, len(h.Counts))
	}
	for i, c := range h.Counts {
		s.diff[i], s.before[i] = c-s.before[i], c
		n += s.diff[i]
	}
	left := n / 100 // may lie above
	for i := len(s.diff) - 1; i >= 0; i-- {
		if s.diff[i] > left {
			return time.Duration(max(h.Buckets[i], 0) * float64(time.Second)), n
		}
		left -= s.diff[i]
	}
	return 0, n
}

// memoryShare is how much of the limit is in use and would not come back by itself. Garbage that is not collected yet, memory that
// the runtime keeps for later and file caches come back when there is need, and must not look like need.
func (s *senses) memoryShare() float64 {
	if s.limit <= 0 {
		return 0
	}
	free, objects, live := number64(s.metrics[1]), number64(s.metrics[2]), number64(s.metrics[3])
	spare := int64(free + objects - min(live, objects))
	own := max(residentBytes(filepath.Join(s.proc, "self/statm"))-spare, 0)
	used := own
	if s.group.limit > 0 {
		all, kernel, ok := s.group.read()
		if all = max(all-spare, 0); ok {
			used = max(all, own) // what it maps of files, as its own program, must stay
			// Refusing frees nothing of what other processes of the group use.
			if ours := own + kernel; ours < all/2 {
				used = ours
			}
		}
	}
	return float64(used) / float64(s.limit)
}

// tcpExt reads a counter of TCP, of all programs in this network namespace. ListenOverflows are clients that found the accept queue of a
// listening socket full, ListenDrops all that were dropped before they were accepted.
func tcpExt(path, counter string) (n uint64, ok bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	var names [][]byte
	for line := range bytes.Lines(b) {
		f := bytes.Fields(line)
		if len(f) == 0 || string(f[0]) != "TcpExt:" {
			continue
		}
		if names == nil {
			names = f
			continue
		}
		for i, name := range names[:min(len(names), len(f))] {
			if string(name) == counter {
				n, err = strconv.ParseUint(string(f[i]), 10, 64)
				return n, err == nil
			}
		}
	}
	return 0, false
}

// residentBytes reads statm; 0: it cannot be read.
func residentBytes(path string) int64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	f := bytes.Fields(b)
	if len(f) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(string(f[1]), 10, 64)
	return pages * int64(os.Getpagesize())
}

// memoryGroup is the cgroup whose memory limit is the lowest of those that this process is in.
type memoryGroup struct {
	dir   string
	v1    bool
	limit int64 // bytes; 0: there is none
}

// read says how many bytes the group uses that are no file cache, and how many of them the kernel holds for sockets and the like.
func (g memoryGroup) read() (used, kernel int64, ok bool) {
	// Pages of files that are read again and again are active, and given back as well: stored answers on disk and the history keep many of them so.
	name, cache, active := "memory.current", "inactive_file", "active_file"
	if g.v1 {
		name, cache, active = "memory.usage_in_bytes", "total_inactive_file", "total_active_file"
	}
	used = readLimit(filepath.Join(g.dir, name))
	stat, err := os.ReadFile(filepath.Join(g.dir, "memory.stat"))
	if err != nil || used == 0 {
		return 0, 0, false
	}
	for line := range bytes.Lines(stat) {
		key, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		n, _ := strconv.ParseInt(string(value), 10, 64)
		switch string(key) {
		case cache, active:
			used = max(used-n, 0)
		case "sock", "kernel":
			if !g.v1 {
				kernel += n
			}
		}
	}
	if g.v1 {
		kernel = readLimit(filepath.Join(g.dir, "memory.kmem.usage_in_bytes")) + readLimit(filepath.Join(g.dir, "memory.kmem.tcp.usage_in_bytes"))
	}
	return used, kernel, true
}

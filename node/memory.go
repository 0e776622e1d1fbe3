package node

import (
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"strconv"
	"strings"
)

// Settings of the garbage collector when the environment sets none. The data path hardly allocates, so a larger heap
// between collections costs little memory while what lives is small. What lives grows with the history and with stored answers: of four times
// that much again nothing is gained, so that garbage has a bound. The soft limit makes collections more frequent before the cgroup kills the process.
const (
	gcPercent   = 400
	gcLeast     = 50       // even where much lives: a collection has to be worth its while
	garbage     = 32 << 20 // bytes between two collections
	memoryShare = 0.9      // of the cgroup's limit
)

// Tune sets the garbage collector for a proxy: GOGC to 400 and GOMEMLIMIT to 90 % of the cgroup's memory, each unless the
// environment says otherwise. It changes the whole process: only a program's main calls it. What it returns is for Options.Collect.
func Tune() (collect func(percent int)) {
	if os.Getenv("GOGC") == "" {
		collect = func(percent int) { debug.SetGCPercent(percent) }
		collect(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		if limit := cgroupMemory("/proc/self/cgroup", "/sys/fs/cgroup"); limit > 0 {
			debug.SetMemoryLimit(int64(float64(limit) * memoryShare))
		}
	}
	return collect
}

// pacer bounds the garbage between two collections.
type pacer struct{ percent int }

// step takes how much lived after the last collection, and returns how much the heap may grow until the next; 0: as before. A change stops the
// process for moments, so that small ones are left out.
func (p *pacer) step(live uint64) (percent int) {
	if p.percent == 0 {
		p.percent = gcPercent
	}
	want := gcPercent
	if live > 0 {
		want = int(min(max(garbage*100/live, gcLeast), gcPercent))
	}
	if d := want - p.percent; d*d*64 < p.percent*p.percent && want != gcPercent || d == 0 {
		return 0
	}
	p.percent = want
	return want
}

// liveBytes is how much lived after the last collection.
func liveBytes() uint64 {
	sample := []runtimemetrics.Sample{{Name: "/gc/heap/live:bytes"}}
	if runtimemetrics.Read(sample); sample[0].Value.Kind() != runtimemetrics.KindUint64 {
		return 0
	}
	return sample[0].Value.Uint64()
}

// memoryLimit is how many bytes this process may use: the runtime's soft limit, else the machine's memory, else 1 GiB.
func memoryLimit() int64 {
	if limit := debug.SetMemoryLimit(-1); limit < math.MaxInt64 {
		return limit
	}
	if total := machineMemory("/proc/meminfo"); total > 0 {
		return total
	}
	return 1 << 30
}

// cgroupMemory is the lowest memory limit of this process's cgroup and those above it, in bytes; 0: none.
func cgroupMemory(self, root string) int64 { return findMemoryGroup(self, root).limit }

// findMemoryGroup finds the group with the lowest memory limit of this process's cgroup and those above it.
func findMemoryGroup(self, root string) (low memoryGroup) {
	b, err := os.ReadFile(self)
	if err != nil {
		return low
	}
	for line := range strings.Lines(string(b)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		dir, file, v1 := "", "", false
		switch {
		case parts[0] == "0" && parts[1] == "":
			dir, file = root, "memory.max"
		case parts[1] == "memory":
			dir, file, v1 = filepath.Join(root, "memory"), "memory.limit_in_bytes", true
		default:
			continue
		}
		for path := filepath.Clean("/" + parts[2]); ; path = filepath.Dir(path) {
			at := filepath.Join(dir, path)
			if n := readLimit(filepath.Join(at, file)); n > 0 && (low.limit == 0 || n < low.limit) {
				low = memoryGroup{dir: at, v1: v1, limit: n}
			}
			if path == "/" {
				break
			}
		}
	}
	return low
}

// readLimit reads a cgroup limit; 0: none. Version 1 writes "none" as a number near the largest.
func readLimit(path string) int64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil || n >= 1<<60 {
		return 0
	}
	return n
}

// machineMemory reads MemTotal.
func machineMemory(path string) int64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "MemTotal:" {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n << 10
		}
	}
	return 0
}

// processFacts reads what the process uses; what cannot be read stays 0.
func processFacts() (rss uint64, fds int, cpu float64) {
	if b, err := os.ReadFile("/proc/self/statm"); err == nil {
		if f := strings.Fields(string(b)); len(f) > 1 {
			pages, _ := strconv.ParseUint(f[1], 10, 64)
			rss = pages * uint64(os.Getpagesize())
		}
	}
	if names, err := os.ReadDir("/proc/self/fd"); err == nil {
		fds = len(names) - 1 // without the one that reads
	}
	if b, err := os.ReadFile("/proc/self/stat"); err == nil {
		// The name in parentheses may hold spaces; utime and stime are the 12th and 13th field after it, in 1/100 s.
		s := string(b)
		if f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:]); len(f) > 12 {
			user, _ := strconv.ParseFloat(f[11], 64)
			system, _ := strconv.ParseFloat(f[12], 64)
			cpu = (user + system) / 100
		}
	}
	return rss, fds, cpu
}

// heapBytes is the memory of live and not yet collected objects.
func heapBytes() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

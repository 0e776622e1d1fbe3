package machine

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of times in /proc: Linux shows 100 per second whatever its own timer does (proc(5)).
const tick = 10 * time.Millisecond

// Usage is processor time.
type Usage struct{ User, System time.Duration }

// Total is user and system time.
func (u Usage) Total() time.Duration { return u.User + u.System }

// Since is what was used after old was taken.
func (u Usage) Since(old Usage) Usage { return Usage{u.User - old.User, u.System - old.System} }

// Tree is pid and all that descend from it, pid first.
func Tree(pid int) []int {
	tree := []int{pid}
	for i := 0; i < len(tree); i++ {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", tree[i]))
		for _, t := range tasks {
			b, _ := os.ReadFile(t)
			for _, f := range strings.Fields(string(b)) {
				if child, err := strconv.Atoi(f); err == nil && !slices.Contains(tree, child) {
					tree = append(tree, child)
				}
			}
		}
	}
	return tree
}

// CPUTime is the processor time of a process tree since its start, with that of children that have ended.
func CPUTime(pid int) (sum Usage, err error) {
	for i, p := range Tree(pid) {
		f, err := stat(p)
		if err != nil {
			if i == 0 {
				return sum, fmt.Errorf("processor time cannot be read: %w", err)
			}
			continue // a child that just ended: its parent has its time
		}
		// utime, stime, cutime, cstime are the fields 14 to 17 of proc(5).
		sum.User += ticks(f[11]) + ticks(f[13])
		sum.System += ticks(f[12]) + ticks(f[14])
	}
	return sum, nil
}

// PSS is the memory of a process tree in bytes, shared pages divided among those that share them.
func PSS(pid int) (sum int64, err error) {
	for i, p := range Tree(pid) {
		n, err := kilobytes(fmt.Sprintf("/proc/%d/smaps_rollup", p), "Pss:")
		if err != nil && i == 0 {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// PeakRSS is the largest resident memory that one process ever had, in bytes.
func PeakRSS(pid int) (int64, error) { return kilobytes(fmt.Sprintf("/proc/%d/status", pid), "VmHWM:") }

// RSS is the resident memory of one process, in bytes.
func RSS(pid int) (int64, error) { return kilobytes(fmt.Sprintf("/proc/%d/status", pid), "VmRSS:") }

// Busy is the time that cores have spent on anything but idling, stolen time included.
func Busy(cpus []int) (sum time.Duration) {
	b, _ := os.ReadFile("/proc/stat")
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		for _, c := range cpus {
			if len(f) > 8 && f[0] == "cpu"+strconv.Itoa(c) {
				for _, i := range []int{1, 2, 3, 6, 7, 8} { // user nice system irq softirq steal
					sum += ticks(f[i])
				}
			}
		}
	}
	return sum
}

// Model is the processor's name.
func Model() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}

// stat are the fields of /proc/PID/stat from the state on; the name before it may hold anything.
func stat(pid int) ([]string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	s := string(b)
	f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if len(f) < 20 {
		return nil, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(f))
	}
	return f, nil
}

func ticks(s string) time.Duration {
	n, _ := strconv.ParseInt(s, 10, 64)
	return time.Duration(n) * tick
}

// kilobytes finds a line such as "VmHWM:  123 kB".
func kilobytes(path, key string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("memory cannot be read: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == key {
			n, err := strconv.ParseInt(f[1], 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("memory cannot be read: %s has no %s", path, key)
}

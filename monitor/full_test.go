package monitor

import (
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestDiskFull: while files cannot grow, samples are dropped, counted and told of; what was kept is still answered; and when there
// is room again it goes on by itself. The limit for the size of files stands for a full disk, because it needs no rights.
func TestDiskFull(t *testing.T) {
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	limit := func(size uint64) {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: size, Max: was.Max}); err != nil {
			t.Fatal(err)
		}
	}
	defer limit(was.Cur)
	dir := t.TempDir()
	r := run(t, settings(nil), func(d *Deps) { d.Dir = dir })
	r.rounds(t, 1)
	before := time.Now()
	limit(16)
	until(t, "samples were dropped", func() bool { return r.Status().Dropped[droppedStore] > 0 })
	if st := r.Status(); st.State != StateRunning || st.Why == "" || !r.diary.has("cannot write") {
		t.Errorf("the status is %s %q, told was %q", st.State, st.Why, r.diary.texts)
	}
	if v := r.value(t, "test_total", before); v != 42 {
		t.Errorf("what was kept before is %v, want 42", v)
	}
	limit(was.Cur)
	until(t, "it could write again", func() bool { return r.diary.has("can write again") && r.Status().State == StateRunning })
	r.self.set("after_total", 7)
	until(t, "it went on", func() bool {
		l, _ := r.Query(t.Context(), "after_total", time.Now())
		return len(l) == 1
	})
	if st := r.Status(); st.Why != "" {
		t.Errorf("the status says %q", st.Why)
	}
	// A copy of what lies on the disk now is what a crash would leave.
	left := t.TempDir()
	if err := os.CopyFS(left, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	again := run(t, settings(nil), func(d *Deps) { d.Dir = left })
	until(t, "the store was open", func() bool { return again.Status().State == StateRunning })
	for expr, want := range map[string]float64{"test_total": 42, "after_total": 7} {
		if v := again.value(t, "max_over_time("+expr+"[1m])", time.Now()); v != want {
			t.Errorf("after a restart %s is %v, want %v; put aside was %q", expr, v, want, again.Status().Aside)
		}
	}
	if aside := again.Status().Aside; len(aside) > 0 {
		t.Errorf("after a crash the log was damaged: %q", aside)
	}
}

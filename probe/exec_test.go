package probe

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/site"
)

func TestExec(t *testing.T) {
	t.Setenv("EVENKEEL_TEST_SECRET", "s3cret")
	at := Target{Address: "[::1]:8080"}
	sh := func(script string) []string { return []string{"sh", "-c", script} }
	for _, c := range []struct {
		name    string
		command []string
		want    string
	}{
		{"exit 0", []string{"true"}, "+exit 0"},
		{"exit 1", []string{"false"}, "exit 1, want 0"},
		{"says why", sh("echo 'queue full' >&2; echo more; exit 3"), "exit 3, want 0: queue full"},
		{"environment", sh("echo $ADDRESS $HOST $PORT ${EVENKEEL_TEST_SECRET-none}"), "+exit 0: [::1]:8080 ::1 8080 none"},
		{"no shell", []string{"echo", "$HOST;", "a|b"}, "+exit 0: $HOST; a|b"},
		{"much output", sh("i=0; while [ $i -lt 3000 ]; do echo 0123456789012345678901234567890123456789; i=$((i+1)); done; exit 4"),
			"exit 4, want 0: 0123456789012345678901234567890123456789"},
		{"controls in output", sh(`printf 'a\033[31m\tb'`), "+exit 0: a [31m b"},
		{"long line", sh("head -c 9999 /dev/zero | tr '\\0' x"), "+exit 0: " + strings.Repeat("x", 117) + "…"},
		{"killed", sh("kill -9 $$"), "ended by signal: killed, want exit 0"},
		{"hangs", []string{"sleep", "60"}, "timeout after 150ms"},
		{"not there", []string{"/nonexistent/probe"}, "command: not found"},
		{"not in the path", []string{"evenkeel-no-such-command"}, "command: not found"},
		{"not a program", []string{"/etc/passwd"}, "command: not allowed to run it"},
		{"left a child with its output", sh("sleep 60 & exit 0"), "+exit 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ask(t, at, &site.Probe{Exec: &site.ProbeExec{Command: c.command}, Timeout: timeoutFor(c.want)}, c.want)
		})
	}
}

// TestExecKillsTheGroup: children of a command that hangs go with it.
func TestExecKillsTheGroup(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	script := "sleep 60 & echo $! >" + pidFile + ".new; mv " + pidFile + ".new " + pidFile + "; wait"
	v := Once(t.Context(), Target{Address: "a:1"}, &site.Probe{Exec: &site.ProbeExec{Command: []string{"sh", "-c", script}}, Timeout: time.Second})
	if v.Healthy || v.Reason != "timeout after 1s" {
		t.Fatalf("%+v", v)
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(10 * time.Second); alive(pid); {
		if time.Now().After(limit) {
			t.Fatal("the command's child lives on")
		}
	}
}

// alive says whether a process runs; one that nobody has waited for yet does not.
func alive(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return false
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

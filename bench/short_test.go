package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestCostInSmall runs a comparison as docs/performance.md says, from building the program to the table. It judges no figure.
func TestCostInSmall(t *testing.T) {
	for _, tool := range []string{"haproxy", "wrk"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed: not tested is the comparison with HAProxy", tool)
		}
	}
	var out, talk bytes.Buffer
	cmd := exec.Command("go", "run", ".", "cost", "--cases", "h1-100B-64,l4-conns", "--rivals", "haproxy", "--rounds", "3", "--seconds", "1")
	cmd.Stdout, cmd.Stderr = &out, &talk
	if err := cmd.Run(); err != nil || bytes.Count(out.Bytes(), []byte("evenkeel  ")) < 2 {
		t.Errorf("bench cost: %v\n%s%s", err, talk.Bytes(), out.Bytes())
	}
}

// The experiments that a failed request decides, and no time, hold in small on every machine.
func TestStressInSmall(t *testing.T) {
	program := filepath.Join(t.TempDir(), "bench")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("bench cannot be built: %v\n%s", err, out)
	}
	names := []string{"reloads", "rolling", "upgrade", "upgrade-short", "certificate", "kill", "duplicates", "malformed"}
	cmd := exec.Command(program, append([]string{"stress", "--short", "--json"}, names...)...)
	var out, talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &talk
	if err := cmd.Run(); err != nil {
		t.Fatalf("bench stress --short: %v\n%s%s", err, talk.Bytes(), out.Bytes())
	}
	var got struct {
		Experiments []struct {
			Name, Verdict string
			Bystander     struct{ OK int }
		}
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || len(got.Experiments) != len(names) {
		t.Fatalf("%d experiments, %v: %s", len(got.Experiments), err, out.Bytes())
	}
	for i, e := range got.Experiments {
		if e.Name != names[i] || e.Verdict != "held" || e.Bystander.OK == 0 {
			t.Errorf("%+v", e)
		}
	}
	for _, args := range [][]string{{}, {"stress"}, {"stress", "none"}, {"cost", "--cases", "none"}, {"cost", "--rounds", "x"}} {
		var exit *exec.ExitError
		if err := exec.Command(program, args...).Run(); !errors.As(err, &exit) || exit.ExitCode() != 2 {
			t.Errorf("bench %v: %v, want exit code 2", args, err)
		}
	}
}
